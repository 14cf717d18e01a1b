"""Suspensions: the record of when a limit stopped use, and until when.

One is opened at the first refusal of a limit, and closed when its time passes or when a call as costly is
admitted again, whatever changed in between: plan, limit or usage. What a newcomer gets wrong: nothing asks it
whether a call is admitted, so a record that is wrong can neither suspend anybody nor let anybody through.
"""

from typing import TYPE_CHECKING

from perron.chassis.ids import IdSource
from perron.quotas.counters import Counters, OpenSuspension
from perron.quotas.errors import Refusal
from perron.quotas.model import Limit, LimitScope, Origin, Suspension, Target

if TYPE_CHECKING:
    from perron.quotas.store import Store

_PREFIX = "sus"


class Suspensions:
    """What one transaction opens, prolongs and closes."""

    def __init__(self, new_id: IdSource) -> None:
        self._new_id = new_id
        self.opened: list[Suspension] = []
        self.prolonged: list[tuple[int, str]] = []
        self.closed: list[tuple[int, str]] = []

    def refused(self, counters: Counters, refusal: Refusal, now_us: int) -> None:
        """Records that a limit of `counters` refused a call that waiting would help."""
        limit = refusal.limit
        known = counters.suspended.get(limit.key)
        if known is not None:
            if refusal.admits_us > known.reset_us:
                known.reset_us = refusal.admits_us
                known.cost = max(known.cost, refusal.cost)
                counters.changed = True
                self.prolonged.append((known.reset_us, known.suspension_id))
            return
        suspension_id = self._new_id(_PREFIX)
        counters.suspended[limit.key] = OpenSuspension(
            *limit.key, suspension_id=suspension_id, cost=refusal.cost, reset_us=refusal.admits_us
        )
        counters.changed = True
        self.opened.append(
            Suspension(suspension_id, _target(counters), limit, create_us=now_us, reset_us=refusal.admits_us)
        )

    def admitted(self, counters: Counters, limit: Limit, cost: int, now_us: int) -> None:
        """Closes the suspension of a limit that admitted a call, unless a costlier one opened it."""
        known = counters.suspended.get(limit.key)
        if known is None or cost < known.cost:
            return
        del counters.suspended[limit.key]
        counters.changed = True
        self.closed.append((now_us, known.suspension_id))


def lift(store: "Store", organization_id: str, origin: Origin) -> None:
    """Closes the open suspensions by limits of one origin, because these limits have changed.

    A limit that still binds opens another at its next refusal.
    """
    found = store.open_suspensions(organization_id, origin)
    if not found:
        return
    rows = store.lock_counters_of([each.target for each in found])
    lifted = {each.id for each in found}
    for counters in rows.values():
        counters.suspended = {
            key: known for key, known in counters.suspended.items() if known.suspension_id not in lifted
        }
        counters.changed = True
    now_us = max(store.now_us(), *(counters.last_us for counters in rows.values()))
    store.save_counters(rows.values(), now_us)
    store.close_suspensions([(now_us, suspension_id) for suspension_id in sorted(lifted)])


def _target(counters: Counters) -> Target:
    key_id = counters.id if counters.scope is LimitScope.KEY else ""
    workspace_id = "" if counters.scope is LimitScope.ORGANIZATION else counters.workspace_id
    return Target(counters.organization_id, workspace_id, key_id)
