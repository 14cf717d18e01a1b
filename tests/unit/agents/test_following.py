"""What agents makes of identity's events, on both dialects; nothing of it ever widens who sees an agent."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from perron.agents import tables
from perron.agents.following import follow_identity
from perron.agents.peers import Plans
from perron.agents.plan_changes import PlanChanges
from perron.agents.plan_store import PlanStore
from perron.agents.sharing_store import SharingStore
from perron.agents.visibility import Channel, Entitlements, SharingMode
from perron.chassis.database import Database
from perron.chassis.errors import NotFound, Unavailable
from perron.chassis.events import Event
from perron.chassis.leases import LeaseLostError, Leases
from perron.chassis.testing import BOTH
from tests.unit.agents.workshop import ELSEWHERE, EVERYTHING, NAMED, ORGANIZATION, OTHER, WORKSPACE, Workshop

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

R = SharingMode.RESTRICTED
FREE = Entitlements(sharing=True, channels=frozenset({Channel.API}))
NOTHING = Entitlements(sharing=False, channels=frozenset())
OTHERS = "org_00000000000000000000000002"


class PlansOfNow(Plans):
    """Answers what a test makes true: the only thing here that stands for another process."""

    def __init__(self) -> None:
        self.given: dict[str, Entitlements] = {}
        self.asked: list[Sequence[str]] = []
        self.answers = True

    async def entitlements(self, workspace_ids: Sequence[str]) -> dict[str, Entitlements]:
        self.asked.append(tuple(workspace_ids))
        if not self.answers:
            raise Unavailable("PEER_UNAVAILABLE", "identity does not answer")
        return {one: self.given[one] for one in workspace_ids if one in self.given}


@pytest.fixture
def workshop(database: Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


@pytest.fixture
def plans() -> PlansOfNow:
    return PlansOfNow()


async def follow(database: Database, kind: str, workspace_id: str = "", resource_id: str = "") -> None:
    event = Event(1, kind, 1, ORGANIZATION, workspace_id, resource_id)
    await database.write(lambda tx: follow_identity(tx, event))


async def look(database: Database, plans: Plans) -> bool:
    lease = await Leases(database).acquire("plans")
    assert lease is not None
    try:
        return await PlanChanges(database, plans).look(lease)
    finally:
        await Leases(database).release(lease)


async def told(database: Database) -> list[str]:
    return await database.read(
        lambda tx: list(tx.execute(text("SELECT kind FROM events ORDER BY number")).scalars())
    )


async def remember(
    database: Database, entitlements: Entitlements, organization_id: str = ORGANIZATION
) -> None:
    await database.write(lambda tx: PlanStore(tx).remember(organization_id, entitlements))


async def named(database: Database, agent_id: str) -> tuple[str, ...]:
    return await database.read(lambda tx: SharingStore(tx).members_named(agent_id))


async def test_a_member_who_leaves_is_named_nowhere_and_restricted_stays_restricted(
    workshop: Workshop,
) -> None:
    alone = await workshop.make(mode=R, named=[NAMED])
    together = await workshop.make(mode=R, named=[NAMED, OTHER])
    elsewhere = await workshop.make(mode=R, named=[NAMED], workspace_id=ELSEWHERE)
    untouched = await workshop.make(mode=R, named=[OTHER])
    for _ in range(2):  # an event that is met again does no harm
        await follow(workshop.database, "member.removed", WORKSPACE, NAMED)
    assert await named(workshop.database, alone.agent_id) == ()
    assert await named(workshop.database, together.agent_id) == (OTHER,)
    assert await named(workshop.database, elsewhere.agent_id) == (NAMED,)
    found = await workshop.database.read(
        lambda tx: SharingStore(tx).agents([alone.agent_id, together.agent_id, untouched.agent_id])
    )
    assert {agent.sharing_mode for agent in found.values()} == {R}
    assert [found[one.agent_id].revision for one in (alone, together, untouched)] == [2, 2, 1]


async def test_a_member_who_leaves_the_organization_is_named_in_none_of_its_workspaces(
    workshop: Workshop,
) -> None:
    made = [await workshop.make(mode=R, named=[NAMED], workspace_id=one) for one in (WORKSPACE, ELSEWHERE)]
    await follow(workshop.database, "member.removed", "", NAMED)
    assert [await named(workshop.database, one.agent_id) for one in made] == [(), ()]


@pytest.mark.parametrize(
    ("kind", "workspace_id"), [("workspace.deleted", WORKSPACE), ("organization.terminated", "")]
)
async def test_nothing_is_written_for_what_is_dead(workshop: Workshop, kind: str, workspace_id: str) -> None:
    await follow(workshop.database, kind, workspace_id)
    with pytest.raises(NotFound):
        await workshop.database.write(lambda tx: SharingStore(tx).refuse_buried(ORGANIZATION, WORKSPACE))


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (EVERYTHING, FREE, ["agents.narrowed"]),
        (FREE, EVERYTHING, ["agents.restored"]),
        (FREE, NOTHING, ["agents.narrowed"]),
        (NOTHING, FREE, ["agents.restored"]),
        (FREE, FREE, []),
        (
            Entitlements(sharing=True, channels=frozenset({Channel.API})),
            Entitlements(sharing=True, channels=frozenset({Channel.CHAT})),
            ["agents.narrowed", "agents.restored"],
        ),
    ],
)
async def test_a_change_of_plan_is_told_where_entitlements_really_changed(
    workshop: Workshop,
    plans: PlansOfNow,
    before: Entitlements,
    after: Entitlements,
    events: list[str],
) -> None:
    await workshop.make()
    await remember(workshop.database, before)
    plans.given[WORKSPACE] = after
    await look(workshop.database, plans)
    assert plans.asked == []  # nothing was heard of
    await follow(workshop.database, "organization.plan_changed")
    await follow(workshop.database, "organization.plan_changed")
    await look(workshop.database, plans)
    await look(workshop.database, plans)
    assert await told(workshop.database) == events
    assert len(plans.asked) == 1


async def test_while_identity_is_silent_a_change_waits(workshop: Workshop, plans: PlansOfNow) -> None:
    await workshop.make()
    await remember(workshop.database, EVERYTHING)
    await follow(workshop.database, "organization.plan_changed")
    plans.answers = False
    with pytest.raises(Unavailable):
        await look(workshop.database, plans)
    plans.answers, plans.given[WORKSPACE] = True, FREE
    await look(workshop.database, plans)
    assert await told(workshop.database) == ["agents.narrowed"]


async def test_a_change_heard_of_while_identity_answers_is_looked_at_too(
    workshop: Workshop, plans: PlansOfNow
) -> None:
    await workshop.make()
    await remember(workshop.database, EVERYTHING)
    await follow(workshop.database, "organization.plan_changed")

    class ChangingMeanwhile(PlansOfNow):
        async def entitlements(self, workspace_ids: Sequence[str]) -> dict[str, Entitlements]:
            await follow(workshop.database, "organization.plan_changed")
            return {WORKSPACE: FREE}

    await look(workshop.database, ChangingMeanwhile())
    plans.given[WORKSPACE] = EVERYTHING
    await look(workshop.database, plans)
    assert await told(workshop.database) == ["agents.narrowed", "agents.restored"]


async def test_identity_is_asked_by_a_workspace_that_lives(workshop: Workshop, plans: PlansOfNow) -> None:
    for where in (WORKSPACE, ELSEWHERE):
        await workshop.make(workspace_id=where)
    await remember(workshop.database, EVERYTHING)
    await follow(workshop.database, "organization.plan_changed")
    plans.given[ELSEWHERE] = FREE
    await look(workshop.database, plans)  # identity knows the first no more, and its event is on its way
    assert await told(workshop.database) == []
    await follow(workshop.database, "workspace.deleted", WORKSPACE)
    await look(workshop.database, plans)
    assert plans.asked == [(WORKSPACE,), (ELSEWHERE,)]
    assert await told(workshop.database) == ["agents.narrowed"]


async def test_where_no_workspace_is_left_nothing_is_asked_or_told(
    workshop: Workshop, plans: PlansOfNow
) -> None:
    await workshop.make()
    await remember(workshop.database, EVERYTHING)
    await follow(workshop.database, "organization.plan_changed")
    await follow(workshop.database, "organization.terminated")
    await look(workshop.database, plans)
    assert await told(workshop.database) == []
    assert [one for one in plans.asked if one] == []
    assert await workshop.database.read(lambda tx: PlanStore(tx).heard(10)) == []


async def test_who_has_lost_the_lease_tells_nothing(workshop: Workshop, plans: PlansOfNow) -> None:
    await workshop.make()
    await remember(workshop.database, EVERYTHING)
    await follow(workshop.database, "organization.plan_changed")
    plans.given[WORKSPACE] = FREE
    lost = await Leases(workshop.database, holder="one").acquire("plans")
    assert lost is not None
    await Leases(workshop.database).release(lost)
    with pytest.raises(LeaseLostError):
        await PlanChanges(workshop.database, plans).look(lost)
    assert await told(workshop.database) == []


async def test_what_is_known_is_not_forgotten_when_another_agent_is_made(workshop: Workshop) -> None:
    await remember(workshop.database, FREE)
    await remember(workshop.database, EVERYTHING)
    await remember(workshop.database, NOTHING, OTHERS)
    rows = await workshop.database.read(lambda tx: tx.execute(tables.plan_entitlements.select()).all())
    found: Mapping[str, tuple[bool, str]] = {
        row.organization_id: (bool(row.sharing), row.channels) for row in rows
    }
    assert found == {ORGANIZATION: (True, "API"), OTHERS: (False, "")}
