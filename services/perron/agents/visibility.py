"""Who may see an agent, who may manage it, and in which channels it may be used: for every path, here.

Seen means everything: its configuration may be read, and it may be used. What a person does not see does not
exist for it, also behind an alias or a handoff. A store that lists writes the same rule in SQL; a test holds
the two together.

What a newcomer gets wrong: what is stored is what the owner wants, and the plan never changes it. It is
narrowed each time it is read, by the entitlements of the call itself, so a plan that goes takes nothing away
for good (clause 2-share).
"""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from perron.chassis.passports import Passport

_ADMIN: Final = "ADMIN"
_SHARING: Final = "agent_sharing"
_CHANNELS: Final = "agent_channels"


class SharingMode(StrEnum):
    """With whom an agent is shared within its workspace, beside its owner and the admins."""

    WORKSPACE = "WORKSPACE"
    RESTRICTED = "RESTRICTED"


class Channel(StrEnum):
    """How an answer reaches a person."""

    API = "API"
    CHAT = "CHAT"


class Shared(Protocol):
    """What must be known of an agent to say who sees it."""

    @property
    def workspace_id(self) -> str:
        """The workspace that it belongs to."""

    @property
    def owner_member_id(self) -> str:
        """Its owner; empty where the workspace's admins own it."""

    @property
    def sharing_mode(self) -> SharingMode:
        """With whom it is shared, as stored."""


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What the plan gives; what it does not name, or names oddly, it does not give."""

    sharing: bool
    channels: frozenset[Channel]

    @classmethod
    def of(cls, entitlements: Mapping[str, str]) -> "Entitlements":
        """Reads the entitlements of a plan, by name."""
        return _read(entitlements.get(_SHARING, ""), entitlements.get(_CHANNELS, ""))


@functools.lru_cache(maxsize=256)
def _read(sharing: str, channels: str) -> Entitlements:
    """Reads two texts, which are the same for every person of a plan."""
    named = {one.strip() for one in channels.split(",")}
    return Entitlements(
        sharing=sharing == "workspace",
        channels=frozenset(one for one in Channel if one.value.lower() in named),
    )


class Person(NamedTuple):
    """An authorized user in one call, within the workspace of its key."""

    organization_id: str
    workspace_id: str
    member_id: str
    is_admin: bool
    entitlements: Entitlements


def person_of(passport: Passport) -> Person:
    """Returns the person of a passport. An organization's admin is one in every workspace of it."""
    return Person(
        organization_id=passport.organization_id,
        workspace_id=passport.workspace_id,
        member_id=passport.member_id,
        is_admin=_ADMIN in (passport.workspace_role, passport.organization_role),
        entitlements=Entitlements.of(passport.entitlements),
    )


def sees(person: Person, agent: Shared, *, is_named: bool) -> bool:
    """Tells whether the agent exists for a person; `is_named`: it is among those named with RESTRICTED."""
    if person.workspace_id != agent.workspace_id:
        return False
    if manages(person, agent):
        return True
    return person.entitlements.sharing and (agent.sharing_mode is SharingMode.WORKSPACE or is_named)


def manages(person: Person, agent: Shared) -> bool:
    """Tells whether a person may change, share, publish and delete the agent: its owner, and admins."""
    if person.workspace_id != agent.workspace_id:
        return False
    return person.is_admin or (bool(person.member_id) and person.member_id == agent.owner_member_id)


def effective_mode(mode: SharingMode, entitlements: Entitlements) -> SharingMode:
    """Returns the sharing under the plan: RESTRICTED where it has none; the named see nothing then."""
    return mode if entitlements.sharing else SharingMode.RESTRICTED


def effective_channels(channels: Collection[Channel], entitlements: Entitlements) -> frozenset[Channel]:
    """Returns where an agent may be used under the plan."""
    return entitlements.channels.intersection(channels)
