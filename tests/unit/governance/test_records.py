"""Records in the store and the vault, on both dialects."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import FailedPrecondition, NotFound, PerronError
from perron.chassis.ids import new_id
from perron.chassis.interceptors.access import Caller, CallerKind
from perron.chassis.testing import BOTH, FakeClock
from perron.chassis.vault import Vault
from perron.governance.decisions import Decisions
from perron.governance.model import (
    DataKind,
    Directives,
    DiscardReason,
    Purpose,
    PutOutcome,
    TermsClass,
    TrainingPreference,
)
from perron.governance.reading import Reading
from perron.governance.record_store import RecordStore
from perron.governance.records import Records
from perron.governance.request_store import RequestStore
from perron.governance.rule_files import load
from perron.governance.rulings import Rulings
from perron.governance.seals import Seals
from perron.governance.store import key_of
from tests.unit.governance.commands import (
    ADMIN,
    ORGANIZATION,
    WORKSPACE,
    put_command,
    standing,
)
from tests.unit.governance.exchanges import decided, found_in, keys_in, put, read

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)


async def test_what_was_put_is_read_again_and_the_reading_is_audited(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock, data_subject="reader-7")
    assert await put(database, records, decision) == PutOutcome(decision.decision)
    found, content = await read(database, reading, decision)
    assert (content.input, content.output) == (b"question", b"answer")
    assert found.record.data_subject == "reader-7"
    assert found.record.training_eligible
    audited = await database.read(
        lambda tx: tx.driver_execute("SELECT action, organization_id FROM audit_entries").all()
    )
    assert [tuple(row) for row in audited] == [("record.read PROVIDE_SERVICES", ORGANIZATION)]


async def test_a_decision_has_one_record_however_often_it_is_put(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    first = await put(database, records, decision)
    assert await put(database, records, decision, output=b"another") == first
    twice = [put_command(decision), put_command(decision, output=b"another")]
    key = key_of(ORGANIZATION, decision.decision)
    again = await database.write(
        lambda tx: records.put(RecordStore(tx), twice, {key: decision}, {WORKSPACE: standing()})
    )
    assert again == [first, first]
    assert (await read(database, reading, decision))[1].output == b"answer"


async def test_two_replicas_that_begin_an_epoch_at_once_share_it(
    database: Database, decisions: Decisions, reading: Reading, vault: Vault, clock: FakeClock, tmp_path: Path
) -> None:
    made = [await decided(database, decisions, clock) for _ in range(8)]
    replicas = [Records(load(), Rulings(), Seals(vault)) for _ in made]
    await asyncio.gather(
        *(put(database, replica, decision) for replica, decision in zip(replicas, made, strict=True))
    )
    for decision in made:
        assert (await read(database, reading, decision))[1].input == b"question"
    assert len(await database.read(lambda tx: RecordStore(tx).epochs_in("OPEN"))) == 1
    assert len(keys_in(tmp_path)) == 1


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"exists": False}, DiscardReason.TOMBSTONED),
        ({"active": False}, DiscardReason.TERMINATED),
        ({"organization_id": "org_other"}, DiscardReason.TOMBSTONED),
        ({"terms_class": TermsClass.UNKNOWN}, DiscardReason.NO_PURPOSE),
        ({"documents": ()}, DiscardReason.NO_PURPOSE),
    ],
)
async def test_content_is_discarded_where_the_standing_does_not_permit_it(
    database: Database,
    decisions: Decisions,
    records: Records,
    clock: FakeClock,
    now: dict[str, Any],
    reason: DiscardReason,
) -> None:
    decision = await decided(database, decisions, clock)
    assert await put(database, records, decision, standing(**now)) == PutOutcome(b"", reason)
    assert await database.read(lambda tx: RecordStore(tx).epochs_in("OPEN")) == []


async def test_content_that_comes_after_the_flight_is_discarded(
    database: Database, decisions: Decisions, records: Records, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    clock.advance(timedelta(hours=1))
    assert await put(database, records, decision) == PutOutcome(b"", DiscardReason.EXPIRED)


async def test_content_of_a_buried_organization_is_discarded(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    kept = await decided(database, decisions, clock)
    late = await decided(database, decisions, clock)
    await put(database, records, kept)
    await database.write(lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION))
    assert await put(database, records, late) == PutOutcome(b"", DiscardReason.TOMBSTONED)
    with pytest.raises(NotFound):
        await read(database, reading, kept)


async def test_what_is_not_an_exchange_has_no_record(
    database: Database, decisions: Decisions, records: Records, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock, data_kind=DataKind.AGENT)
    refusal = await put(database, records, decision)
    assert isinstance(refusal, FailedPrecondition)
    assert refusal.reason == "DATA_KIND_NOT_RECORDED"


async def test_an_unknown_decision_is_not_found_and_spoils_nobody(
    database: Database, decisions: Decisions, records: Records, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    key = key_of(ORGANIZATION, decision.decision)
    commands = [
        replace(put_command(decision), decision=b"x" * 16),
        put_command(decision, organization_id=new_id("org")),
        put_command(decision),
    ]
    lost, foreign, kept = await database.write(
        lambda tx: records.put(RecordStore(tx), commands, {key: decision}, {WORKSPACE: standing()})
    )
    assert isinstance(lost, NotFound)
    assert isinstance(foreign, NotFound)
    assert (str(lost), lost.reason) == (str(foreign), foreign.reason)
    assert kept == PutOutcome(decision.decision)


async def test_an_exchange_through_a_fine_tuned_model_is_never_eligible(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    assert decision.ruling.outcome.training_eligible  # nobody had said which model would answer
    await put(database, records, decision, model="ft:small:acme")
    found, _ = await read(database, reading, decision)
    assert not found.record.training_eligible
    assert found.outcome.permission(Purpose.IMPROVE_SERVICES) is None
    assert "1.2-conf" in {clause.clause for clause in found.outcome.clauses}


async def test_opting_out_before_the_content_comes_keeps_it_out_of_training(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    opted_out = Directives(preference=TrainingPreference.OPTED_OUT)
    await database.write(lambda tx: RequestStore(tx).put_directives(ORGANIZATION, "", opted_out))
    await put(database, records, decision)
    found, _ = await read(database, reading, decision)
    assert not found.record.training_eligible
    assert found.record.due_us == decision.as_of_us + timedelta(days=30) // timedelta(microseconds=1)


async def test_opting_out_takes_what_is_kept_out_of_training_for_good(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    await put(database, records, decision)
    lifted = clock.now_us() + 1
    for in_force in (
        Directives(preference=TrainingPreference.OPTED_OUT),
        Directives(watermark_us=lifted),  # lifted: what was made before stays out
    ):
        await database.write(lambda tx, one=in_force: RequestStore(tx).put_directives(ORGANIZATION, "", one))
        found, _ = await read(database, reading, decision)
        assert not found.outcome.training_eligible
        assert found.outcome.permission(Purpose.IMPROVE_SERVICES) is None


async def test_what_was_made_on_free_is_paused_for_training_while_a_subscription_runs(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    await put(database, records, decision)
    paying = standing(plan="pro", terms_class=TermsClass.PAID, subscription_id=new_id("sub"))
    for now, eligible in ((paying, False), (standing(), True)):
        found, _ = await read(database, reading, decision, now)
        assert found.outcome.training_eligible is eligible
        assert (found.outcome.permission(Purpose.IMPROVE_SERVICES) is not None) is eligible
        assert found.outcome.permission(Purpose.PROVIDE_SERVICES) is not None


@pytest.mark.parametrize(
    ("purpose", "roles", "reason"),
    [
        (Purpose.MONITOR_ABUSE, None, "PURPOSE_NOT_ALLOWED"),
        (Purpose.IMPROVE_SERVICES, None, "PURPOSE_NOT_ALLOWED"),
        (Purpose.PROVIDE_SERVICES, {"ABUSE_REVIEWER", "LEGAL", "TRAINING"}, "PURPOSE_NOT_ALLOWED"),
        (Purpose.IMPROVE_SERVICES, {"TRAINING"}, "PURPOSE_NOT_ALLOWED"),
        (Purpose.MONITOR_ABUSE, {"LEGAL"}, "PURPOSE_NOT_ALLOWED"),
        (Purpose.LEGAL_OBLIGATION, {"ABUSE_REVIEWER"}, "PURPOSE_NOT_ALLOWED"),
        (Purpose.LEGAL_OBLIGATION, {"LEGAL"}, "CASE_REFERENCE_MISSING"),
    ],
)
async def test_only_the_callers_own_purpose_may_be_declared(
    database: Database,
    decisions: Decisions,
    records: Records,
    reading: Reading,
    clock: FakeClock,
    purpose: Purpose,
    roles: set[str] | None,
    reason: str,
) -> None:
    decision = await decided(database, decisions, clock)
    await put(database, records, decision)
    caller = ADMIN.caller if roles is None else Caller(CallerKind.OPERATOR, operator_roles=frozenset(roles))
    with pytest.raises(PerronError) as refused:
        await read(database, reading, decision, caller=caller, purpose=purpose)
    assert refused.value.reason == reason


async def test_members_reach_their_own_workspace_and_admins_every_one(
    database: Database, decisions: Decisions, records: Records, reading: Reading, clock: FakeClock
) -> None:
    decision = await decided(database, decisions, clock)
    await put(database, records, decision)
    member = replace(ADMIN.caller, organization_role="MEMBER", workspace_id=WORKSPACE)
    assert (await read(database, reading, decision, caller=member))[1].input == b"question"
    with pytest.raises(NotFound):
        await read(database, reading, decision, caller=replace(member, workspace_id=new_id("ws")))
    admin = replace(ADMIN.caller, workspace_id=new_id("ws"))
    assert (await read(database, reading, decision, caller=admin))[1].input == b"question"


async def test_content_is_nowhere_in_the_store_in_the_clear(
    database: Database, decisions: Decisions, records: Records, clock: FakeClock, tmp_path: Path
) -> None:
    if database.dialect != "sqlite":
        pytest.skip("the files of the embedded store are searched")
    marker = b"a text that nobody else writes"
    await put(
        database,
        records,
        await decided(database, decisions, clock),
        input=marker,
        output=marker,
        model="seen",
    )
    assert found_in(tmp_path, b"seen")
    assert not found_in(tmp_path, marker)


async def test_a_row_moved_to_another_record_does_not_open(
    database: Database,
    decisions: Decisions,
    records: Records,
    reading: Reading,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    if database.dialect != "sqlite":
        pytest.skip("one dialect is enough to move a row")
    here, there = [await decided(database, decisions, clock) for _ in range(2)]
    await put(database, records, here)
    await put(database, records, there, input=b"another's")
    with sqlite3.connect(tmp_path / "governance.db") as connection:
        connection.execute(
            "UPDATE records SET (sealed, wrapped_key) = "
            "(SELECT sealed, wrapped_key FROM records WHERE id = ?) WHERE id = ?",
            (there.decision, here.decision),
        )
    connection.close()
    with pytest.raises(Exception, match="does not open"):
        await read(database, reading, here)
