"""Grants: what a key may do, as a lattice in which a key is never above those that minted it.

Two grants have a meet, the widest grant within both. A key's effective grant is the meet of its own with
those of all its ancestors, so narrowing one narrows all below it. None stands for "any"; an empty set for
"none", which is not the same.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Grant:
    """Scopes, models, networks in CIDR form, and the instant of expiry in microseconds."""

    scopes: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    networks: frozenset[str] | None = None
    expire_us: int | None = None

    def meet(self, other: "Grant") -> "Grant":
        """Returns the widest grant that is within both."""
        return Grant(
            scopes=self.scopes & other.scopes,
            models=_meet_sets(self.models, other.models),
            networks=_meet_networks(self.networks, other.networks),
            expire_us=_earlier(self.expire_us, other.expire_us),
        )

    def exceeds(self, bound: "Grant") -> str:
        """Names the first field in which this grant is wider than `bound`; empty where it is within."""
        if not self.scopes <= bound.scopes:
            return "scopes"
        if bound.models is not None and (self.models is None or not self.models <= bound.models):
            return "allowed_models"
        if bound.networks is not None and (
            self.networks is None or not _networks_within(self.networks, bound.networks)
        ):
            return "allowed_networks"
        if _earlier(self.expire_us, bound.expire_us) != self.expire_us:
            return "expire_time"
        return ""

    def expired(self, now_us: int) -> bool:
        """Says whether the grant has run out: at its very instant it has."""
        return self.expire_us is not None and self.expire_us <= now_us

    def admits_peer(self, peer: str) -> bool:
        """Says whether calls may come from this address; from one that is not known, only where any may."""
        if self.networks is None:
            return True
        address = _address(peer)
        return address is not None and any(address in parse_network(network) for network in self.networks)


NOTHING: Final = Grant()
"""The grant of those whose rights are not scopes: operators and services."""


@lru_cache(maxsize=4096)
def parse_network(text: str) -> Network:
    """Reads a network in CIDR form. Raises ValueError for anything else, host bits included."""
    return ip_network(text)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 callers as ::ffff:a.b.c.d; they are within IPv4 networks.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _meet_sets(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None:
        return other
    return one if other is None else one & other


def _meet_networks(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return _meet_sets(one, other)
    return frozenset(a for a in one if _networks_within({a}, other)) | frozenset(
        b for b in other if _networks_within({b}, one)
    )


def _networks_within(inner: frozenset[str] | set[str], outer: frozenset[str]) -> bool:
    return all(any(_is_subnet(parse_network(a), parse_network(b)) for b in outer) for a in inner)


def _is_subnet(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
