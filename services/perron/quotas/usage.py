"""Reading: which limits hold for somebody, and what was used of them."""

from perron.quotas import errors
from perron.quotas.counters import Counters
from perron.quotas.limits import Limits
from perron.quotas.model import Limit, LimitScope, LimitStatus, Suspension, Target
from perron.quotas.store import Store
from perron.quotas.windows import Instant


class Usage:
    """Reads what reservations wrote, without a lock: an answer may be older than the next one's truth."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def limits(self, store: Store, target: Target, tier: str) -> tuple[str, list[Limit]]:
        """Returns the limits of the organization and of its workspace and key where named, and their tier.

        An empty `tier` stands for that of the organization's latest reservation. Raises NotFound where the
        workspace was deleted, FailedPrecondition with TIER_UNKNOWN.
        """
        tier, rows = self._rows(store, target, tier)
        return tier, [limit for row in rows for limit in self._limits.effective(tier, row.scope, row.rules)]

    def statuses(self, store: Store, target: Target, tier: str) -> list[LimitStatus]:
        """Returns where each of those limits stands; raises as `limits`."""
        tier, rows = self._rows(store, target, tier)
        now = Instant(max(store.now_us(), *(row.last_us for row in rows)))
        statuses = []
        for row in rows:
            row.move_to(now)
            for limit in self._limits.effective(tier, row.scope, row.rules):
                counter = row.counter(limit.key)
                statuses.append(LimitStatus(limit, counter.total, counter.returns_us()))
        return statuses

    @staticmethod
    def suspension(store: Store, organization_id: str, suspension_id: str) -> Suspension:
        """Returns one suspension; raises NotFound."""
        suspension = store.suspension(organization_id, suspension_id)
        if suspension is None:
            raise errors.not_found()
        return suspension

    @staticmethod
    def _rows(store: Store, target: Target, tier: str) -> tuple[str, list[Counters]]:
        store.refuse_buried(target.organization_id, target.workspace_id)
        wanted = {
            LimitScope.ORGANIZATION: target.organization_id,
            LimitScope.WORKSPACE: target.workspace_id,
            LimitScope.KEY: target.key_id,
        }
        found = store.counters([scope_id for scope_id in wanted.values() if scope_id])
        rows = [
            found.get(scope_id) or Counters(scope, scope_id, target.organization_id, target.workspace_id)
            for scope, scope_id in wanted.items()
            if scope_id
        ]
        return tier or rows[0].tier, rows
