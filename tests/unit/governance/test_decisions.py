"""Decisions in the store, on both dialects."""

import asyncio
import sqlite3
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import InvalidArgument, NotFound
from perron.chassis.ids import new_id
from perron.chassis.testing import BOTH, FakeClock
from perron.governance import convert
from perron.governance.decisions import Decisions, keep_content
from perron.governance.model import Channel, DataKind, Decision, Directives, TermsClass, TrainingPreference
from perron.governance.request_store import RequestStore
from perron.governance.rule_files import load
from perron.governance.rulings import Rulings
from perron.governance.store import Store, key_of
from tests.unit.governance.commands import ORGANIZATION, WORKSPACE, decide_command, raw_id

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)
REQUEST = "0194d0c2-5f2b-7c4e-9a52-1f6f0f6d2a11"


async def count(database: Database) -> int:
    return await database.read(lambda tx: tx.execute(text("SELECT count(*) FROM decisions")).scalar_one())


async def decide(database: Database, decisions: Decisions, *commands: object) -> list[object]:
    return await database.write(lambda tx: decisions.decide(Store(tx), commands))  # type: ignore[return-value]


async def test_a_decision_reads_back_as_it_was_answered(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    (made,) = await decide(database, decisions, decide_command(clock, data_subject="reader-7"))
    assert isinstance(made, Decision)
    key = key_of(ORGANIZATION, made.decision)
    assert (await database.read(lambda tx: Store(tx).decisions([key])))[key] == made


async def test_another_organization_does_not_find_it(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    (made,) = await decide(database, decisions, decide_command(clock))
    assert isinstance(made, Decision)
    key = key_of(new_id("org"), made.decision)
    assert await database.read(lambda tx: Store(tx).decisions([key])) == {}


async def test_a_batch_answers_each_in_its_place(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    buried = new_id("org")
    await database.write(lambda tx: tombstones.bury(tx, organization_id=buried))
    made = await decide(
        database,
        decisions,
        decide_command(clock, data_kind=DataKind.AGENT),
        decide_command(clock, organization_id=buried),
        decide_command(clock, terms_class=TermsClass.PAID, subscription_id="sub_1"),
        decide_command(clock, channel=Channel.CHAT),
    )
    assert isinstance(made[1], NotFound)
    kept = [keep_content(one) if isinstance(one, Decision) else None for one in made]
    assert kept == [False, None, True, False]
    assert await count(database) == 3


async def test_a_buried_workspace_leaves_its_neighbour(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    await database.write(lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION, workspace_id=WORKSPACE))
    gone, there = await decide(
        database, decisions, decide_command(clock), decide_command(clock, workspace_id=new_id("ws"))
    )
    assert isinstance(gone, NotFound)
    assert isinstance(there, Decision)


async def test_a_request_id_has_one_decision(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    (first,) = await decide(database, decisions, decide_command(clock, request_id=REQUEST))
    clock.advance(timedelta(seconds=9))
    command = decide_command(
        clock, request_id=REQUEST.upper(), terms_class=TermsClass.PAID, subscription_id="s"
    )
    again = await decide(database, decisions, decide_command(clock), command, command)
    assert again[1:] == [first, first]
    assert await count(database) == 2


async def test_a_repetition_asks_for_no_content_that_would_not_be_kept_any_more(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    command = decide_command(clock, request_id=REQUEST)
    (first,) = await decide(database, decisions, command)
    await database.write(
        lambda tx: RequestStore(tx).put_directives(ORGANIZATION, "", Directives(zero_retention=True))
    )
    (again,) = await decide(database, decisions, command)
    assert isinstance(first, Decision)
    assert isinstance(again, Decision)
    assert again.ruling == first.ruling
    assert keep_content(first)
    assert not keep_content(again)
    messages = convert.Decisions()
    assert messages.response(first).keep_content
    assert not messages.response(again).keep_content
    assert messages.response(again).decision == messages.response(first).decision


async def test_a_request_id_with_another_body_is_refused(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    made = await decide(
        database,
        decisions,
        decide_command(clock, request_id=REQUEST),
        decide_command(clock, request_id=REQUEST, data_subject="another"),
    )
    assert isinstance(made[0], Decision)
    assert isinstance(made[1], InvalidArgument)
    assert made[1].reason == "REQUEST_ID_REUSED"


async def test_request_ids_of_two_callers_and_two_tenants_never_meet(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    made = await decide(
        database,
        decisions,
        decide_command(clock, request_id=REQUEST),
        decide_command(clock, request_id=REQUEST, caller_key_id="key_another"),
        decide_command(clock, request_id=REQUEST, organization_id=new_id("org")),
    )
    assert len({one.decision for one in made if isinstance(one, Decision)}) == 3


async def test_a_request_id_sent_many_times_at_once_has_one_decision(
    database: Database, clock: FakeClock
) -> None:
    replicas = [Decisions(load(), Rulings(), raw_id) for _ in range(4)]
    command = decide_command(clock, request_id=REQUEST)
    answers = await asyncio.gather(*(decide(database, replica, command) for replica in replicas * 5))
    assert len({one.decision for (one,) in answers if isinstance(one, Decision)}) == 1
    assert await count(database) == 1


async def test_a_directive_is_in_the_next_decision_and_the_narrower_of_two_counts(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    for scope, in_force in (
        ("", Directives(preference=TrainingPreference.OPTED_OUT)),
        (WORKSPACE, Directives(zero_retention=True)),
    ):
        await database.write(
            lambda tx, scope=scope, in_force=in_force: RequestStore(tx).put_directives(
                ORGANIZATION, scope, in_force
            )
        )
    other = new_id("ws")
    here, there, elsewhere = await decide(
        database,
        decisions,
        decide_command(clock),
        decide_command(clock, workspace_id=other),
        decide_command(clock, organization_id=new_id("org")),
    )
    assert isinstance(here, Decision)
    assert isinstance(there, Decision)
    assert isinstance(elsewhere, Decision)
    assert not keep_content(here)
    assert keep_content(there)
    assert not there.ruling.outcome.training_eligible
    assert elsewhere.ruling.outcome.training_eligible


async def test_what_arose_before_an_opt_out_was_lifted_is_not_eligible(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    lifted = Directives(watermark_us=clock.now_us())
    await database.write(lambda tx: RequestStore(tx).put_directives(ORGANIZATION, "", lifted))
    before, after = await decide(
        database,
        decisions,
        decide_command(clock),
        decide_command(clock, as_of_us=clock.now_us() + 1),
    )
    assert isinstance(before, Decision)
    assert isinstance(after, Decision)
    assert [one.ruling.outcome.training_eligible for one in (before, after)] == [False, True]


async def test_the_time_in_flight_is_an_hour_and_never_more_than_a_day(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    hour = 3_600_000_000
    now = clock.now_us()
    made = await decide(
        database,
        decisions,
        decide_command(clock),
        decide_command(clock, in_flight_until_us=now + 99 * hour),
        decide_command(clock, in_flight_until_us=now + 2 * hour),
    )
    assert [one.in_flight_until_us - now for one in made if isinstance(one, Decision)] == [
        hour,
        24 * hour,
        2 * hour,
    ]


async def test_pages_go_through_all_decisions_newest_first(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    made = []
    for _ in range(3):
        made += await decide(database, decisions, decide_command(clock), decide_command(clock))
        clock.advance(timedelta(seconds=1))
    await decide(database, decisions, decide_command(clock, organization_id=new_id("org")))
    before, seen = None, []
    while page := await database.read(
        lambda tx, before=before: Store(tx).decisions_of(ORGANIZATION, before, 4)
    ):
        seen += page
        before = (page[-1].as_of_us, page[-1].decision)
    assert len(seen) == 6
    assert {one.decision for one in seen} == {one.decision for one in made if isinstance(one, Decision)}
    assert [one.as_of_us for one in seen] == sorted((one.as_of_us for one in seen), reverse=True)


async def test_a_ruling_that_was_rolled_back_is_not_remembered(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    def fail(tx: object) -> None:
        decisions.decide(Store(tx), [decide_command(clock)])  # type: ignore[return-value]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail)
    paid = decide_command(clock, terms_class=TermsClass.PAID, subscription_id="sub_1")
    await decide(database, decisions, paid)
    (made,) = await decide(database, decisions, decide_command(clock))
    assert isinstance(made, Decision)
    key = key_of(ORGANIZATION, made.decision)
    stored = (await database.read(lambda tx: Store(tx).decisions([key])))[key]
    assert stored.ruling.terms_class is TermsClass.FREE


async def test_a_decision_takes_at_most_250_bytes(
    database: Database, decisions: Decisions, clock: FakeClock, tmp_path: Path
) -> None:
    if database.dialect != "sqlite":
        pytest.skip("the bound is on the file of the embedded store")
    workspaces = [(new_id("org"), new_id("ws")) for _ in range(100)]

    async def fill() -> int:
        for _ in range(40):
            commands = []
            for organization_id, workspace_id in workspaces:
                clock.advance(timedelta(milliseconds=1))
                commands.append(
                    decide_command(
                        clock,
                        organization_id=organization_id,
                        workspace_id=workspace_id,
                        request_id=str(uuid.uuid4()),
                    )
                )
            await decide(database, decisions, *commands)
        assert await database.checkpoint()
        with sqlite3.connect(tmp_path / "governance.db") as connection:
            (used,) = connection.execute("SELECT sum(pgsize) FROM dbstat").fetchone()
        connection.close()
        return int(used)

    first = await fill()
    assert (await fill() - first) / 4000 <= 250


async def test_a_repetition_through_a_fine_tuned_model_is_never_answered_with_a_decision_that_trains(
    database: Database, decisions: Decisions, clock: FakeClock
) -> None:
    by_base, by_tuned = str(uuid.uuid4()), str(uuid.uuid4())
    await decide(database, decisions, decide_command(clock, request_id=by_base, model="small"))
    (first,) = await decide(database, decisions, decide_command(clock, request_id=by_tuned, model="ft:small"))
    (wider, other, narrower) = await decide(
        database,
        decisions,
        decide_command(clock, request_id=by_base, model="ft:small"),
        decide_command(clock, request_id=by_base, model="large"),
        decide_command(clock, request_id=by_tuned, model="small"),
    )
    assert isinstance(wider, InvalidArgument)
    assert wider.reason == "REQUEST_ID_REUSED"
    assert isinstance(other, Decision)
    assert narrower == first
    assert isinstance(first, Decision)
    assert not first.ruling.outcome.training_eligible
