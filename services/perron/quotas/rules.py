"""Changes of limits: caps by customers, overrides by operators.

A change rewrites one packed value in the row that holds the counters; it touches no counter, and the next
reservation, which locks that row, obeys it.
"""

from perron.chassis.interceptors.access import Call
from perron.quotas.limits import Rule, RuleKind, Rules, make_limit
from perron.quotas.model import CounterKey, Limit, LimitScope, Origin, Target
from perron.quotas.store import CountersKey, Store

_ORIGINS = {RuleKind.CAP: Origin.CAP, RuleKind.OVERRIDE: Origin.OVERRIDE}


def set_rule(store: Store, call: Call, kind: RuleKind, target: Target, rule: Rule) -> Limit:
    """Sets a cap or an override; returns it as it stands.

    Raises NotFound where the workspace was deleted, FailedPrecondition with LIMITS_TOO_MANY.
    """
    repeated = store.once(call, target.scope_id) is not None
    store.refuse_buried(target.organization_id, target.workspace_id)
    counters = store.lock_counters({target.scope_id: _row(target)})[target.scope_id]
    rules = Rules.unpack(counters.rules)
    if repeated:
        present = [each for each in rules.of(kind) if each.key == rule.key]
        return _limit(target, kind, present[0] if present else rule)
    counters.rules = rules.with_rule(kind, rule).pack()
    counters.changed = True
    store.save_counters([counters], counters.last_us)
    store.audit(call, target.scope_id, target.organization_id)
    return _limit(target, kind, rule)


def delete_rule(store: Store, call: Call, kind: RuleKind, target: Target, key: CounterKey) -> None:
    """Deletes a cap or an override; raises NotFound where there is none."""
    if store.once(call, target.scope_id) is not None:
        return
    store.refuse_buried(target.organization_id, target.workspace_id)
    counters = store.lock_counters({target.scope_id: _row(target)})[target.scope_id]
    counters.rules = Rules.unpack(counters.rules).without_rule(kind, key).pack()
    counters.changed = True
    store.save_counters([counters], counters.last_us)
    store.audit(call, target.scope_id, target.organization_id)


def _row(target: Target) -> CountersKey:
    workspace_id = "" if target.scope is LimitScope.ORGANIZATION else target.workspace_id
    return CountersKey(target.scope, target.scope_id, target.organization_id, workspace_id)


def _limit(target: Target, kind: RuleKind, rule: Rule) -> Limit:
    return make_limit(target.scope, rule.key, rule.amount, _ORIGINS[kind])
