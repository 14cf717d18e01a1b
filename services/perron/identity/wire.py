"""Enums, sets and instants as messages hold them; what both conversions share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import principal_pb2

_US_PER_SECOND: Final = 1_000_000


def numbers(enum: Any, prefix: str) -> dict[str, Any]:
    """Returns the numbers of an enum by its names without their prefix.

    As Any: the generated stubs give the numbers of each enum a type of their own.
    """
    return {name.removeprefix(prefix): number for name, number in enum.items()}


SCOPES: Final = numbers(roles_pb2.Scope, "SCOPE_")
ORGANIZATION_ROLES: Final = numbers(roles_pb2.OrganizationRole, "ORGANIZATION_ROLE_")
WORKSPACE_ROLES: Final = numbers(roles_pb2.WorkspaceRole, "WORKSPACE_ROLE_")
OPERATOR_ROLES: Final = numbers(roles_pb2.OperatorRole, "OPERATOR_ROLE_")
TERMS_CLASSES: Final = numbers(roles_pb2.TermsClass, "TERMS_CLASS_")
KINDS: Final = numbers(principal_pb2.PrincipalKind, "PRINCIPAL_KIND_")

SCOPE_NAMES: Final = {number: name for name, number in SCOPES.items()}
OPERATOR_ROLE_NAMES: Final = {number: name for name, number in OPERATOR_ROLES.items()}
ORGANIZATION_ROLE_NAMES: Final = {number: name for name, number in ORGANIZATION_ROLES.items()}
WORKSPACE_ROLE_NAMES: Final = {number: name for name, number in WORKSPACE_ROLES.items()}


def in_order(numbers: Mapping[str, int], names: Iterable[str]) -> Sequence[Any]:
    """Returns a set of enum names as numbers, in their order."""
    return sorted(numbers[name] for name in names)


def time(us: int | None) -> Timestamp | None:
    """Writes an instant; nothing for None."""
    return None if us is None else Timestamp(seconds=us // _US_PER_SECOND, nanos=us % _US_PER_SECOND * 1000)


def us(time: Timestamp) -> int:
    """Reads an instant."""
    return time.seconds * _US_PER_SECOND + time.nanos // 1000
