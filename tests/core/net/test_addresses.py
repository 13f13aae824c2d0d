"""Which addresses the two policies allow."""

from ipaddress import ip_address, ip_network

import pytest

from core.net import addresses
from core.net.addresses import Policy
from core.net.errors import AddressRefused

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
OFFICE = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%lo",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
]
INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "fd12:3456::1",
    "fec0::1",
    "2001:db8::1",
    "2001::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2002:808:808::1",
]
PUBLIC = ["8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "::ffff:8.8.8.8"]


def allows(policy: Policy, text: str) -> bool:
    return policy.allows(ip_address(text))


@pytest.mark.parametrize("text", NEVER)
def test_no_setting_opens_the_way_to_metadata_and_link_local_addresses(text: str) -> None:
    assert not allows(Policy("X", EVERYWHERE, allows_public=True), text)


@pytest.mark.parametrize("text", INSIDE)
def test_the_internet_does_not_include_what_is_inside(text: str) -> None:
    assert not allows(Policy("X", (), allows_public=True), text)


@pytest.mark.parametrize("text", INSIDE)
def test_an_operator_can_open_what_is_inside(text: str) -> None:
    assert allows(Policy("X", EVERYWHERE, allows_public=False), text)


@pytest.mark.parametrize("text", PUBLIC)
def test_the_internet_is_for_external_calls_alone(text: str) -> None:
    assert allows(Policy("X", (), allows_public=True), text)
    assert not allows(Policy("X", OFFICE, allows_public=False), text)


def test_a_listed_network_is_allowed_and_its_neighbour_is_not() -> None:
    policy = Policy("X", OFFICE, allows_public=False)
    assert [allows(policy, text) for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::7")] == [True] * 3
    assert [allows(policy, text) for text in ("10.2.0.1", "127.0.0.1", "64:ff9b::a01:203")] == [False] * 3


@pytest.mark.parametrize("host", ["127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "0"])
def test_odd_spellings_of_an_address_are_read_as_the_system_reads_them(host: str) -> None:
    with pytest.raises(AddressRefused, match="X allows"):
        addresses.reachable(host, 80, Policy("X", (), allows_public=True))


def test_of_several_addresses_those_that_are_allowed_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (text, 80)) for text in ("169.254.169.254", "10.1.2.3", "10.2.2.3")]
    monkeypatch.setattr(addresses, "resolve", lambda *_: found)
    assert addresses.reachable("gpu1", 80, Policy("X", OFFICE, allows_public=False)) == [found[1]]


def test_a_refusal_names_the_setting_and_keeps_the_address_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda _, port: [(0, 0, 0, "", ("10.9.8.7", port))])
    with pytest.raises(AddressRefused) as refusal:
        addresses.reachable("intranet", 80, addresses.external())
    assert str(refusal.value) == "intranet is in no network that SUTAZAI_WEBHOOK_NETWORKS allows"
    assert "10.9.8.7" in caplog.text
