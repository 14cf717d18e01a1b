"""What every store inherits, so that a mutation says in three lines what it owes beside its effect.

    class Store(Mutations):
        def rename(self, call, workspace_id, name): ...

    store.once(call, workspace.id)                            # first: has this request had its effect?
    store.audit(call, workspace.id, workspace.organization_id)
    store.publish("workspace.renamed", organization_id=workspace.organization_id, workspace_id=workspace.id)

All of it belongs to the one open transaction that the store is bound to.
"""

from typing import TYPE_CHECKING

from perron.chassis import audit, events, idempotency, tombstones
from perron.chassis.database import Transaction

if TYPE_CHECKING:
    from perron.chassis.interceptors.access import Call


class Mutations:
    """A store bound to one open transaction."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx

    def once(self, call: "Call", resource_id: str) -> str | None:
        """Claims the call's request_id; returns the id of the resource that an earlier call made, or None."""
        return idempotency.once(self.tx, call, resource_id)

    def audit(self, call: "Call", resource_id: str, organization_id: str, *, action: str = "") -> None:
        """Writes the audit entry of this mutation."""
        audit.append(self.tx, call, action=action, resource_id=resource_id, organization_id=organization_id)

    def publish(
        self,
        kind: str,
        *,
        organization_id: str,
        workspace_id: str = "",
        resource_id: str = "",
        version: int = 0,
    ) -> None:
        """Tells the other services what happened, once it has."""
        events.append(
            self.tx,
            kind,
            organization_id=organization_id,
            workspace_id=workspace_id,
            resource_id=resource_id,
            version=version,
        )

    def refuse_buried(self, organization_id: str, workspace_id: str = "") -> None:
        """Raises NotFound where the organization or workspace was deleted for good."""
        tombstones.refuse(self.tx, organization_id=organization_id, workspace_id=workspace_id)
