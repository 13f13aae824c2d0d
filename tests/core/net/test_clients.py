"""Whose address counts: nobody is believed who is not a trusted proxy."""

from ipaddress import ip_network

import pytest
from django.test import RequestFactory

from core.net import clients


@pytest.fixture(autouse=True)
def proxies(settings) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def address(peer: str, forwarded: str | None = None) -> str:
    extra = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR=peer, **extra)
    return clients.address_of(request)


def test_a_stranger_is_who_the_connection_comes_from_whatever_it_says() -> None:
    said = [address("203.0.113.7", f"198.51.100.{number}") for number in range(100)]
    assert set(said) == {"203.0.113.7"}


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),  # the client wrote the first
        ("203.0.113.7, 10.0.0.2", "203.0.113.7"),  # two proxies
        ("1.1.1.1,203.0.113.7,10.0.0.2,10.0.0.3", "203.0.113.7"),
        ("10.0.0.4, 10.0.0.2", "10.0.0.4"),  # a client inside of the proxies' network
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("1.1.1.1, nonsense", "10.0.0.1"),
        ("1.1.1.1, 203.0.113.7:4711", "10.0.0.1"),
    ],
)
def test_trusted_proxies_are_believed_from_the_last_to_the_first(forwarded: str, expected: str) -> None:
    assert address("10.0.0.1", forwarded) == expected


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "fd00::1"])
def test_a_proxy_is_known_in_every_spelling_of_its_address(peer: str) -> None:
    assert address(peer, "203.0.113.7") == "203.0.113.7"


def test_a_socket_without_an_address_gives_none_and_is_no_proxy() -> None:
    assert address("", "203.0.113.7") == ""


def test_what_strangers_say_of_their_way_is_forgotten() -> None:
    said = dict.fromkeys(clients.FORWARDED, "said")
    stranger, proxy = {"REMOTE_ADDR": "203.0.113.7", **said}, {"REMOTE_ADDR": "10.0.0.1", **said}
    clients.forget_untrusted(stranger)
    clients.forget_untrusted(proxy)
    assert stranger == {"REMOTE_ADDR": "203.0.113.7"}
    assert proxy == {"REMOTE_ADDR": "10.0.0.1", **said}
