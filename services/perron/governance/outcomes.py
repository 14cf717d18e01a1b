"""Outcomes and their meet: the one way in which governance ever combines two rules.

`meet` keeps what both sides permit: purposes intersect, the earlier deadline and licence end hold, training
needs both, and the clauses of both explain it. It is commutative, associative and idempotent, and its result
permits nothing that either side does not; so in whatever order rules and directives are applied, the answer
is the same and never wider.
"""

import functools
from typing import Final

from perron.governance.model import (
    AppliedClause,
    ClauseReason,
    Deadline,
    DeadlineKind,
    LicenceEnd,
    Outcome,
    Permission,
    Purpose,
)

MOST_RESTRICTIVE: Final = Outcome(
    permissions=(Permission(Purpose.PROVIDE_SERVICES, (Deadline(DeadlineKind.IN_FLIGHT),)),),
    training_eligible=False,
    licence_end=LicenceEnd.WITH_EXCHANGE,
    clauses=(AppliedClause("", ClauseReason.RULE_MISSING),),
)
"""The answer where no rule answers."""

_PURPOSES: Final = tuple(Purpose)
_DEADLINES: Final = tuple(DeadlineKind)
_LICENCE_ENDS: Final = tuple(LicenceEnd)  # declared from the earliest to the latest


@functools.lru_cache(maxsize=4096)
def meet(one: Outcome, other: Outcome) -> Outcome:
    """Returns what both outcomes permit."""
    deadlines = {permission.purpose: permission.deadlines for permission in other.permissions}
    shared = (
        Permission(permission.purpose, earliest((*permission.deadlines, *deadlines[permission.purpose])))
        for permission in one.permissions
        if permission.purpose in deadlines
    )
    return Outcome(
        permissions=tuple(sorted(shared, key=lambda permission: _PURPOSES.index(permission.purpose))),
        training_eligible=one.training_eligible and other.training_eligible,
        licence_end=min(one.licence_end, other.licence_end, key=_LICENCE_ENDS.index),
        clauses=united((*one.clauses, *other.clauses)),
    )


def earliest(deadlines: tuple[Deadline, ...]) -> tuple[Deadline, ...]:
    """Reduces deadlines to those that can be the first.

    The exchange itself ends before anything else does: it is cut at 24 hours, days start at one, and it may
    finish although its subscription has just ended.
    """
    kinds = {deadline.kind for deadline in deadlines}
    if DeadlineKind.IN_FLIGHT in kinds:
        return (Deadline(DeadlineKind.IN_FLIGHT),)
    days = min((deadline.days for deadline in deadlines if deadline.kind is DeadlineKind.TIME), default=0)
    return tuple(
        Deadline(kind, days if kind is DeadlineKind.TIME else 0)
        for kind in sorted(kinds, key=_DEADLINES.index)
    )


def united(clauses: tuple[AppliedClause, ...]) -> tuple[AppliedClause, ...]:
    """Returns each clause once, in the order of their ids."""
    return tuple(sorted(set(clauses), key=lambda applied: (applied.clause, applied.reason)))


def without_training(outcome: Outcome) -> Outcome:
    """Returns the outcome without IMPROVE_SERVICES and without eligibility."""
    return Outcome(
        permissions=tuple(one for one in outcome.permissions if one.purpose is not Purpose.IMPROVE_SERVICES),
        training_eligible=False,
        licence_end=outcome.licence_end,
        clauses=outcome.clauses,
    )


def is_kept(outcome: Outcome) -> bool:
    """Tells whether any purpose outlasts the exchange, so that its content may be kept at all."""
    in_flight = Deadline(DeadlineKind.IN_FLIGHT)
    return any(in_flight not in permission.deadlines for permission in outcome.permissions)
