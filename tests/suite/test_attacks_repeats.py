"""What is sent twice, or by fifty at once, has one effect; what is based on yesterday's state has none."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perron.api.quotas.v1 import quota_service_pb2 as quotas
from perron.chassis.interceptors import validation
from tests.attacks.requests import Requests
from tests.attacks.things import MODEL
from tests.attacks.wire import Answer, assert_refused_properly, ids_of, named
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc
from tests.scale import times

IDEMPOTENT = [rpc for rpc in RPCS if rpc.idempotent and rpc.batch_item is None]
BATCHES = [rpc for rpc in RPCS if rpc.batch_item and "request_id" in rpc.batch_item.fields_by_name]
AT_ONCE = 50
OF_THE_MOMENT = {"secret", "secret_reason", "statuses", "limits", "keep_content", "admission_id"}
"""Fields of an answer that a repetition may answer otherwise: secrets, and what is true only now."""
MOVES_BY_ITSELF = {"CreateJob": ("job", "state")}
"""What goes on with a resource as soon as it is made."""

UNCHANGED = {
    "request_id",
    "trace_parent",
    "credential",  # who asks is no part of what is asked
    "passport",
    "organization_id",  # of another one nothing is found, whatever was sent before
    "Decide.model",  # a base model makes no difference, and the first one counts
    "Reserve.mode",  # a check has no effect that could be had twice
}

each_mutation = pytest.mark.parametrize("rpc", IDEMPOTENT, ids=str)


def shows_secret(rpc: Rpc) -> bool:
    """Whether an RPC's answer has room for a secret."""
    return "secret" in rpc.method.output_type.fields_by_name


def settled(rpc: Rpc, answer: Answer) -> Message:
    """What an answer says for good."""
    assert answer.code == "OK", str(answer)
    message = rpc.response.FromString(answer.body)
    for name in OF_THE_MOMENT & set(rpc.method.output_type.fields_by_name):
        message.ClearField(name)
    if rpc.name in MOVES_BY_ITSELF:
        resource, moving = MOVES_BY_ITSELF[rpc.name]
        getattr(message, resource).ClearField(moving)
    return message


@each_mutation
def test_a_request_sent_twice_has_one_effect(rpc: Rpc, world: World, requests: Requests) -> None:
    world.refill(world.tenant)
    key = world.caller(rpc.access).secret
    request = requests.valid(rpc)

    once = settled(rpc, world.wire.call(rpc, request, key))
    again = [settled(rpc, world.wire.call(rpc, request, key)) for _ in range(2)]

    assert again == [once, once]


@pytest.mark.parametrize("rpc", [rpc for rpc in IDEMPOTENT if shows_secret(rpc)], ids=str)
def test_a_secret_is_shown_once(rpc: Rpc, world: World, requests: Requests) -> None:
    key = world.caller(rpc.access).secret
    request = requests.valid(rpc)
    shown: Any = rpc.response.FromString(world.wire.call(rpc, request, key).body)
    repeated: Any = rpc.response.FromString(world.wire.call(rpc, request, key).body)

    assert shown.secret
    assert not shown.secret_reason
    assert not repeated.secret
    assert repeated.secret_reason


@each_mutation
def test_a_request_id_with_another_body_is_refused(rpc: Rpc, world: World, requests: Requests) -> None:
    world.refill(world.tenant)
    key = world.caller(rpc.access).secret
    request = requests.valid(rpc)
    settled(rpc, world.wire.call(rpc, request, key))
    others = list(variations(rpc, request, world))

    for name, other in others:
        refused = world.wire.call(rpc, other, key)
        assert refused.reason == "REQUEST_ID_REUSED", f"another {name}: {refused}"
        assert_refused_properly(refused, "INVALID_ARGUMENT")
    assert others


@each_mutation
def test_fifty_at_once_have_one_effect(rpc: Rpc, world: World, requests: Requests) -> None:
    for _ in range(times(1, 20)):
        world.refill(world.tenant)
        key = world.caller(rpc.access).secret
        request = requests.valid(rpc)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = [pool.submit(world.wire.call, rpc, request, key) for _ in range(AT_ONCE)]
            answers = [call.result() for call in calls]

        answered = [settled(rpc, answer) for answer in answers]
        assert answered == [answered[0]] * AT_ONCE
        if shows_secret(rpc):
            shown = [rpc.response.FromString(answer.body) for answer in answers]
            assert sum(bool(message.secret) for message in shown) == 1  # type: ignore[attr-defined]


@each_mutation
def test_a_request_id_is_a_uuid_and_not_the_zero_one(rpc: Rpc, world: World, requests: Requests) -> None:
    key = world.caller(rpc.access).secret
    for value in (str(uuid.UUID(int=0)), "1", "x" * 36, str(uuid.uuid4()) + "\n", str(uuid.uuid4())[:-1]):
        refused = world.wire.call(rpc, requests.valid(rpc, request_id=value), key)
        assert_refused_properly(refused, "INVALID_ARGUMENT")


@pytest.mark.parametrize("rpc", [rpc for rpc in IDEMPOTENT if rpc.access.HasField("customer")], ids=str)
def test_two_callers_may_use_one_request_id(rpc: Rpc, world: World, requests: Requests) -> None:
    """Ids are each caller's own; nobody learns from a refusal that a neighbour used one."""
    world.refill(world.tenant)
    world.refill(world.other)
    shared = str(uuid.uuid4())
    mine = settled(
        rpc, world.wire.call(rpc, requests.valid(rpc, request_id=shared), world.tenant.admin.secret)
    )
    theirs = settled(
        rpc,
        world.wire.call(rpc, requests.valid(rpc, world.other, request_id=shared), world.other.admin.secret),
    )

    assert not ids_of(mine) or ids_of(mine) != ids_of(theirs)


@pytest.mark.parametrize("rpc", BATCHES, ids=str)
def test_an_item_with_a_used_request_id_has_no_second_effect(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    """Within one batch as between two, and whatever the other items are."""
    key = world.caller(rpc.access).secret
    request = requests.valid(rpc)
    request.items.append(request.items[0])
    request.items.append(requests.valid(rpc).items[0])

    def named_by(answer: Answer) -> list[set[str]]:
        response: Any = rpc.response.FromString(answer.body)
        return [ids_of(result.response) for result in response.results]

    once = named_by(world.wire.call(rpc, request, key))
    again = named_by(world.wire.call(rpc, request, key))

    assert again == once
    assert once[0] == once[1] != once[2]


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if "etag" in rpc.input.fields_by_name], ids=str)
def test_a_stale_etag_is_refused_without_effect(rpc: Rpc, world: World, requests: Requests) -> None:
    world.refill(world.tenant)
    key = world.caller(rpc.access).secret
    changing = named(CHANGED_BY.get(rpc.name, str(rpc)))
    etags = [etag_of(changing, world.wire.call(changing, requests.valid(changing), key))]
    changed = requests.valid(changing, etag=etags[0])
    if "display_name" in changing.input.fields_by_name:
        changed.display_name = f"another name {uuid.uuid4().hex[:8]}"
    elif "plan" in changing.input.fields_by_name:
        changed.plan = "scale-1"
    else:
        changed.version = 0
    etags.append(etag_of(changing, world.wire.call(changing, changed, key)))
    assert etags[0] != etags[1]

    for stale in (etags[0], "x", "0", "é"):
        refused = world.wire.call(rpc, requests.valid(rpc, etag=stale), key)
        assert_refused_properly(refused, "ABORTED")
        assert refused.reason == "ETAG_STALE"
    good = world.wire.call(rpc, requests.valid(rpc, etag=etags[1]), key)
    assert good.code == "OK", str(good)
    world.wire.call(rpc, requests.valid(rpc), key)


CHANGED_BY = {
    "DeleteAgent": "AgentService.UpdateAgent",
    "RestoreAgentVersion": "AgentService.UpdateAgent",
    "PublishAgent": "AgentService.UpdateAgent",
    "UnpublishAgent": "AgentService.UpdateAgent",
    "SetSharing": "AgentService.UpdateAgent",
    "DeleteAlias": "AgentService.MoveAlias",
}
"""What gives a resource another etag, where calling the RPC itself may not."""


def etag_of(rpc: Rpc, answer: Answer) -> str:
    """The etag of the resource that an RPC has changed."""
    assert answer.code == "OK", str(answer)
    response: Any = rpc.response.FromString(answer.body)
    return str(getattr(response, rpc.method.output_type.fields[0].name).etag)


def test_a_reservation_is_settled_once_by_whom_it_was_made_for(world: World) -> None:
    admission = world.services["admission"].secret

    def reserved() -> str:
        request = quotas.ReserveRequest(
            passport=world.passport(world.tenant), model=MODEL, requests=1, tokens=100
        )
        return str(world.wire.ask("QuotaService.Reserve", request, admission).reservation_id)

    def settle(reservation: str, tokens: int, organization: str = world.tenant.organization_id) -> Answer:
        request = quotas.SettleRequest(
            organization_id=organization, reservation_id=reservation, tokens=tokens
        )
        return world.wire.call(named("QuotaService.Settle"), request, admission)

    def release(reservation: str) -> Answer:
        request = quotas.ReleaseRequest(
            organization_id=world.tenant.organization_id, reservation_id=reservation
        )
        return world.wire.call(named("QuotaService.Release"), request, admission)

    one = reserved()
    assert settle(one, 40).body == settle(one, 40).body == settle(one, 70).body
    assert release(one).reason == "RESERVATION_CLOSED"
    debited = quotas.SettleResponse.FromString(settle(reserved(), 130).body)
    assert (debited.tokens, debited.debt_tokens) == (130, 30)
    assert settle(reserved(), 1, world.other.organization_id).code == "NOT_FOUND"
    given_back = reserved()
    assert release(given_back).code == release(given_back).code == "OK"
    assert settle(given_back, 1).reason == "RESERVATION_CLOSED"


def variations(rpc: Rpc, request: Any, world: World) -> Iterator[tuple[str, Any]]:
    """The request with one field changed at a time, each time still one that could have been meant."""
    for field in rpc.input.fields:
        if {field.name, f"{rpc.name}.{field.name}"} & UNCHANGED:
            continue
        other = type(request)()
        other.CopyFrom(request)
        match field.cpp_type:
            case _ if field.is_repeated:
                if len(getattr(other, field.name)) > 1:
                    del getattr(other, field.name)[-1]
                elif field.name in {"add", "remove"}:
                    getattr(other, field.name).append("another")
            case _ if field.name == "configuration":
                other.configuration.instructions += " of another"
            case _ if field.name == "document":
                other.document.display_name = "another"
            case FieldDescriptor.CPPTYPE_STRING if text := another(
                world, field.name, getattr(other, field.name)
            ):
                setattr(other, field.name, text)
            case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_INT64:
                setattr(other, field.name, getattr(other, field.name) + 1)
            case FieldDescriptor.CPPTYPE_ENUM if len(field.enum_type.values) > 2:
                setattr(other, field.name, 3 - min(2, getattr(other, field.name)))
            case _:
                continue
        if other != request and validation.check(other) is None:
            yield field.name, other


def another(world: World, name: str, given: str) -> str:
    """Another text for a field, empty where it takes none."""
    tenant, member = world.tenant, world.tenant.people["member"]
    match name:
        case "workspace_id":
            return tenant.workspace_id
        case "key_id" | "member_id":
            return str(getattr(member, name))
        case "plan":
            return "scale-1"
        case "third_party":
            return "connector:another"
        case "sha256":
            return "1" * 64
        case "agent_id" | "file_id" | "holding_id" | "job_id" | "model_id" | "transfer_id":
            return next(value for value in (tenant.ids[name], tenant.spare[name]) if value != given)
        case _:
            return "another" if name in TEXTS else ""


TEXTS = {
    "alias",
    "data_subject",
    "display_name",
    "distributor",
    "model",
    "note",
    "party",
    "purpose",
    "reason",
    "reasons",
    "suffix",
}
"""Fields that take any text, or one of which the attacked suite knows this."""
