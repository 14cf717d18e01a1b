"""What agents makes of identity's events.

A member who leaves is taken out of every agent's sharing, which stays as narrow as it was; what a dead
workspace said to its agents is erased; a change of plan is looked at later, as the event does not say what
the plan gives.
"""

from perron.agents.erasing_store import ErasingStore
from perron.agents.plan_store import PlanStore
from perron.agents.sharing_store import SharingStore
from perron.chassis import tombstones
from perron.chassis.database import Transaction
from perron.chassis.events import Event


def follow_identity(tx: Transaction, event: Event) -> None:
    """Applies one event; harmless when it has been applied before."""
    if event.kind == "member.removed":
        SharingStore(tx).forget_member(event.organization_id, event.workspace_id, event.resource_id)
    elif event.kind == "organization.plan_changed":
        PlanStore(tx).hear(event.organization_id)
    elif event.kind == "workspace.deleted":
        tombstones.bury(tx, organization_id=event.organization_id, workspace_id=event.workspace_id)
        ErasingStore(tx).end_workspaces(event.organization_id, event.workspace_id)
    elif event.kind == "organization.terminated":
        tombstones.bury(tx, organization_id=event.organization_id)
        ErasingStore(tx).end_workspaces(event.organization_id)
