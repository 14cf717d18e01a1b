"""The laws of the contract: who may call, what each element means, and how large anything may be."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

from perron.api.common.v1 import error_reason_pb2
from tests import rpcs
from tests.rpcs import DECLARED, Rpc, fields_of, is_map, is_repeated, rules

SECRETS = frozenset(
    {
        "admission_id",
        "content",
        "credential",
        "data_subject",
        "input",
        "output",
        "passport",
        "passports",
        "secret",
    }
)
"""Names of fields that hold secrets or content, in requests and answers alike."""

HOT = frozenset(
    {"Admit", "Complete", "Decide", "GetStanding", "Put", "Reserve", "Resolve", "Settle", "Verify"}
)
"""What is asked in the path of an inference; each is served in batches too."""

NO_UPPER_BOUND = {
    "page_size": "more than the maximum means the maximum",
    "number": "the number of an event has no end",
}

_SIGNED = {FieldDescriptor.TYPE_INT32: "int32", FieldDescriptor.TYPE_INT64: "int64"}
_UNSIGNED = {FieldDescriptor.TYPE_UINT32: "uint32", FieldDescriptor.TYPE_UINT64: "uint64"}
_FLOATS = {FieldDescriptor.TYPE_FLOAT: "float", FieldDescriptor.TYPE_DOUBLE: "double"}
_LENGTHS = ("max_len", "max_bytes", "len", "len_bytes", "const")
_SHORT_FORMS = ("uuid", "ip", "ipv4", "ipv6", "ip_prefix", "tuuid")

each_rpc = pytest.mark.parametrize("rpc", DECLARED, ids=str)


@each_rpc
def test_every_rpc_declares_who_may_call_it(rpc: Rpc) -> None:
    access = rpc.access

    assert rpc.declares_access
    assert access.public or any(access.HasField(kind) for kind in ("customer", "operator", "service"))


@each_rpc
def test_every_field_of_a_request_is_bounded(rpc: Rpc) -> None:
    unbounded = sorted({field.full_name for field in fields_of(rpc.input) if not _is_bounded(field)})

    assert unbounded == []


@each_rpc
def test_enums_in_requests_take_known_values_only(rpc: Rpc) -> None:
    enums = [field for field in fields_of(rpc.input) if field.type == FieldDescriptor.TYPE_ENUM]

    assert [field.full_name for field in enums if not _element(field).enum.defined_only] == []


@each_rpc
def test_a_request_id_and_the_idempotent_option_come_together(rpc: Rpc) -> None:
    """Of a batch, the items carry the request ids."""
    carriers = [rpc.input] if rpc.batch_item is None else [rpc.input, rpc.batch_item]
    takes_request_id = any("request_id" in carrier.fields_by_name for carrier in carriers)

    assert takes_request_id or not rpc.idempotent
    assert rpc.idempotent or rpc.batch_item is not None or not takes_request_id


@each_rpc
def test_mutations_of_people_are_idempotent(rpc: Rpc) -> None:
    """A stream of requests goes on where a call with a request_id began, at a stated place."""
    by_people = rpc.access.HasField("customer") or rpc.access.HasField("operator")
    reads = rpc.name.startswith(("Get", "List", "Watch", "Explain", "BatchGet", "Export", "Download"))

    assert rpc.idempotent or reads or rpc.method.client_streaming or not by_people


@pytest.mark.parametrize("rpc", [rpc for rpc in DECLARED if rpc.batch_item is not None], ids=str)
def test_items_of_a_batch_are_checked_one_by_one(rpc: Rpc) -> None:
    assert rpc.batch_item is not None
    items = rules(rpc.input.fields_by_name["items"])
    results = rpc.method.output_type.fields_by_name["results"].message_type

    assert items.repeated.items.ignore != 0, "the interceptor would refuse all for one"
    assert items.repeated.max_items <= 128
    assert {field.name for field in results.oneofs_by_name["outcome"].fields} == {"response", "error"}
    assert "trace_parent" in rpc.batch_item.fields_by_name


@each_rpc
def test_secrets_and_content_are_marked_for_redaction(rpc: Rpc) -> None:
    open_fields = {
        field.full_name
        for message in (rpc.input, rpc.method.output_type)
        for field in fields_of(message)
        if field.name in SECRETS and not field.GetOptions().debug_redact and not _is_parted(field)
    }

    assert open_fields == set()


def test_every_hot_rpc_has_a_batch_form() -> None:
    names = {rpc.name for rpc in DECLARED}

    assert {name for name in HOT if f"Batch{name}" not in names} == set()


@pytest.mark.parametrize("file", list(rpcs.files()), ids=lambda file: file.name)
def test_every_element_of_the_contract_is_commented(file: FileDescriptorProto) -> None:
    comments = {
        tuple(place.path): place.leading_comments.strip()
        for place in file.source_code_info.location
        if place.leading_comments.strip()
    }

    assert [name for name, path in _elements(file) if path not in comments] == []


@each_rpc
def test_every_rpc_names_its_errors_by_reasons_that_exist(rpc: Rpc) -> None:
    known = {
        name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    codes = {"NOT_FOUND", "INVALID_ARGUMENT"}
    comment = _comment_of(rpc)
    _, _, errors = comment.partition("Error")
    named = {word for word in re.findall(r"with ([A-Z]+(?:_[A-Z]+)+)", errors) if word not in codes}

    assert named <= known


def _comment_of(rpc: Rpc) -> str:
    for file in rpcs.files():
        for number, service in enumerate(file.service):
            if f"{file.package}.{service.name}" != rpc.service:
                continue
            index = [method.name for method in service.method].index(rpc.name)
            for place in file.source_code_info.location:
                if list(place.path) == [6, number, 2, index]:
                    return place.leading_comments
    return ""


def _elements(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and paths of everything in a file that a reader may ask about."""
    for number, message in enumerate(file.message_type):
        yield from _elements_of_message(message, (4, number))
    for number, enum in enumerate(file.enum_type):
        yield from _elements_of_enum(enum, (5, number))
    for number, service in enumerate(file.service):
        yield service.name, (6, number)
        for index, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (6, number, 2, index)
    for number, extension in enumerate(file.extension):
        yield extension.name, (7, number)


def _elements_of_message(
    message: DescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    if message.options.map_entry:
        return
    yield message.name, path
    for number, field in enumerate(message.field):
        yield f"{message.name}.{field.name}", (*path, 2, number)
    for number, nested in enumerate(message.nested_type):
        yield from _elements_of_message(nested, (*path, 3, number))
    for number, enum in enumerate(message.enum_type):
        yield from _elements_of_enum(enum, (*path, 4, number))


def _elements_of_enum(
    enum: EnumDescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield enum.name, path
    for number, value in enumerate(enum.value):
        yield value.name, (*path, 2, number)


def _is_parted(field: FieldDescriptor) -> bool:
    """Whether a field is a message whose own fields are marked."""
    if field.message_type is None:
        return False
    return any(part.GetOptions().debug_redact for part in field.message_type.fields)


def _element(field: FieldDescriptor) -> Any:
    """The rules of a field, or of each of its elements."""
    return rules(field).repeated.items if is_repeated(field) else rules(field)


def _is_bounded(field: FieldDescriptor) -> bool:
    if is_map(field):
        rule, entry = rules(field).map, field.message_type.fields_by_name
        parts = ((entry["key"], rule.keys), (entry["value"], rule.values))
        return rule.HasField("max_pairs") and all(_is_value_bounded(part, of) for part, of in parts)
    if is_repeated(field) and not rules(field).repeated.HasField("max_items"):
        return False
    return _is_value_bounded(field, _element(field))


def _is_value_bounded(field: FieldDescriptor, rule: Any) -> bool:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _is_text_bounded(rule.string)
        case FieldDescriptor.TYPE_BYTES:
            return any(rule.bytes.HasField(bound) for bound in ("max_len", "len"))
        case FieldDescriptor.TYPE_MESSAGE if field.message_type.full_name == "google.protobuf.Duration":
            return rule.duration.HasField("gte") and rule.duration.HasField("lte")
        case FieldDescriptor.TYPE_MESSAGE if field.message_type.full_name == "google.protobuf.Timestamp":
            bound = rule.timestamp
            return any(map(bound.HasField, ("gt", "gte"))) and any(map(bound.HasField, ("lt", "lte")))
        case kind if kind in _SIGNED:
            bound = getattr(rule, _SIGNED[kind])
            above = bound.HasField("lt") or bound.HasField("lte") or field.name in NO_UPPER_BOUND
            return above and (bound.HasField("gt") or bound.HasField("gte"))
        case kind if kind in _UNSIGNED:
            bound = getattr(rule, _UNSIGNED[kind])
            return bound.HasField("lt") or bound.HasField("lte")
        case kind if kind in _FLOATS:
            bound = getattr(rule, _FLOATS[kind])  # what lies between two bounds is finite
            between = any(map(bound.HasField, ("gt", "gte"))) and any(map(bound.HasField, ("lt", "lte")))
            return bool(bound.finite) or between
        case _:
            return True


def _is_text_bounded(rule: Any) -> bool:
    """Whether a text has a greatest length: stated, by list, by form, or by a pattern without repetition."""
    if (
        getattr(rule, "in")
        or any(rule.HasField(bound) for bound in _LENGTHS)
        or any(getattr(rule, form, False) for form in _SHORT_FORMS)
    ):
        return True
    pattern = re.sub(r"\\.|\[[^]]*\]", "", str(rule.pattern))  # within a class, * and + are themselves
    return pattern.startswith("^") and pattern.endswith("$") and not re.search(r"[*+]|,\}", pattern)
