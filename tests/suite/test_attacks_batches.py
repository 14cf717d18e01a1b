"""In a batch each stands for itself: what one item is refused for, the other 63 do not notice."""

from typing import Any

import pytest

from perron.api.identity.v1 import api_key_pb2
from perron.chassis.interceptors import validation
from tests.attacks.people import Tenant
from tests.attacks.requests import Requests, made_up_id
from tests.attacks.wire import Answer, assert_refused_properly, items
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc

BATCHES = [rpc for rpc in RPCS if rpc.batch_item is not None]
ITEMS = 64
POISONED = 17

each_batch = pytest.mark.parametrize("rpc", BATCHES, ids=str)


def batch(rpc: Rpc, world: World, requests: Requests) -> Any:
    """64 items, every second one of the neighbour."""
    tenants = (world.tenant, world.other)
    request = rpc.request()
    message: Any = request
    if "passports" in rpc.input.fields_by_name:
        message.passports.extend(world.passport(tenant) for tenant in tenants)
    for number in range(ITEMS):
        item = item_of(rpc, requests, tenants[number % 2])
        if "passport_index" in item.DESCRIPTOR.fields_by_name:
            item.passport_index = number % 2
        message.items.append(item)
    return message


def item_of(rpc: Rpc, requests: Requests, tenant: Tenant) -> Any:
    return requests.valid(rpc, tenant).items[0]


def poisons(rpc: Rpc, item: Any) -> list[tuple[str, Any]]:
    """The item, each time wrong in another way: malformed, or not the caller's to ask for."""
    found = []
    for field in item.DESCRIPTOR.fields:
        wrong = type(item)()
        wrong.CopyFrom(item)
        if field.is_repeated:
            continue
        if field.cpp_type == field.CPPTYPE_STRING:
            setattr(wrong, field.name, b"" if field.type == field.TYPE_BYTES else "x" * 20_000)
        elif field.cpp_type == field.CPPTYPE_ENUM:
            setattr(wrong, field.name, 999)
        elif field.cpp_type in {field.CPPTYPE_INT32, field.CPPTYPE_INT64}:
            setattr(wrong, field.name, -1)
        elif field.name == "passport_index":
            setattr(wrong, field.name, 99)
        else:
            continue
        if validation.check(wrong) is not None or field.name == "passport_index":
            found.append((f"{field.name} malformed", wrong))
    for name in ("organization_id", "decision_id", "reservation_id", "member_id", "agent"):
        if name in item.DESCRIPTOR.fields_by_name and rpc.name != "BatchGetDirectives":
            forbidden = type(item)()
            forbidden.CopyFrom(item)
            setattr(forbidden, name, made_up_id(name))
            found.append((f"{name} of nobody", forbidden))
    if str(rpc) == "ModelService.BatchResolve":
        foreign = type(item)()
        foreign.CopyFrom(item)
        foreign.model = "ft:tiny:ws_00000000000000000000000001:model:0000000001"
        found.append(("model of nobody", foreign))
    found.append(("empty", type(item)()))
    return found


def codes(answers: list[Answer]) -> list[str]:
    return [answer.code for answer in answers]


@each_batch
def test_one_bad_item_among_64_is_refused_alone(rpc: Rpc, world: World, requests: Requests) -> None:
    key = world.caller(rpc.access).secret
    alone = codes(items(rpc, world.wire.call(rpc, batch(rpc, world, requests), key)))
    assert alone == ["OK"] * ITEMS

    for name, poison in poisons(rpc, item_of(rpc, requests, world.tenant)):
        request = batch(rpc, world, requests)
        request.items[POISONED].CopyFrom(poison)
        answers = items(rpc, world.wire.call(rpc, request, key))
        refused = answers.pop(POISONED)
        assert codes(answers) == ["OK"] * (ITEMS - 1), name
        if name == "empty" and validation.check(poison) is None:
            continue
        assert refused.code in {"INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"}, f"{name}: {refused}"
        assert refused.reason


@each_batch
def test_an_item_is_answered_as_it_would_be_alone(rpc: Rpc, world: World, requests: Requests) -> None:
    key = world.caller(rpc.access).secret
    for name, poison in poisons(rpc, item_of(rpc, requests, world.tenant)):
        among = batch(rpc, world, requests)
        among.items[POISONED].CopyFrom(poison)
        single = batch(rpc, world, requests)
        del single.items[:]
        single.items.append(poison)

        together = items(rpc, world.wire.call(rpc, among, key))[POISONED]
        alone = items(rpc, world.wire.call(rpc, single, key))[0]

        assert (together.code, together.reason, together.message) == (
            alone.code,
            alone.reason,
            alone.message,
        ), name


@each_batch
def test_a_batch_holds_at_most_128_items_and_never_none(rpc: Rpc, world: World, requests: Requests) -> None:
    key = world.caller(rpc.access).secret
    request = batch(rpc, world, requests)
    request.items.extend(list(request.items)[:1] * (129 - ITEMS))
    assert_refused_properly(world.wire.call(rpc, request, key), "INVALID_ARGUMENT")

    del request.items[:]
    assert_refused_properly(world.wire.call(rpc, request, key), "INVALID_ARGUMENT")


@pytest.mark.parametrize("rpc", [rpc for rpc in BATCHES if "passports" in rpc.input.fields_by_name], ids=str)
def test_a_bad_passport_refuses_its_own_items_only(rpc: Rpc, world: World, requests: Requests) -> None:
    request = batch(rpc, world, requests)
    request.passports[1] = request.passports[1][:-4] + "AAAA"

    answers = items(rpc, world.wire.call(rpc, request, world.caller(rpc.access).secret))

    assert codes(answers[0::2]) == ["OK"] * (ITEMS // 2)
    assert {(answer.code, answer.reason) for answer in answers[1::2]} == {
        ("UNAUTHENTICATED", "PASSPORT_INVALID")
    }


@pytest.mark.parametrize("name", ["BatchAdmit", "BatchVerify"])
def test_hostile_credentials_in_a_batch_harm_nobody(name: str, world: World, requests: Requests) -> None:
    rpc = next(rpc for rpc in BATCHES if rpc.name == name)
    good = world.tenant.admin.secret
    hostile = [
        "",
        "\0",
        good + "\0",
        " " + good,
        good + " ",
        good + "\n",
        "\u0440rn" + good[3:],  # a Cyrillic look-alike
        "\uff50\uff52\uff4e" + good[3:],  # fullwidth; NFKC would make it the key
        "x" * 8192,
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        "' OR 1=1 --",
    ]
    request = batch(rpc, world, requests)
    for number, credential in enumerate(hostile):
        request.items[2 * number].credential = credential

    answers = items(rpc, world.wire.call(rpc, request, world.caller(rpc.access).secret))

    untouched = [answer for number, answer in enumerate(answers) if number % 2 or number >= 2 * len(hostile)]
    assert codes(untouched) == ["OK"] * len(untouched)
    for number, credential in enumerate(hostile):
        answer = answers[2 * number]
        if name == "BatchVerify" and answer.code == "OK":
            state = api_key_pb2.VerifyResult.FromString(answer.body).response.state
            assert state == api_key_pb2.KEY_STATE_MALFORMED, repr(credential)
        else:
            assert answer.code in {"UNAUTHENTICATED", "INVALID_ARGUMENT"}, f"{credential[:20]!r}: {answer}"
