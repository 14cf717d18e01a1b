"""The two questions that every call of the suite asks, read in one statement each.

Statements are the driver's own text and rows its own tuples: at a hundred items a batch, SQLAlchemy's rows
and types would cost more than the database. Nothing read is kept; only the *reading of text* is: the same
row makes the same facts object.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from perron.chassis.database import Dialect, Transaction
from perron.identity.key_store import read_grant
from perron.identity.model import KeyFacts, KeyKind, OrganizationRole, OrganizationState, WorkspaceRole

_COLUMNS: Final = """k.key_id, k.kind, k.service_name, k.operator_roles, k.organization_id, k.workspace_id,
       k.owner_member_id, k.scopes, k.allowed_models, k.allowed_networks, k.expire_time, k.revoke_time,
       k.ancestors, m.organization_role, s.workspace_role, w.workspace_id, o.state, o.plan, o.subscription_id,
       o.accepted"""
_FROM_KEYS: Final = """
  FROM api_keys AS k
  LEFT JOIN organizations AS o ON o.organization_id = k.organization_id
  LEFT JOIN workspaces AS w ON w.workspace_id = k.workspace_id
  LEFT JOIN members AS m ON m.member_id = k.owner_member_id AND m.organization_id = k.organization_id
  LEFT JOIN memberships AS s ON s.workspace_id = k.workspace_id AND s.member_id = k.owner_member_id
 WHERE k."""
_STANDINGS: Final = """
SELECT w.workspace_id, w.organization_id, o.state, o.plan, o.subscription_id, o.accepted
  FROM workspaces AS w
  JOIN organizations AS o ON o.organization_id = w.organization_id
 WHERE w."""

StandingRow = tuple[str, str, str, str, str, str]
"""Workspace, organization, state, plan, subscription, accepted documents as JSON."""


class HotStore:
    """Reads for whole batches, on one snapshot."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def began_us(self) -> int:
        """Returns an instant not later than what is read here: the time of every answer of this batch."""
        return self._tx.began_us()

    def facts_by_digest(self, digests: Sequence[bytes]) -> dict[bytes, KeyFacts]:
        """Returns the facts of the keys stored under these digests."""
        return {digest: read_facts(row) for digest, row in self._facts("digest", digests)}

    def facts_by_id(self, key_ids: Sequence[str]) -> dict[str, KeyFacts]:
        """Returns the facts of the keys of these ids."""
        return {key_id: read_facts(row) for key_id, row in self._facts("key_id", key_ids)}

    def standings(self, workspace_ids: Sequence[str]) -> dict[str, StandingRow]:
        """Returns how the organizations of these workspaces stand, by workspace."""
        return {row[0]: row for row in self._rows(_STANDINGS, "workspace_id", workspace_ids)}

    def _facts(self, column: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        # One text instead of twenty values: a twentieth of the objects, and known again by one hash.
        as_text = (
            f"json_array({_COLUMNS})"
            if self._tx.dialect == "sqlite"
            else f"json_build_array({_COLUMNS})::text"
        )
        return self._rows(f"SELECT k.{column}, {as_text}{_FROM_KEYS}", column, values)

    def _rows(self, query: str, column: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        dialect = self._tx.dialect
        parameters = tuple(values) if dialect == "sqlite" else (list(values),)
        result = self._tx.driver_execute(_statement(dialect, query, column, len(values)), parameters)
        rows: list[tuple[Any, ...]] = result.cursor.fetchall()  # type: ignore[assignment]  # the driver's tuples
        result.close()
        return rows


@lru_cache(maxsize=1024)
def _statement(dialect: Dialect, query: str, column: str, count: int) -> str:
    if dialect == "postgresql":
        return f"{query}{column} = ANY(%s)"
    return f"{query}{column} IN ({', '.join('?' * count)})"


@lru_cache(maxsize=16_384)
def read_facts(row: str) -> KeyFacts:
    """Reads one row: a pure function, remembered because the same text is read many times a second."""
    (
        key_id,
        kind,
        service_name,
        operator_roles,
        organization_id,
        workspace_id,
        owner_member_id,
        scopes,
        models,
        networks,
        expire_us,
        revoke_us,
        ancestors,
        organization_role,
        workspace_role,
        workspace_found,
        organization_state,
        plan,
        subscription_id,
        accepted,
    ) = json.loads(row)
    return KeyFacts(
        key_id=key_id,
        kind=KeyKind(kind),
        service_name=service_name,
        operator_roles=frozenset(operator_roles.split()),
        organization_id=organization_id,
        workspace_id=workspace_id,
        owner_member_id=owner_member_id,
        grant=read_grant(scopes, models, networks, expire_us),
        revoked=revoke_us is not None,
        ancestors=tuple(ancestors.split()),
        organization_role=OrganizationRole(organization_role) if organization_role else None,
        workspace_role=WorkspaceRole(workspace_role) if workspace_role else None,
        workspace_exists=workspace_found is not None,
        organization_state=OrganizationState(organization_state) if organization_state else None,
        plan=plan or "",
        subscription_id=subscription_id or "",
        accepted=read_accepted(accepted) if accepted else {},
    )


@lru_cache(maxsize=4096)
def read_accepted(text: str) -> Mapping[str, str]:
    """Reads what an organization accepted: document → newest version."""
    accepted: dict[str, str] = json.loads(text)
    return MappingProxyType(accepted)
