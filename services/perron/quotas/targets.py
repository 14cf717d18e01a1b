"""Whose limits a caller asks about: whether they exist in that organization, and are the caller's to see.

A workspace is known here once it has reserved; before that, identity is asked in the same call. A key is
known from its creation on, once its event has arrived. Another tenant's id answers as one that was never
given out.
"""

from dataclasses import replace
from typing import Protocol

from perron.chassis.database import Database
from perron.chassis.interceptors.access import Caller, CallerKind
from perron.quotas import errors
from perron.quotas.counters import Counters
from perron.quotas.model import LimitScope, Target
from perron.quotas.store import Store

READERS = frozenset({"ADMIN", "AUDITOR"})
ADMINISTRATORS = frozenset({"ADMIN"})
ANYONE = frozenset({"ADMIN", "AUDITOR", "MEMBER"})


class Workspaces(Protocol):
    """Knows workspaces; identity does."""

    async def organization_of(self, workspace_id: str) -> str:
        """Returns the organization of a workspace, empty where it does not exist. Raises Unavailable."""
        ...


class Targets:
    """Finds targets; every method of a customer that names one comes through here."""

    def __init__(self, database: Database, workspaces: Workspaces) -> None:
        self._database = database
        self._workspaces = workspaces

    async def find(self, caller: Caller, target: Target) -> Target:
        """Returns the target with the workspace of its key filled in. Raises NotFound."""
        if caller.kind is CallerKind.CUSTOMER and target.organization_id != caller.organization_id:
            raise errors.not_found()
        others = [
            each
            for each in (target.workspace_id, target.key_id)
            if each not in {"", caller.workspace_id, caller.key_id}
        ]
        known: dict[str, Counters] = {}
        if others:
            known = await self._database.read(lambda tx: Store(tx).counters(others))
        known = {row.id: row for row in known.values() if row.organization_id == target.organization_id}
        if target.key_id:
            own = caller.kind is CallerKind.CUSTOMER and target.key_id == caller.key_id
            if not own and target.key_id not in known:
                raise errors.not_found()
            workspace_id = caller.workspace_id if own else known[target.key_id].workspace_id
            if target.workspace_id not in {"", workspace_id}:
                raise errors.not_found()
            return replace(target, workspace_id=workspace_id)
        if target.workspace_id in known or target.workspace_id in {"", caller.workspace_id}:
            return target
        if await self._workspaces.organization_of(target.workspace_id) != target.organization_id:
            raise errors.not_found()
        return target


def authorize(
    caller: Caller, target: Target, *, beyond: frozenset[str], organization: frozenset[str]
) -> None:
    """Raises PermissionDenied with ROLE_MISSING unless the caller's role reaches the target.

    Its own workspace is always reached. `beyond` are the roles in the organization that reach every workspace
    of it, `organization` those that reach the organization itself. Operators reach everything that their role
    lets them ask for.
    """
    if caller.kind is CallerKind.OPERATOR:
        return
    if target.scope is LimitScope.ORGANIZATION:
        if caller.organization_role not in organization:
            raise errors.role_missing()
    elif target.workspace_id != caller.workspace_id and caller.organization_role not in beyond:
        raise errors.role_missing()
