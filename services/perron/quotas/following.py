"""What quotas makes of identity's events: keys are known from their creation on, dead workspaces buried."""

from perron.chassis.database import Transaction
from perron.chassis.events import Event
from perron.quotas.model import LimitScope
from perron.quotas.store import CountersKey, Store


def follow_identity(tx: Transaction, event: Event) -> None:
    """Applies one event; harmless when it has been applied before."""
    store = Store(tx)
    if event.kind == "api_key.created" and event.organization_id:
        key = CountersKey(LimitScope.KEY, event.resource_id, event.organization_id, event.workspace_id)
        store.make_counters([key])
    elif event.kind == "workspace.deleted":
        store.bury(event.organization_id, event.workspace_id)
