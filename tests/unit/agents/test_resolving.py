"""What a name means to a person in a channel, on both dialects: the rule of `visibility`, batch for batch."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from perron.agents import tables
from perron.agents.model import AgentState
from perron.agents.resolve_calls import read_content
from perron.agents.resolve_store import ResolveStore
from perron.agents.resolving import ResolveCommand, Resolved, Resolving
from perron.agents.sharing_store import SharingStore
from perron.agents.visibility import Channel, Entitlements, Person, SharingMode, sees
from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.ids import new_id
from perron.chassis.testing import BOTH
from tests.unit.agents.workshop import (
    ELSEWHERE,
    EVERYTHING,
    NAMED,
    ORGANIZATION,
    OTHER,
    OWNER,
    WORKSPACE,
    Workshop,
    person,
)

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

NO_SHARING = Entitlements(sharing=False, channels=frozenset(Channel))
ONLY_API = Entitlements(sharing=True, channels=frozenset({Channel.API}))
R = SharingMode.RESTRICTED


@pytest.fixture
def workshop(database: Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


def wanted(agent: str, who: Person | None = None, channel: Channel = Channel.API) -> ResolveCommand:
    return ResolveCommand(agent, channel, who or person(), "passport")


async def resolve(workshop: Workshop, *commands: ResolveCommand) -> Sequence[Resolved | PerronError]:
    resolving = Resolving(workshop.seals, read_content)
    return await workshop.database.read(lambda tx: resolving.resolve(ResolveStore(tx), commands))


def reasons(outcomes: Sequence[Resolved | PerronError]) -> list[str]:
    return [one.reason if isinstance(one, PerronError) else "" for one in outcomes]


async def test_a_batch_answers_each_item_by_the_rule_of_visibility(workshop: Workshop) -> None:
    people = [
        person(member, is_admin=is_admin, entitlements=plan, workspace_id=where)
        for member, is_admin, plan, where in itertools.product(
            (OWNER, NAMED, OTHER), (False, True), (EVERYTHING, NO_SHARING), (WORKSPACE, ELSEWHERE)
        )
    ]
    made = [await workshop.make(mode=mode, named=[NAMED]) for mode in SharingMode]
    commands = [wanted(agent.agent_id, who) for agent in made for who in people]
    outcomes = await resolve(workshop, *commands)
    for (agent, who), outcome in zip(itertools.product(made, people), outcomes, strict=True):
        expected = "" if sees(who, agent, is_named=who.member_id == NAMED) else "RESOURCE_NOT_FOUND"
        assert reasons([outcome]) == [expected]
    assert set(reasons(outcomes)) == {"", "RESOURCE_NOT_FOUND"}


async def test_what_one_may_not_use_reads_like_what_never_was(workshop: Workshop) -> None:
    hidden = await workshop.make(mode=R)
    deleted = await workshop.make(state=AgentState.DELETED)
    await workshop.alias("hidden", hidden)
    names = [new_id("agt"), "agent:none", hidden.agent_id, "agent:hidden", deleted.agent_id, "small", "agt_"]
    outcomes = await resolve(workshop, *map(wanted, names))
    assert {str(one) for one in outcomes} == {"the agent does not exist"}
    assert set(reasons(outcomes)) == {"RESOURCE_NOT_FOUND"}
    disabled = await workshop.make(mode=R, state=AgentState.DISABLED, channels=frozenset())
    outcomes = await resolve(workshop, wanted(disabled.agent_id), wanted(disabled.agent_id, person(OWNER)))
    assert reasons(outcomes) == ["RESOURCE_NOT_FOUND", "AGENT_DISABLED"]


@pytest.mark.parametrize("workspace_id", ["", WORKSPACE])
async def test_what_is_buried_is_resolved_no_more_though_not_erased_yet(
    workshop: Workshop, workspace_id: str
) -> None:
    agent, other = await workshop.make(), await workshop.make(workspace_id=ELSEWHERE)
    await workshop.database.write(
        lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION, workspace_id=workspace_id)
    )
    outcomes = await resolve(
        workshop, wanted(agent.agent_id), wanted(other.agent_id, person(workspace_id=ELSEWHERE))
    )
    assert reasons(outcomes) == ["RESOURCE_NOT_FOUND", "" if workspace_id else "RESOURCE_NOT_FOUND"]


async def test_an_alias_means_its_version_and_zero_the_latest_of_now(workshop: Workshop) -> None:
    agent = await workshop.make(versions=3)
    await workshop.alias("pinned", agent, 2)
    await workshop.alias("newest", agent)
    outcomes = await resolve(
        workshop,
        wanted("agent:pinned"),
        wanted("agent:newest"),
        wanted(agent.agent_id),
        wanted("agent:pinned", person(workspace_id=ELSEWHERE)),
    )
    versions = [one.pin[1] for one in outcomes if isinstance(one, Resolved)]
    assert versions == [2, 3, 3]
    assert isinstance(outcomes[0], Resolved)
    assert b"be brief 2" in outcomes[0].content.configuration
    assert reasons(outcomes)[-1] == "RESOURCE_NOT_FOUND"


async def test_the_channel_is_what_the_agent_and_the_plan_both_give(workshop: Workshop) -> None:
    both = await workshop.make()
    chat = await workshop.make(channels=frozenset({Channel.CHAT}))
    outcomes = await resolve(
        workshop,
        wanted(both.agent_id, person(entitlements=ONLY_API)),
        wanted(both.agent_id, person(entitlements=ONLY_API), Channel.CHAT),
        wanted(chat.agent_id, person(entitlements=ONLY_API)),
        wanted(chat.agent_id, person(), Channel.CHAT),
    )
    assert reasons(outcomes) == ["", "AGENT_NOT_PUBLISHED", "AGENT_NOT_PUBLISHED", ""]
    assert [one.metadata for one in outcomes if isinstance(one, PerronError)] == [
        {"channel": "CHAT", "because": "plan"},
        {"channel": "API", "because": "agent"},
    ]


async def test_handoffs_are_those_that_the_person_may_use_in_the_channel(workshop: Workshop) -> None:
    targets = {
        "open": await workshop.make(),
        "restricted": await workshop.make(mode=R),
        "naming": await workshop.make(mode=R, named=[NAMED]),
        "disabled": await workshop.make(state=AgentState.DISABLED),
        "deleted": await workshop.make(state=AgentState.DELETED),
        "api": await workshop.make(channels=frozenset({Channel.API})),
        "elsewhere": await workshop.make(workspace_id=ELSEWHERE),
    }
    names = {agent.agent_id: name for name, agent in targets.items()}
    agent = await workshop.make(handoffs=list(names))

    async def reached(who: Person, channel: Channel = Channel.API) -> list[str]:
        (found,) = await resolve(workshop, wanted(agent.agent_id, who, channel))
        assert isinstance(found, Resolved)
        return [names[one] for one in found.handoffs]

    assert await reached(person(OTHER)) == ["open", "api"]
    assert await reached(person(NAMED)) == ["open", "naming", "api"]
    assert await reached(person(OWNER)) == ["open", "restricted", "naming", "api"]
    assert await reached(person(OTHER), Channel.CHAT) == ["open"]
    assert await reached(person(OWNER, entitlements=NO_SHARING)) == ["open", "restricted", "naming", "api"]


async def test_a_third_party_is_unacknowledged_until_the_workspace_says_so(workshop: Workshop) -> None:
    agent = await workshop.make(third_parties=("web_search", "connector:maps"))
    (found,) = await resolve(workshop, wanted(agent.agent_id))
    assert isinstance(found, Resolved)
    assert found.unacknowledged == found.third_parties == ("web_search", "connector:maps")
    for where, party in ((WORKSPACE, "web_search"), (ELSEWHERE, "connector:maps")):
        await workshop.database.write(
            lambda tx, where=where, party=party: SharingStore(tx).acknowledge(where, party, OWNER)
        )
    (found,) = await resolve(workshop, wanted(agent.agent_id))
    assert isinstance(found, Resolved)
    assert found.unacknowledged == ("connector:maps",)


async def test_an_item_whose_key_is_lost_spoils_no_other(workshop: Workshop) -> None:
    lost, kept = await workshop.make(), await workshop.make(workspace_id=ELSEWHERE)
    key = await workshop.database.read(
        lambda tx: tx.execute(
            tables.workspace_keys.select().where(tables.workspace_keys.c.workspace_id == WORKSPACE)
        ).one()
    )
    workshop.vault.drop([key.id])
    outcomes = await resolve(
        workshop, wanted(lost.agent_id), wanted(kept.agent_id, person(workspace_id=ELSEWHERE))
    )
    assert reasons(outcomes) == ["STORE_UNAVAILABLE", ""]


@pytest.mark.parametrize(("size", "aliases"), [(1, False), (64, False), (64, True)])
async def test_a_batch_costs_a_handful_of_statements_and_one_key_each_whatever_its_size(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, size: int, aliases: bool
) -> None:
    target = await workshop.make()
    made = [
        await workshop.make(handoffs=[target.agent_id], third_parties=("web_search",)) for _ in range(size)
    ]
    if aliases:
        await workshop.alias("one", made[0])
    statements: list[str] = []
    keys: list[str] = []
    read_key = workshop.vault.read

    def counted(key_id: str) -> Any:
        keys.append(key_id)
        return read_key(key_id)

    monkeypatch.setattr(workshop.vault, "read", counted)
    resolving = Resolving(workshop.seals, read_content)
    names = [one.agent_id for one in made[:-1]] + ["agent:one" if aliases else made[-1].agent_id]

    def work(tx: Any) -> Any:
        execute = tx.driver_execute

        class Counting:
            dialect = tx.dialect

            def driver_execute(self, sql: str, parameters: Any) -> Any:
                statements.append(sql)
                return execute(sql, parameters)

        return resolving.resolve(ResolveStore(Counting()), list(map(wanted, names)))  # type: ignore[arg-type]

    outcomes = await workshop.database.read(work)
    assert reasons(outcomes) == [""] * size
    assert len(statements) == 4 + aliases
    assert len(keys) == 1


async def test_what_is_resolved_is_never_written_out_with_its_configuration(workshop: Workshop) -> None:
    agent = await workshop.make()
    (one,) = await resolve(workshop, wanted(agent.agent_id)._replace(passport="eyJ.secret"))
    assert isinstance(one, Resolved)
    assert b"be brief" in one.content.configuration
    assert "be brief" not in f"{one} {one!r}"
    assert "secret" not in f"{one} {one!r}"
