"""Explanations: a decision in words, clause by clause, from the same rows that made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from perron.chassis.clock import from_us
from perron.governance.model import (
    ClauseReason,
    Deadline,
    DeadlineKind,
    Decision,
    LicenceEnd,
    Permission,
    Purpose,
    TermsClass,
)
from perron.governance.outcomes import is_kept
from perron.governance.terms import Rulebook

_PURPOSES: Final[Mapping[Purpose, str]] = {
    Purpose.PROVIDE_SERVICES: "It may be used to provide the services",
    Purpose.MONITOR_ABUSE: "It may be used to monitor abuse",
    Purpose.IMPROVE_SERVICES: "It may be used to improve the services",
    Purpose.LEGAL_OBLIGATION: "It is kept as the law requires",
}
_LICENCE_ENDS: Final[Mapping[LicenceEnd, str]] = {
    LicenceEnd.WITH_EXCHANGE: "Nothing is licensed beyond the exchange itself.",
    LicenceEnd.WITH_SUBSCRIPTION: "The licence ends with the subscription.",
    LicenceEnd.WITH_ACCOUNT: "The licence ends with the account.",
    LicenceEnd.WITH_RIGHTS: "The licence lasts as long as the rights in the data; "
    "erasing the data ends every use all the same.",
}
_REASONS: Final[Mapping[ClauseReason, str]] = {
    ClauseReason.FREE_PLAN: "The organization was on a free plan at that instant.",
    ClauseReason.PAID_PLAN: "The organization was on a paid plan at that instant.",
    ClauseReason.FINE_TUNED_MODEL: "A fine-tuned model serves its owner alone; to train on what it answers "
    "would distil it.",
    ClauseReason.AGENT: "An agent serves its owner alone.",
    ClauseReason.ZERO_RETENTION: "A zero-retention directive was in force.",
    ClauseReason.OPTED_OUT: "The customer opted out of training.",
    ClauseReason.RULE_MISSING: "No rule answers for this plan, data, channel or terms document, "
    "so the most restrictive holds.",
    ClauseReason.NEWER_TERMS_NOT_ACCEPTED: "Newer terms were in effect that had not been accepted, "
    "so the narrower of both holds.",
}


@dataclass(frozen=True, slots=True)
class ExplainedClause:
    """A clause in words, with why it applied."""

    clause: str
    text: str
    reason: ClauseReason
    reason_text: str


def sentences(decision: Decision) -> list[str]:
    """Returns what a decision means, sentence by sentence."""
    ruling, outcome = decision.ruling, decision.ruling.outcome
    plan = f"plan {ruling.plan}" if ruling.plan else "no known plan"
    under = (
        f"subscription {ruling.subscription_id}"
        if ruling.terms_class is TermsClass.PAID
        else "no subscription"
    )
    terms = f"terms of {ruling.terms_version}" if ruling.terms_version else "no terms that are loaded"
    as_of = from_us(decision.as_of_us).isoformat(timespec="seconds")
    kind = ruling.data_kind.lower().replace("_", " ")
    lines = [
        f"This {kind} by {ruling.channel} was judged as of {as_of}, on {plan} with {under}, by the {terms}."
    ]
    if not is_kept(outcome):
        lines.append("Nothing is retained beyond the exchange, except as required by law.")
    lines.extend(_permission(decision, permission) for permission in outcome.permissions)
    lines.append(
        "Models may be trained on it." if outcome.training_eligible else "Models are never trained on it."
    )
    lines.append(_LICENCE_ENDS[outcome.licence_end])
    return lines


def clauses(decision: Decision, rulebook: Rulebook) -> list[ExplainedClause]:
    """Returns the clauses of a decision with their texts in the version it was made by."""
    texts = {
        clause.clause: clause.text
        for terms in reversed(rulebook.terms)  # the newest version's text last, so that it stands
        if decision.ruling.terms_version in {"", terms.version}
        for clause in terms.clauses
    }
    return [
        ExplainedClause(
            applied.clause, texts.get(applied.clause, ""), applied.reason, _REASONS[applied.reason]
        )
        for applied in decision.ruling.outcome.clauses
    ]


def _permission(decision: Decision, permission: Permission) -> str:
    ends = " or ".join(_deadline(decision, deadline) for deadline in permission.deadlines)
    first = ", whichever comes first" if len(permission.deadlines) > 1 else ""
    return f"{_PURPOSES[permission.purpose]} {ends}{first}."


def _deadline(decision: Decision, deadline: Deadline) -> str:
    match deadline.kind:
        case DeadlineKind.IN_FLIGHT:
            return "while the exchange is in flight"
        case DeadlineKind.TIME:
            end = from_us(decision.as_of_us) + timedelta(days=deadline.days)
            return f"until {end.isoformat(timespec='seconds')} ({deadline.days} days)"
        case DeadlineKind.END_OF_SUBSCRIPTION:
            return f"until the end of subscription {decision.ruling.subscription_id}"
        case DeadlineKind.WHILE_JOB:
            return "while a job needs it, at most 24 hours without one"
        case DeadlineKind.UNTIL_DELETED:
            return "until it is deleted or the account ends"
