"""Errors keep their meaning over the wire."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from perron.chassis import errors, status
from perron.chassis.errors import PerronError

KINDS = [
    errors.Aborted,
    errors.AlreadyExists,
    errors.DeadlineExceeded,
    errors.FailedPrecondition,
    errors.Internal,
    errors.InvalidArgument,
    errors.NotFound,
    errors.PermissionDenied,
    errors.ResourceExhausted,
    errors.Unauthenticated,
    errors.Unavailable,
]


def there_and_back(error: PerronError) -> PerronError:
    return status.from_status(status_pb2.Status.FromString(status.to_status(error).SerializeToString()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_back_as_itself(kind: type[PerronError]) -> None:
    sent = kind(
        "LIMIT_REACHED",
        "too much",
        field="tokens",
        metadata={"limit": "7"},
        retry_after=timedelta(seconds=3),
        quota=[errors.QuotaViolation("key", "7 a minute")],
        preconditions=[errors.Precondition("TERMS", "org", "accept")],
        resource=("limit", "x"),
        help_url="https://example.com/limits",
    )
    got = there_and_back(sent)
    assert type(got) is kind
    for name in (
        "reason",
        "message",
        "metadata",
        "retry_after",
        "violations",
        "quota",
        "preconditions",
        "resource",
        "help_url",
    ):
        assert getattr(got, name) == getattr(sent, name), name


def test_every_class_of_the_tree_has_a_code_of_its_own() -> None:
    assert {kind.code for kind in KINDS} == {kind.code for kind in PerronError.__subclasses__()}
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@given(st.text(max_size=5000), st.lists(st.text(max_size=400), max_size=40))
def test_a_status_stays_small_enough_for_a_header(message: str, fields: list[str]) -> None:
    violations = [errors.FieldViolation(field, field * 3) for field in fields]
    error = errors.InvalidArgument("FIELD_INVALID", message, violations=violations)
    sent = status.to_status(error)
    assert sent.ByteSize() <= 1024 + 300 * 4
    assert status.from_status(sent).reason == "FIELD_INVALID", "the reason is never what is left out"


def test_another_domains_details_give_no_reason() -> None:
    foreign = status_pb2.Status(code=5, message="gone")
    assert status.from_status(foreign).reason == ""
    assert isinstance(status.from_status(foreign), errors.NotFound)
