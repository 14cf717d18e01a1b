"""Callers, and what the contract lets them do."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perron.api.common.v1 import access_pb2

if TYPE_CHECKING:
    from tests.attacks.things import Things


@dataclass(frozen=True, slots=True)
class Person:
    """One caller and what it may do. Roles and scopes are numbers of the contract's enums."""

    name: str
    kind: str
    secret: str = field(repr=False)
    key_id: str = ""
    member_id: str = ""
    scopes: frozenset[int] = frozenset()
    organization_role: int = 0
    workspace_role: int = 0
    operator_roles: frozenset[int] = frozenset()
    service: str = ""

    def __str__(self) -> str:
        return self.name

    def may_call(self, access: access_pb2.Access) -> bool:
        """Whether the contract lets this caller in; what it may see there is another question."""
        match self.kind:
            case _ if access.public:
                return True
            case "customer" if access.HasField("customer"):
                rule = access.customer
                scoped = not rule.scope or rule.scope in self.scopes
                roles = rule.organization_roles or rule.workspace_roles
                fits = (
                    self.organization_role in rule.organization_roles
                    or self.workspace_role in rule.workspace_roles
                )
                return scoped and (not roles or fits)
            case "operator" if access.HasField("operator"):
                return not access.operator.roles or bool(self.operator_roles & set(access.operator.roles))
            case "service" if access.HasField("service"):
                return "*" in access.service.names or self.service in access.service.names
            case _:
                return False


@dataclass(slots=True)
class Tenant:
    """One organization: its people, what it has for good, and what attacks may use up."""

    name: str
    organization_id: str
    workspace_id: str
    admin: Person
    people: dict[str, Person] = field(default_factory=dict)
    ids: "Things" = field(init=False)
    spare: "Things" = field(init=False)
