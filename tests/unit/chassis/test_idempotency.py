import asyncio
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from perron.api.agents.v1.agent_service_pb2 import CreateAgentRequest
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.api.quotas.v1 import quota_service_pb2 as quotas
from perron.chassis import events, idempotency
from perron.chassis.clock import SystemClock
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import InvalidArgument
from perron.chassis.idempotency import IdempotentRequest, identify
from perron.chassis.testing import BOTH, FakeClock, customer_call

REQUEST_ID = "0190f5a0-7d3b-7c4e-8a52-2f9c1f9b3e11"
Claim = Callable[[Transaction, IdempotentRequest, str], str | None]

METHOD = "perron.api.quotas.v1.QuotaService/Reserve"


def sent(**fields: object) -> quotas.ReserveRequest:
    return quotas.ReserveRequest(**{"request_id": REQUEST_ID, "model": "small", "tokens": 5, **fields})


def request(body: bytes = b"body", caller: str = "key_a", method: str = METHOD) -> IdempotentRequest:
    return IdempotentRequest(
        caller=caller, method=method, request_id=uuid.UUID(REQUEST_ID).bytes, digest=body
    )


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_repetition_finds_the_resource_of_the_first_call(database: Database) -> None:
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_1")) is None
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_2")) == "res_1"
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_3")) == "res_1"


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_the_same_id_with_another_body_is_refused(database: Database) -> None:
    await database.write(lambda tx: idempotency.claim(tx, request(b"one"), "res_1"))
    with pytest.raises(InvalidArgument) as caught:
        await database.write(lambda tx: idempotency.claim(tx, request(b"other"), "res_2"))
    assert caught.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_callers_and_methods_do_not_meet(database: Database) -> None:
    for number, other in enumerate([request(), request(caller="key_b"), request(method="Other")]):
        made = await database.write(lambda tx, o=other, n=number: idempotency.claim(tx, o, f"res_{n}"))
        assert made is None


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_request_without_effect_is_not_remembered(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        idempotency.claim(tx, request(), "res_1")
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_2")) is None


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_request_is_remembered_for_a_day(database: Database, clock: FakeClock) -> None:
    await database.write(lambda tx: idempotency.claim(tx, request(b"one"), "res_1"))
    clock.advance(timedelta(hours=24) - timedelta(microseconds=1))
    assert await database.write(lambda tx: idempotency.claim(tx, request(b"one"), "res_2")) == "res_1"
    clock.advance(timedelta(microseconds=1))
    assert await database.write(lambda tx: idempotency.claim(tx, request(b"other"), "res_3")) is None
    assert await database.write(lambda tx: idempotency.claim(tx, request(b"other"), "res_4")) == "res_3"


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_sweeping_forgets_only_what_is_past_its_time(database: Database, clock: FakeClock) -> None:
    def claim(tx: Transaction, callers: range) -> None:
        for number in callers:
            idempotency.claim(tx, request(caller=f"key_{number}"), f"res_{number}")

    await database.write(lambda tx: claim(tx, range(5)))
    clock.advance(timedelta(hours=12))
    await database.write(lambda tx: claim(tx, range(5, 7)))
    clock.advance(timedelta(hours=12))

    assert await database.write(lambda tx: idempotency.sweep(tx, rows=3)) is True
    assert await database.write(lambda tx: idempotency.sweep(tx, rows=3)) is False

    assert await database.write(lambda tx: idempotency.claim(tx, request(caller="key_6"), "new")) == "res_6"


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_call_without_request_id_always_has_its_effect(database: Database) -> None:
    call = customer_call()
    assert await database.write(lambda tx: idempotency.once(tx, call, "res_1")) is None
    assert await database.write(lambda tx: idempotency.once(tx, call, "res_2")) is None
    call = customer_call(identity=request())
    assert await database.write(lambda tx: idempotency.once(tx, call, "res_3")) is None
    assert await database.write(lambda tx: idempotency.once(tx, call, "res_4")) == "res_3"


def look_first(tx: Transaction, sent_: IdempotentRequest, resource_id: str) -> str | None:
    """The racy variant: looks whether the request is there, and writes it with its effect later."""
    earlier = tx.execute(
        idempotency._READ,
        {"caller": sent_.caller, "method": sent_.method, "request_id": sent_.request_id},
    ).first()
    if earlier is not None:
        return str(earlier.resource_id)
    tx.before_commit(lambda: _remember(tx, sent_, resource_id))
    return None


def _remember(tx: Transaction, sent_: IdempotentRequest, resource_id: str) -> None:
    idempotency.claim(tx, sent_, resource_id)


@pytest.mark.parametrize(
    ("database_url", "claim", "effects"),
    [
        ("sqlite", idempotency.claim, 1),
        ("postgresql", idempotency.claim, 1),
        ("postgresql", look_first, 2),
    ],
    ids=["sqlite", "postgresql", "a racy variant is caught"],
    indirect=["database_url"],
)
async def test_a_duplicate_in_flight_waits_and_has_no_effect(
    database_url: str, claim: Claim, effects: int
) -> None:
    database = Database(database_url, clock=SystemClock())
    claimed, looked = threading.Event(), threading.Event()

    def effect(tx: Transaction) -> None:
        events.append(tx, "thing.created", organization_id="org_a")

    def first(tx: Transaction) -> str | None:
        earlier = claim(tx, request(), "res_1")
        claimed.set()
        looked.wait(5 if claim is look_first else 0.3)  # held up, the second waits for this commit
        effect(tx)
        return earlier

    def second(tx: Transaction) -> str | None:
        earlier = claim(tx, request(), "res_2")
        looked.set()
        if earlier is None:
            effect(tx)
        return earlier

    running = asyncio.create_task(database.write(first))
    await asyncio.to_thread(claimed.wait)
    results = list(await asyncio.gather(running, database.write(second)))

    assert len(await database.read(lambda tx: events.after(tx, 0))) == effects
    if effects == 1:
        assert results == [None, "res_1"]
    await database.aclose()


def test_a_message_without_request_id_is_no_idempotent_request() -> None:
    assert identify("key_a", METHOD, quotas.ReserveRequest(model="small")) is None
    assert identify("key_a", METHOD, quotas.SettleRequest()) is None


@pytest.mark.parametrize(
    "written",
    [
        "00000000-0000-0000-0000-000000000000",
        "x",
        REQUEST_ID.replace("-", ""),
        f"{{{REQUEST_ID}}}",
        f"urn:uuid:{REQUEST_ID}",
        f" {REQUEST_ID}",
        REQUEST_ID[:-1] + "g",
    ],
)
def test_a_request_id_is_a_uuid_other_than_zero(written: str) -> None:
    with pytest.raises(InvalidArgument):
        identify("key_a", METHOD, sent(request_id=written))


def test_capital_letters_write_the_same_request_id() -> None:
    assert identify("key_a", METHOD, sent()) == identify("key_a", METHOD, sent(request_id=REQUEST_ID.upper()))


@pytest.mark.parametrize("fields", [{"passport": "other"}, {"trace_parent": "00-1-1-01"}])
def test_secrets_and_traces_may_differ_between_a_call_and_its_repetition(fields: dict[str, str]) -> None:
    assert identify("key_a", METHOD, sent(passport="one")) == identify("key_a", METHOD, sent(**fields))


@pytest.mark.parametrize("fields", [{"model": "large"}, {"tokens": 6}, {"ttl": {"seconds": 1}}])
def test_everything_else_is_part_of_the_request(fields: dict[str, object]) -> None:
    assert identify("key_a", METHOD, sent()) != identify("key_a", METHOD, sent(**fields))


@pytest.mark.parametrize("instructions", ["Answer in French.", ""])
def test_content_that_is_never_shown_is_part_of_the_request(instructions: str) -> None:
    def create(text: str) -> IdempotentRequest | None:
        configuration = AgentConfiguration(model="small", instructions=text)
        body = CreateAgentRequest(request_id=REQUEST_ID, configuration=configuration)
        return identify("key_a", METHOD, body, secret="one")

    assert create("Answer in verse.") == create("Answer in verse.")
    assert create("Answer in verse.") != create(instructions)


def test_fields_within_items_are_looked_at_too() -> None:
    def batch(**item: object) -> IdempotentRequest:
        body = quotas.BatchReserveRequest(items=[{"model": "small", **item}])
        return IdempotentRequest("key_a", METHOD, b"", idempotency._digest(body, b""))

    assert batch() == batch(trace_parent="00-1-1-01")
    assert batch() != batch(tokens=1)


def test_the_digest_is_keyed_by_the_callers_secret() -> None:
    one = identify("key_a", METHOD, sent(), secret="one")
    other = identify("key_a", METHOD, sent(), secret="other")
    assert one is not None
    assert other is not None
    assert one.digest != other.digest
    assert len(one.digest) == 32


def test_the_request_itself_is_left_as_it_was() -> None:
    body = sent(passport="one")
    identify("key_a", METHOD, body)
    assert (body.passport, body.request_id) == ("one", REQUEST_ID)
