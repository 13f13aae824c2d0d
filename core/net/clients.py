"""Who asks: the address of a client, as far as anybody trustworthy has seen it.

Anybody can write X-Forwarded-For. What counts is who passed the request on: each proxy adds the address from which it
got the request, so the list is read from its end for as long as the speaker is one of SUTAZAI_TRUSTED_PROXIES.
"""

from collections.abc import Mapping, MutableMapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest

FORWARDED_FOR = "HTTP_X_FORWARDED_FOR"
# What proxies tell of a request, in the spelling of WSGI.
FORWARDED = (
    FORWARDED_FOR,
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
)


def address_of(request: HttpRequest) -> str:
    """Return the address of a request's client, as `address_in` does."""
    return address_in(request.META)


def address_in(meta: Mapping[str, Any]) -> str:
    """Return the client's address: the last one in the chain that is no trusted proxy, or else the first.

    In its canonical spelling, so that it can be counted by; "" where the server knows none (a Unix socket).
    meta: a request's, in the spelling of WSGI.
    """
    peer = _read(meta.get("REMOTE_ADDR", ""))
    if peer is None:
        return ""
    client = peer
    for text in reversed(meta.get(FORWARDED_FOR, "").split(",")):
        if not _is_trusted(client):
            break
        hop = _read(text)
        if hop is None:  # no proxy of ours wrote that; what stands left of it is worth no more
            break
        client = hop
    return str(client)


def forget_untrusted(meta: MutableMapping[str, Any]) -> None:
    """Drop what a request says of its way here, unless a trusted proxy says so."""
    if not _is_trusted(_read(meta.get("REMOTE_ADDR", ""))):
        for name in FORWARDED:
            meta.pop(name, None)


def _is_trusted(address: IPv4Address | IPv6Address | None) -> bool:
    return address is not None and any(address in network for network in settings.TRUSTED_PROXIES)


def _read(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, "[2001:db8::1]" and "::ffff:10.0.0.1" too; None for anything else."""
    try:
        address = ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
