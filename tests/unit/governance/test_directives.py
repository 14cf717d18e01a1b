"""Zero-retention requests and training preferences in the store, on both dialects."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from perron.chassis.idempotency import IdempotentRequest
from perron.chassis.ids import new_id
from perron.chassis.interceptors.access import Call
from perron.chassis.testing import BOTH, FakeClock
from perron.governance.directives import (
    PreferenceCommand,
    RequestCommand,
    ReviewCommand,
    TrainingPreferences,
    ZeroRetention,
)
from perron.governance.model import ExistingRecords, RequestState, TrainingPreference
from perron.governance.request_store import RequestStore
from tests.unit.governance.commands import ADMIN, OPERATOR, ORGANIZATION, WORKSPACE

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)


def identified(call: Call, request_id: bytes = b"r" * 16, digest: bytes = b"d" * 32) -> Call:
    return replace(call, identity=IdempotentRequest(call.caller.key_id, call.method, request_id, digest))


async def ask(database: Database, workspace_id: str = "", call: Call = ADMIN) -> Any:
    command = RequestCommand(ORGANIZATION, workspace_id, "reasons", ExistingRecords.ERASE)
    return await database.write(lambda tx: ZeroRetention(new_id).request(RequestStore(tx), call, command))


async def review(database: Database, request_id: str, verdict: RequestState, call: Call = OPERATOR) -> Any:
    command = ReviewCommand(request_id, verdict, "note")
    return await database.write(lambda tx: ZeroRetention(new_id).review(RequestStore(tx), call, command))


async def prefer(database: Database, preference: TrainingPreference, call: Call = ADMIN) -> Any:
    command = PreferenceCommand(ORGANIZATION, WORKSPACE, preference)
    return await database.write(lambda tx: TrainingPreferences().set(RequestStore(tx), call, command))


async def kinds(database: Database) -> list[str]:
    return await database.read(
        lambda tx: list(tx.driver_execute("SELECT kind FROM events ORDER BY number").scalars())
    )


async def test_one_request_of_a_scope_is_open_or_in_force_at_a_time(database: Database) -> None:
    asked = await ask(database)
    with pytest.raises(AlreadyExists) as refused:
        await ask(database)
    assert refused.value.reason == "ZERO_RETENTION_REQUESTED"
    await ask(database, WORKSPACE)
    await review(database, asked.request_id, RequestState.DETAIL_ASKED)
    with pytest.raises(AlreadyExists):
        await ask(database)
    await review(database, asked.request_id, RequestState.DENIED)
    assert (await ask(database)).state is RequestState.REQUESTED


async def test_a_verdict_is_given_once(database: Database) -> None:
    for verdict in (RequestState.APPROVED, RequestState.DENIED):
        asked = await ask(database, new_id("ws"))
        await review(database, asked.request_id, verdict)
        with pytest.raises(FailedPrecondition) as refused:
            await review(database, asked.request_id, RequestState.APPROVED)
        assert refused.value.reason == "ZERO_RETENTION_REVIEWED"
    with pytest.raises(NotFound):
        await review(database, new_id("zdr"), RequestState.APPROVED)


async def test_a_request_and_a_review_sent_again_have_one_effect(
    database: Database, clock: FakeClock
) -> None:
    asked = await ask(database, call=identified(ADMIN))
    assert await ask(database, call=identified(ADMIN)) == asked
    approved = await review(database, asked.request_id, RequestState.APPROVED, identified(OPERATOR))
    clock.advance(timedelta(minutes=1))
    again = await review(database, asked.request_id, RequestState.APPROVED, identified(OPERATOR))
    assert again == approved
    with pytest.raises(InvalidArgument) as refused:
        await ask(database, WORKSPACE, identified(ADMIN, digest=b"e" * 32))
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert await kinds(database) == [
        "directive.zero_retention_requested",
        "directive.zero_retention_approved",
    ]


async def test_a_buried_workspace_gets_no_directive(database: Database) -> None:
    await database.write(lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION, workspace_id=WORKSPACE))
    with pytest.raises(NotFound):
        await ask(database, WORKSPACE)
    with pytest.raises(NotFound):
        await prefer(database, TrainingPreference.OPTED_OUT)


async def test_lifting_an_opt_out_leaves_a_watermark_that_never_goes_back(
    database: Database, clock: FakeClock
) -> None:
    assert (await prefer(database, TrainingPreference.DEFAULT)).watermark_us == 0
    assert (await prefer(database, TrainingPreference.OPTED_OUT)).watermark_us == 0
    clock.advance(timedelta(hours=1))
    lifted = await prefer(database, TrainingPreference.DEFAULT)
    assert lifted.watermark_us == clock.now_us()
    clock.advance(timedelta(hours=1))
    assert await prefer(database, TrainingPreference.DEFAULT) == lifted
    assert (await prefer(database, TrainingPreference.OPTED_OUT)).watermark_us == lifted.watermark_us
    assert lifted.opted_out(lifted.watermark_us)
    assert not lifted.opted_out(lifted.watermark_us + 1)


async def test_zero_retention_and_preference_do_not_undo_each_other(database: Database) -> None:
    await prefer(database, TrainingPreference.OPTED_OUT)
    asked = await ask(database, WORKSPACE)
    await review(database, asked.request_id, RequestState.APPROVED)
    await prefer(database, TrainingPreference.OPTED_OUT)
    stored = await database.read(lambda tx: RequestStore(tx).directives_of(ORGANIZATION, WORKSPACE))
    assert stored.zero_retention
    assert stored.preference is TrainingPreference.OPTED_OUT


async def test_each_mutation_is_audited_and_told(database: Database) -> None:
    asked = await ask(database)
    await review(database, asked.request_id, RequestState.DENIED)
    await prefer(database, TrainingPreference.OPTED_OUT)
    rows = await database.read(
        lambda tx: tx.driver_execute("SELECT number, key_id, resource_id FROM audit_entries").all()
    )
    assert [tuple(row) for row in rows] == [
        (1, "key_a", asked.request_id),
        (2, "key_o", asked.request_id),
        (3, "key_a", WORKSPACE),
    ]
    assert await kinds(database) == [
        "directive.zero_retention_requested",
        "directive.zero_retention_denied",
        "directive.training_preference_set",
    ]


async def test_pages_of_requests_are_newest_first(database: Database) -> None:
    made = [await ask(database, new_id("ws")) for _ in range(5)]
    first = await database.read(lambda tx: RequestStore(tx).zero_retention_requests(ORGANIZATION, "", 3))
    rest = await database.read(
        lambda tx: RequestStore(tx).zero_retention_requests("", first[-1].request_id, 3)
    )
    assert [*first, *rest] == made[::-1]
