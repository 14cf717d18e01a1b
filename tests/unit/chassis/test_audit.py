import asyncio
import contextvars
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from perron.api.common.v1 import audit_service_pb2 as pb
from perron.chassis import audit
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.database import Database
from perron.chassis.errors import InvalidArgument, NotFound, Unavailable
from perron.chassis.interceptors import access
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.paging import Pages
from perron.chassis.testing import BOTH, FakeClock, customer_call

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

T = TypeVar("T")
ORGANIZATION = customer_call().caller.organization_id
OPERATOR = Call(caller=Caller(CallerKind.OPERATOR, key_id="key_operator"), method="/x.Y/Z")


async def called_by(call: Call, answer: Awaitable[T]) -> T:
    context = contextvars.copy_context()
    context.run(access._call.set, call)
    return await asyncio.get_running_loop().create_task(_awaited(answer), context=context)


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


async def listed(database: Database, call: Call = OPERATOR, **fields: Any) -> pb.ListAuditEntriesResponse:
    servicer = AuditServicer(database, Pages(b"secret"))
    return await called_by(call, servicer.ListAuditEntries(pb.ListAuditEntriesRequest(**fields), None))


async def test_a_mutation_says_who_did_what(database: Database, clock: FakeClock) -> None:
    call = customer_call("/perron.api.test.v1.TestService/CreateThing")
    await database.write(
        lambda tx: audit.append(
            tx, call, action="thing.made", resource_id="thing_1", organization_id=ORGANIZATION
        )
    )
    (entry,) = (await listed(database)).entries
    assert entry.create_time.ToDatetime(tzinfo=clock.now().tzinfo) == clock.now()
    entry.ClearField("create_time")
    assert entry == pb.AuditEntry(
        number=1,
        organization_id=ORGANIZATION,
        caller_kind="CUSTOMER",
        key_id=call.caller.key_id,
        member_id=call.caller.member_id,
        method="perron.api.test.v1.TestService/CreateThing",
        resource_id="thing_1",
        result="OK",
        count=1,
        peer="192.0.2.1",
        trace_id=call.trace_id,
        action="thing.made",
    )


async def test_a_mutation_that_fails_leaves_no_entry(database: Database) -> None:
    def work(tx: Any) -> None:
        audit.append(tx, customer_call(), resource_id="thing_1", organization_id=ORGANIZATION)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(work)
    assert not (await listed(database)).entries


async def test_refusals_of_a_minute_are_one_entry(database: Database, clock: FakeClock) -> None:
    trail = AuditTrail(database, clock)
    for _ in range(3):
        trail.refused(customer_call(), "ROLE_MISSING")
    await trail.flush()
    for _ in range(2):
        trail.refused(customer_call(), "ROLE_MISSING")
    trail.refused(customer_call(), "SCOPE_MISSING")
    trail.refused(customer_call("x.Y/Other"), "ROLE_MISSING")
    await trail.flush()
    await trail.flush()
    clock.advance(timedelta(minutes=1))
    trail.refused(customer_call(), "ROLE_MISSING")
    await trail.flush()

    entries = (await listed(database)).entries
    assert [(entry.number, entry.result, entry.count) for entry in entries] == [
        (4, "ROLE_MISSING", 1),
        (3, "ROLE_MISSING", 1),
        (2, "SCOPE_MISSING", 1),
        (1, "ROLE_MISSING", 5),
    ]
    assert {entry.organization_id for entry in entries} == {ORGANIZATION}


async def test_folds_of_past_minutes_cost_no_memory(database: Database, clock: FakeClock) -> None:
    trail = AuditTrail(database, clock)
    trail.refused(customer_call(), "ROLE_MISSING")
    await trail.flush()
    clock.advance(timedelta(minutes=1))
    await trail.flush()
    assert not trail._folds


async def test_refusals_wait_while_the_store_is_away(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail(database, clock)
    trail.refused(customer_call(), "ROLE_MISSING")
    with monkeypatch.context() as away:

        async def write(_work: object) -> None:
            raise Unavailable("STORE_UNAVAILABLE", "away")

        away.setattr(database, "write", write)
        with pytest.raises(Unavailable):
            await trail.flush()
    trail.refused(customer_call(), "ROLE_MISSING")
    await trail.flush()
    assert [entry.count for entry in (await listed(database)).entries] == [2]


async def test_refusals_are_written_when_the_process_ends(database: Database, clock: FakeClock) -> None:
    trail = AuditTrail(database, clock)
    running = asyncio.create_task(trail.run())
    await asyncio.sleep(0)
    trail.refused(customer_call(), "ROLE_MISSING")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len((await listed(database)).entries) == 1


async def fill(database: Database) -> None:
    for number in range(5):
        organization_id = ORGANIZATION if number % 2 == 0 else "org_other"
        await database.write(
            lambda tx, n=number, o=organization_id: audit.append(
                tx, customer_call(), resource_id=f"thing_{n}", organization_id=o
            )
        )


async def test_pages_hold_every_entry_once_newest_first(database: Database) -> None:
    await fill(database)
    numbers, token = [], ""
    while True:
        page = await listed(database, page_size=2, page_token=token)
        numbers.append([entry.number for entry in page.entries])
        token = page.next_page_token
        if not token:
            break
    assert numbers == [[5, 4], [3, 2], [1]]


async def test_a_customer_sees_its_own_organization_only(database: Database) -> None:
    await fill(database)
    for wanted in ("", ORGANIZATION):
        page = await listed(database, customer_call(), organization_id=wanted)
        assert [entry.resource_id for entry in page.entries] == ["thing_4", "thing_2", "thing_0"]
    refusals = []
    for wanted in ("org_other", "org_that_never_was"):
        with pytest.raises(NotFound) as caught:
            await listed(database, customer_call(), organization_id=wanted)
        refusals.append(str(caught.value))
    assert refusals[0] == refusals[1]


async def test_an_operator_may_name_the_organization(database: Database) -> None:
    await fill(database)
    page = await listed(database, organization_id="org_other")
    assert [entry.resource_id for entry in page.entries] == ["thing_3", "thing_1"]


async def test_a_page_token_is_the_callers_own(database: Database) -> None:
    await fill(database)
    token = (await listed(database, page_size=1)).next_page_token
    other = Call(caller=Caller(CallerKind.OPERATOR, key_id="key_other"), method="/x.Y/Z")
    for call, fields in ((other, {}), (OPERATOR, {"organization_id": "org_other"})):
        with pytest.raises(InvalidArgument) as caught:
            await listed(database, call, page_token=token, **fields)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
