"""Sharing and acknowledgements in the store, on both dialects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from perron.agents import sharing, third_parties
from perron.agents.model import Agent
from perron.agents.sharing import SetCommand
from perron.agents.sharing_store import SharingStore
from perron.agents.visibility import Person, SharingMode
from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import Aborted, NotFound, PermissionDenied, PerronError
from perron.chassis.idempotency import IdempotentRequest
from perron.chassis.interceptors.access import Call
from perron.chassis.testing import BOTH, customer_call
from tests.unit.agents.workshop import NAMED, ORGANIZATION, OTHER, OWNER, WORKSPACE, Workshop, person

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

R, W = SharingMode.RESTRICTED, SharingMode.WORKSPACE
CALL = customer_call(organization_id=ORGANIZATION)
AGAIN = replace(CALL, identity=IdempotentRequest(CALL.caller.key_id, CALL.method, b"r" * 16, b"d" * 32))


@pytest.fixture
def workshop(database: Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


async def share(
    workshop: Workshop,
    agent: Agent,
    mode: SharingMode,
    *named: str,
    who: Person | None = None,
    call: Call = CALL,
    etag: str = "",
) -> sharing.Sharing:
    command = SetCommand(agent.agent_id, mode, named, etag)
    return await workshop.database.write(
        lambda tx: sharing.set_sharing(SharingStore(tx), call, who or person(OWNER), command)
    )


async def count(workshop: Workshop, table: str) -> int:
    found: int = await workshop.database.read(
        lambda tx: tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    )
    return found


async def test_a_change_of_sharing_is_one_entry_one_event_and_another_etag(workshop: Workshop) -> None:
    agent = await workshop.make(named=[OTHER])
    stored = await share(workshop, agent, R, NAMED, etag=agent.etag)
    assert (stored.agent.sharing_mode, stored.member_ids) == (R, (NAMED,))
    assert stored.agent.etag != agent.etag
    assert await count(workshop, "events") == await count(workshop, "audit_entries") == 1
    with pytest.raises(Aborted):
        await share(workshop, agent, W, etag=agent.etag)
    kept = await share(workshop, agent, W)
    assert (kept.agent.sharing_mode, kept.member_ids) == (W, (NAMED,))


async def test_a_repetition_changes_nothing_and_reads_what_stands_there_now(workshop: Workshop) -> None:
    agent = await workshop.make()
    await share(workshop, agent, R, NAMED, call=AGAIN)
    await share(workshop, agent, R, OTHER)
    assert (await share(workshop, agent, R, NAMED, call=AGAIN)).member_ids == (OTHER,)


@pytest.mark.parametrize(("who", "refusal"), [(NAMED, PermissionDenied), (OTHER, NotFound)])
async def test_what_is_refused_changes_nothing(
    workshop: Workshop, who: str, refusal: type[PerronError]
) -> None:
    agent = await workshop.make(mode=R, named=[NAMED])
    with pytest.raises(refusal):
        await share(workshop, agent, W, who=person(who), call=AGAIN)
    found: Any = await workshop.database.read(
        lambda tx: sharing.find(SharingStore(tx), person(OWNER), agent.agent_id)
    )
    assert (found.agent.revision, found.agent.sharing_mode) == (1, R)
    assert await count(workshop, "idempotency") == await count(workshop, "events") == 0


async def test_nothing_is_shared_or_acknowledged_in_a_workspace_that_is_buried(workshop: Workshop) -> None:
    agent = await workshop.make()
    await workshop.database.write(
        lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION, workspace_id=WORKSPACE)
    )
    with pytest.raises(NotFound):
        await share(workshop, agent, R)
    with pytest.raises(NotFound):
        await workshop.database.write(
            lambda tx: third_parties.acknowledge(SharingStore(tx), CALL, "web_search")
        )


async def test_an_acknowledgement_is_given_once_listed_by_bytes_and_taken_back_once(
    workshop: Workshop,
) -> None:
    parties = ["connector:a", "connector:a-b", "connector:a.b", "connector:a_b", "connector:ab", "web_search"]
    for party in [*reversed(parties), parties[0]]:
        made = await workshop.database.write(
            lambda tx, party=party: third_parties.acknowledge(SharingStore(tx), CALL, party)
        )
        assert (made.third_party, made.member_id) == (party, CALL.caller.member_id)
    assert await count(workshop, "events") == len(parties)
    found = await workshop.database.read(
        lambda tx: SharingStore(tx).acknowledgements(WORKSPACE, parties[0], 4)
    )
    assert [one.third_party for one in found] == parties[1:5]
    await workshop.database.write(lambda tx: third_parties.withdraw(SharingStore(tx), AGAIN, parties[0]))
    await workshop.database.write(lambda tx: third_parties.withdraw(SharingStore(tx), AGAIN, parties[0]))
    with pytest.raises(NotFound):
        await workshop.database.write(lambda tx: third_parties.withdraw(SharingStore(tx), CALL, parties[0]))
