"""Where outgoing calls may go: the guard against being sent to addresses that only we can reach (SSRF).

1. A connection resolves its target's name once, by `resolve`. That also reads every odd spelling (0x7f.1, 2130706433,
   127.1) as the system's own connect would.
2. Each address found is held against a policy; those it does not allow are left out.
3. The connection goes to an address that was checked, never to the name, so a second answer of a name server
   (rebinding) changes nothing. Host header, SNI and certificate stay the name's.

Redirects are never followed (`core.net.http`), so there is no other way to another target.
"""

import logging
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings

from core.net.errors import AddressRefused

logger = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# Of socket.getaddrinfo: family, type, protocol, canonical name, socket address.
Found = tuple[Any, Any, int, str, tuple[Any, ...]]


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Nobody serves anything for us there, whatever a setting says: this host's own "any" address, link-local addresses,
# multicast, and the addresses at which clouds hand out their machines' credentials.
NEVER = _networks(
    "0.0.0.0/8",
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "169.254.0.0/16",  # link-local; AWS, Google Cloud, Azure and most others
    "192.0.0.192/32",  # Oracle Cloud
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "fd00:ec2::254/128",  # AWS
    "fd20:ce::254/128",  # Google Cloud
    "fe80::/10",
    "ff00::/8",
)
# Addresses of the internet, without those with another purpose.
# Source: IANA's special-purpose registries, https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",  # Teredo among others
    "2001:db8::/32",
    "2002::/16",  # 6to4
    "3fff::/20",
)
_PUBLIC_IPV6 = ip_network("2000::/3")
# IPv6 addresses whose last 32 bits are the IPv4 address that a gateway goes on to.
_WITH_IPV4_AT_THE_END = _networks("64:ff9b::/96", "::/96")
_6TO4 = ip_network("2002::/16")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a kind of call may reach. setting: the name under which an operator gives `networks`."""

    setting: str
    networks: tuple[Network, ...]
    allows_public: bool

    def allows(self, address: Address) -> bool:
        """True if the address, and the IPv4 address inside it if there is one, may be reached."""
        return all(self._allows(face) for face in faces(address))

    def _allows(self, address: Address) -> bool:
        if _is_in(address, NEVER):
            return False
        return _is_in(address, self.networks) or (self.allows_public and is_public(address))


def nodes() -> Policy:
    """Model servers: only networks that the operator trusts with them."""
    return Policy("SUTAZAI_NODE_NETWORKS", settings.NODE_NETWORKS, allows_public=False)


def external() -> Policy:
    """Addresses that people give us, as for webhooks: the internet, and nothing inside unless it is listed."""
    return Policy("SUTAZAI_WEBHOOK_NETWORKS", settings.WEBHOOK_NETWORKS, allows_public=True)


def identity() -> Policy:
    """The identity provider: the operator names its issuer, but the addresses in its answers are its own to choose."""
    return Policy("SUTAZAI_OIDC_NETWORKS", settings.OIDC_NETWORKS, allows_public=True)


def resolve(host: str, port: int) -> list[Found]:
    """Ask the system for a name's addresses. Tests replace this function; nothing else resolves names of targets.

    Raises OSError.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def reachable(host: str, port: int, policy: Policy) -> list[Found]:
    """Resolve a target, and return the addresses that a call under this policy may go to.

    Raises AddressRefused if there are addresses and none is allowed, and OSError. The error does not tell the
    addresses: whoever gave the name may have no business in knowing what it stands for here.
    """
    found = resolve(host, port)
    allowed = [item for item in found if policy.allows(ip_address(item[4][0]))]
    if found and not allowed:
        refused = ", ".join(sorted({str(item[4][0]) for item in found}))
        logger.warning("A call to %r was refused: %s is outside of %s.", host, refused, policy.setting)
        raise AddressRefused(f"{host} is in no network that {policy.setting} allows")
    return allowed


def is_public(address: Address) -> bool:
    """True for addresses of the internet; an IPv6 address that stands for an IPv4 one is judged by its faces."""
    if _is_in(address, NEVER) or _is_in(address, _NOT_PUBLIC):
        return False
    return address.version == 4 or address in _PUBLIC_IPV6


def faces(address: Address) -> list[Address]:
    """Return the addresses that a packet to this one may end at.

    ::ffff:10.0.0.1 is 10.0.0.1 and nothing else; 64:ff9b::a00:1 (NAT64) and 2002:a00:1:: (6to4) are themselves, and
    10.0.0.1 behind a gateway.
    """
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _6TO4:
        return [address, IPv4Address((int(address) >> 80) & 0xFFFFFFFF)]
    if int(address) > 1 and _is_in(address, _WITH_IPV4_AT_THE_END):  # :: and ::1 are no IPv4 addresses
        return [address, IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
