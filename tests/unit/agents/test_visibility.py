"""Who sees, who manages, and where: the whole rule as tables."""

from dataclasses import dataclass

import pytest

from perron.agents import visibility
from perron.agents.visibility import Channel, Entitlements, Person, SharingMode
from perron.chassis.passports import Passport

OURS, THEIRS = "ws_00000000000000000000000001", "ws_00000000000000000000000002"
OWNER, OTHER = "mem_00000000000000000000000001", "mem_00000000000000000000000002"
WITH_SHARING = Entitlements(sharing=True, channels=frozenset(Channel))
WITHOUT = Entitlements(sharing=False, channels=frozenset(Channel))


@dataclass(frozen=True)
class Agent:
    sharing_mode: SharingMode
    workspace_id: str = OURS
    owner_member_id: str = OWNER


def somebody(
    member_id: str = OTHER,
    *,
    is_admin: bool = False,
    entitlements: Entitlements = WITH_SHARING,
    workspace_id: str = OURS,
) -> Person:
    return Person("org_1", workspace_id, member_id, is_admin, entitlements)


W, R = SharingMode.WORKSPACE, SharingMode.RESTRICTED
TABLE = [
    # who, named, mode, plan, sees, manages
    *[("owner", named, mode, plan, True, True) for named in (0, 1) for mode in (W, R) for plan in (0, 1)],
    *[("admin", named, mode, plan, True, True) for named in (0, 1) for mode in (W, R) for plan in (0, 1)],
    ("member", 0, W, 1, True, False),
    ("member", 0, R, 1, False, False),
    ("member", 1, W, 1, True, False),
    ("member", 1, R, 1, True, False),
    *[("member", named, mode, 0, False, False) for named in (0, 1) for mode in (W, R)],
    *[
        (who, named, mode, plan, False, False)
        for who in ("elsewhere", "owner elsewhere", "admin elsewhere")
        for named in (0, 1)
        for mode in (W, R)
        for plan in (0, 1)
    ],
]


@pytest.mark.parametrize(("who", "named", "mode", "plan", "sees", "manages"), TABLE)
def test_whoever_a_row_names_sees_and_manages_what_it_says(
    who: str, named: int, mode: SharingMode, plan: int, sees: bool, manages: bool
) -> None:
    person = somebody(
        OWNER if who.startswith("owner") else OTHER,
        is_admin=who.startswith("admin"),
        entitlements=WITH_SHARING if plan else WITHOUT,
        workspace_id=THEIRS if who.endswith("elsewhere") else OURS,
    )
    agent = Agent(mode)
    assert visibility.sees(person, agent, is_named=bool(named)) is sees
    assert visibility.manages(person, agent) is manages


def test_what_the_admins_own_is_not_owned_by_a_key_without_member() -> None:
    assert not visibility.manages(somebody(""), Agent(R, owner_member_id=""))
    assert visibility.manages(somebody("", is_admin=True), Agent(R, owner_member_id=""))


@pytest.mark.parametrize(
    ("given", "sharing", "channels"),
    [
        ({}, False, set()),
        ({"agent_sharing": "workspace", "agent_channels": "api,chat"}, True, {Channel.API, Channel.CHAT}),
        ({"agent_sharing": "workspace", "agent_channels": "api"}, True, {Channel.API}),
        ({"agent_sharing": "none", "agent_channels": ""}, False, set()),
        ({"agent_sharing": "WORKSPACE ", "agent_channels": "API,telephone"}, False, set()),
        (
            {"agent_sharing": "everybody", "agent_channels": " chat , api "},
            False,
            {Channel.API, Channel.CHAT},
        ),
    ],
)
def test_an_entitlement_that_is_absent_or_unknown_gives_nothing(
    given: dict[str, str], sharing: bool, channels: set[Channel]
) -> None:
    assert Entitlements.of(given) == Entitlements(sharing, frozenset(channels))


def test_the_plan_narrows_what_is_stored_and_adds_nothing() -> None:
    assert visibility.effective_mode(W, WITHOUT) is R
    assert visibility.effective_mode(W, WITH_SHARING) is W
    assert visibility.effective_mode(R, WITH_SHARING) is R
    only_api = Entitlements(sharing=True, channels=frozenset({Channel.API}))
    assert visibility.effective_channels({Channel.CHAT, Channel.API}, only_api) == {Channel.API}
    assert visibility.effective_channels({Channel.CHAT}, only_api) == frozenset()


@pytest.mark.parametrize(
    ("workspace_role", "organization_role", "is_admin"),
    [
        ("ADMIN", "MEMBER", True),
        ("MEMBER", "ADMIN", True),
        ("", "ADMIN", True),
        ("MEMBER", "MEMBER", False),
        ("MEMBER", "AUDITOR", False),
        ("", "", False),
    ],
)
def test_admins_of_workspace_and_organization_are_admins_and_nobody_else_is(
    workspace_role: str, organization_role: str, is_admin: bool
) -> None:
    passport = Passport(
        organization_id="org_1",
        workspace_id=OURS,
        member_id=OTHER,
        key_id="key_1",
        organization_role=organization_role,
        workspace_role=workspace_role,
        scopes=frozenset(),
        plan="free",
        terms_class="FREE",
        tier="free",
        entitlements={"agent_sharing": "workspace"},
        subscription_id="",
        documents={},
        allowed_models=(),
        as_of_us=1,
    )
    assert visibility.person_of(passport) == somebody(
        is_admin=is_admin, entitlements=Entitlements(sharing=True, channels=frozenset())
    )
