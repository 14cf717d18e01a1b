"""Tombstones: what was deleted for good, so that nothing late brings a tenant back.

Every write transaction calls `refuse` (a hot batch: `buried`) before it writes for an organization or
workspace. The check holds until the commit: `bury` waits for writers that have passed it, and writers that
come later see the tombstone. A plain read would not do: a writer that read "not buried" could commit after
the content was swept.
"""

import hashlib
import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import text

from perron.chassis.database import Transaction
from perron.chassis.errors import NotFound

# Text, because every hot batch asks: building the query costs SQLAlchemy ten times what running it costs.
_BURIED: Final = "SELECT organization_id, workspace_id FROM tombstones WHERE organization_id "
_AMONG: Final = "IN (SELECT value FROM json_each(?))"
_SHARE: Final = text(
    "SELECT count(pg_advisory_xact_lock_shared(key)) FROM unnest(CAST(:keys AS bigint[])) AS key"
)
_EXCLUDE: Final = text("SELECT pg_advisory_xact_lock(:key)")
_BURY: Final = text(
    "INSERT INTO tombstones (organization_id, workspace_id, create_time) "
    "VALUES (:organization_id, :workspace_id, :create_time) ON CONFLICT DO NOTHING"
)


def refuse(tx: Transaction, *, organization_id: str, workspace_id: str = "") -> None:
    """Raises NotFound if the organization, or the workspace within it, is buried; holds until the commit."""
    graves = buried(tx, [organization_id])
    if (organization_id, "") in graves or (organization_id, workspace_id) in graves:
        raise NotFound("RESOURCE_NOT_FOUND", "the organization or workspace does not exist")


def buried(tx: Transaction, organization_ids: Collection[str]) -> frozenset[tuple[str, str]]:
    """Returns the (organization, workspace) pairs buried in these organizations; holds until the commit.

    A pair with an empty workspace stands for the whole organization.
    """
    wanted = sorted(set(organization_ids))
    rows: Any
    if tx.dialect == "postgresql":
        # Sorted, so that two batches never wait for each other crosswise; count() so that it is one row.
        tx.execute(_SHARE, {"keys": sorted(map(_lock_key, wanted))})
        rows = tx.driver_execute(_BURIED + "= ANY(%s)", (wanted,))
    else:
        rows = tx.driver_execute(_BURIED + _AMONG, (json.dumps(wanted),))
    return frozenset((organization_id, workspace_id) for organization_id, workspace_id in rows)


def bury(tx: Transaction, *, organization_id: str, workspace_id: str = "") -> None:
    """Writes the tombstone; the first statement of its transaction, since it waits for writers in flight."""
    hold_alone(tx, organization_id)
    tx.execute(
        _BURY,
        {"organization_id": organization_id, "workspace_id": workspace_id, "create_time": tx.now_us()},
    )


def hold_alone(tx: Transaction, organization_id: str) -> None:
    """Waits for writers that have passed `refuse` or `buried`, and keeps later ones waiting until the commit.

    For whatever else must hold from its acknowledgement on; the first statement of its transaction.
    """
    if tx.dialect == "postgresql":  # SQLite has one writer
        tx.execute(_EXCLUDE, {"key": _lock_key(organization_id)})


def _lock_key(organization_id: str) -> int:
    digest = hashlib.blake2b(organization_id.encode(), digest_size=8, person=b"tombstone").digest()
    return int.from_bytes(digest, "big", signed=True)
