"""The list of error reasons is closed and alive: each is raised somewhere, and nothing else is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perron.api.common.v1 import error_reason_pb2
from tests import rpcs

SERVICES = rpcs.ROOT / "services" / "perron"
PREFIX = "ERROR_REASON_"
REASONS = sorted(
    name.removeprefix(PREFIX)
    for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    if not name.endswith("UNSPECIFIED")
)
ERRORS = frozenset(
    {
        "Aborted",
        "AlreadyExists",
        "DeadlineExceeded",
        "FailedPrecondition",
        "Internal",
        "InvalidArgument",
        "NotFound",
        "PermissionDenied",
        "ResourceExhausted",
        "Unauthenticated",
        "Unavailable",
    }
)
CODES = (
    "ABORTED|ALREADY_EXISTS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|INVALID_ARGUMENT|NOT_FOUND|"
    "PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|UNAVAILABLE|In a body, not an error"
)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_used_somewhere(reason: str) -> None:
    assert any(reason in literals(path) or PREFIX + reason in names(path) for path in sources())


def test_every_error_is_raised_with_a_reason_of_the_list() -> None:
    strangers = {
        f"{path.relative_to(SERVICES)}:{line} {reason}"
        for path in sources()
        for line, reason in raised(path)
        if reason and reason not in REASONS
    }

    assert strangers == set()


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_names_its_code_and_an_example(reason: str) -> None:
    comment = comments()[PREFIX + reason]

    assert re.match(rf"({CODES}): ", comment)
    assert re.search(r"\bExample: .+\.$", comment)


def comments() -> dict[str, str]:
    """The comment of each value of the enum, as one line."""
    file = next(file for file in rpcs.files() if file.name.endswith("error_reason.proto"))
    enum = file.enum_type[0]
    return {
        enum.value[place.path[3]].name: " ".join(place.leading_comments.split())
        for place in file.source_code_info.location
        if list(place.path[:3]) == [5, 0, 2]
    }


def sources() -> Iterator[Path]:
    """The code of the services; what the command line or the client says does not count."""
    for path in sorted(SERVICES.rglob("*.py")):
        if path.relative_to(SERVICES).parts[0] not in {"cli", "client"}:
            yield path


def literals(path: Path) -> set[str]:
    """The texts in a module."""
    return {
        node.value
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def names(path: Path) -> set[str]:
    """The attributes that a module reads, as `error_reason_pb2.ERROR_REASON_…`."""
    return {node.attr for node in ast.walk(_tree(path)) if isinstance(node, ast.Attribute)}


def raised(path: Path) -> Iterator[tuple[int, str]]:
    """Line and reason of each error that a module makes with a reason written out."""
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if name in ERRORS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield node.lineno, first.value


_TREES: dict[Path, ast.Module] = {}


def _tree(path: Path) -> ast.Module:
    if path not in _TREES:
        _TREES[path] = ast.parse(path.read_text("utf-8"), str(path))
    return _TREES[path]
