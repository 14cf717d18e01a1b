"""What quotas makes of identity's events.

Keys are known from their creation on, a change of plan lifts what its limits suspended, dead workspaces are
buried.
"""

from perron.chassis.database import Transaction
from perron.chassis.events import Event
from perron.quotas import suspensions
from perron.quotas.model import LimitScope, Origin
from perron.quotas.store import CountersKey, Store


def follow_identity(tx: Transaction, event: Event) -> None:
    """Applies one event; harmless when it has been applied before."""
    store = Store(tx)
    if event.kind == "api_key.created" and event.organization_id:
        key = CountersKey(LimitScope.KEY, event.resource_id, event.organization_id, event.workspace_id)
        store.make_counters([key])
    elif event.kind == "organization.plan_changed":
        suspensions.lift(store, event.organization_id, Origin.PLAN)
    elif event.kind == "workspace.deleted":
        store.bury(event.organization_id, event.workspace_id)
