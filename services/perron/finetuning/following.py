"""What finetuning makes of the events of others.

Of identity's: a workspace that was deleted takes its jobs, models and files along. Of governance's: zero
retention that was approved binds to jobs what files there are.
"""

from collections.abc import Callable

from perron.chassis.database import Transaction
from perron.chassis.events import Event
from perron.finetuning.file_store import FileStore
from perron.finetuning.jobs import Jobs
from perron.finetuning.models import Models

Follow = Callable[[Transaction, Event], None]
_ENDS = frozenset({"workspace.deleted", "organization.terminated"})


def of_identity(jobs: Jobs, models: Models) -> Follow:
    """Returns what applies one event of identity; harmless when it has been applied before."""

    def follow(tx: Transaction, event: Event) -> None:
        store = FileStore(tx)
        if event.kind in _ENDS:
            tenant = (event.organization_id, event.workspace_id)
            store.bury(*tenant)  # waits for writers that found it alive, and is seen by all that come later
            jobs.workspace_gone(store, *tenant)
            models.workspace_gone(store, *tenant)
            store.end_tenant(*tenant)
        elif event.kind == "organization.plan_changed":
            store.follow_subscription(event.organization_id, event.resource_id)

    return follow


def of_governance(tx: Transaction, event: Event) -> None:
    """Applies one event of governance; harmless when it has been applied before."""
    if event.kind == "directive.zero_retention_approved":
        FileStore(tx).bind_to_jobs(event.organization_id, event.workspace_id)
