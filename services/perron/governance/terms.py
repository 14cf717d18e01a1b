"""The terms as rules: tables from `rules/*.yaml`, judged by pure functions.

What a newcomer gets wrong: a rule that is missing is not an error of the caller. What no rule knows — a class
of plans, a channel without terms, a version that is not loaded — is decided most restrictively, with the
reason RULE_MISSING.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from perron.chassis.clock import to_us
from perron.chassis.errors import NotFound
from perron.governance.model import (
    AppliedClause,
    Channel,
    ClauseReason,
    DataKind,
    Outcome,
    TermsClass,
)
from perron.governance.outcomes import MOST_RESTRICTIVE, meet, united

# What narrows a row, as the tables of rules name it.
ZERO_RETENTION: Final = "zero-retention"
OPTED_OUT: Final = "opted-out"
THROUGH_FINE_TUNED: Final = "through-fine-tuned-model"

_NARROWER: Final = AppliedClause("1.1-use", ClauseReason.NEWER_TERMS_NOT_ACCEPTED)
_JUDGEMENTS_MAX: Final = 4096
_FINE_TUNED: Final = ("ft:", "mdl_")


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the decision table."""

    name: str
    terms_class: TermsClass
    data_kind: DataKind
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause in short, and the tests that hold it."""

    clause: str
    text: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a terms document."""

    document: str
    version: str
    effective_time: datetime
    channels: tuple[Channel, ...]
    rules_sha256: str
    rules: tuple[Rule, ...]
    narrowings: Mapping[tuple[str, DataKind], Outcome]
    clauses: tuple[Clause, ...]

    def outcome(self, case: "Case") -> Outcome:
        """Returns the row for a case, narrowed by what holds of it; most restrictive without a row."""
        for rule in self.rules:
            if rule.terms_class is case.terms_class and rule.data_kind is case.data_kind:
                outcome = rule.outcome
                break
        else:
            return MOST_RESTRICTIVE
        for narrowing, holds in (
            (ZERO_RETENTION, case.zero_retention),
            (OPTED_OUT, case.opted_out),
            (THROUGH_FINE_TUNED, case.fine_tuned),
        ):
            if holds and (narrowing, case.data_kind) in self.narrowings:
                outcome = meet(outcome, self.narrowings[narrowing, case.data_kind])
        return outcome

    def names_under(self, clause: str) -> list[str]:
        """Returns the names of the rules and narrowings that carry out a clause."""
        named = [(rule.name, rule.outcome) for rule in self.rules]
        named += [(narrowing, outcome) for (narrowing, _), outcome in self.narrowings.items()]
        found = [name for name, outcome in named if clause in {one.clause for one in outcome.clauses}]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Case:
    """What a judgement depends on, all of it."""

    terms_class: TermsClass
    subscribed: bool
    data_kind: DataKind
    channel: Channel
    documents: tuple[tuple[str, str], ...]
    zero_retention: bool
    opted_out: bool
    fine_tuned: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the terms say of a case, and by which version; no version where no rule answered."""

    terms_version: str
    outcome: Outcome


class Rulebook:
    """All terms that are loaded."""

    def __init__(self, terms: tuple[Terms, ...]) -> None:
        self.terms: Final = tuple(
            sorted(terms, key=lambda one: (one.effective_time, one.version), reverse=True)
        )
        self._effective_us: Final = tuple(to_us(one.effective_time) for one in self.terms)
        self._judgements: Final[dict[tuple[Case, int], Judgement]] = {}

    def in_effect(self, now_us: int) -> int:
        """Returns how many versions are in effect; while it is the same, so is every judgement."""
        return sum(effective_us <= now_us for effective_us in self._effective_us)

    def judge(self, case: Case, now_us: int) -> Judgement:
        """Judges a case by the newest terms that the organization accepted, and by newer ones in effect.

        A pure function of its arguments and the loaded terms, so what it once returned it may return again.
        """
        in_effect = self.in_effect(now_us)
        key = (case, in_effect)
        judgement = self._judgements.get(key)
        if judgement is None:
            if len(self._judgements) >= _JUDGEMENTS_MAX:
                self._judgements.clear()
            judgement = self._judgements[key] = self._judge(case, self.terms[len(self.terms) - in_effect :])
        return judgement

    def find(self, document: str, version: str) -> Terms:
        """Returns a version of a document; by default the newest, of the one that governs the API."""
        for one in self.terms:
            named = one.document == document if document else Channel.API in one.channels
            if named and version in {"", one.version}:
                return one
        raise NotFound("RESOURCE_NOT_FOUND", "the terms do not exist")

    def _judge(self, case: Case, in_effect: tuple[Terms, ...]) -> Judgement:
        newest = next((one for one in in_effect if case.channel in one.channels), None)
        if newest is None or (case.terms_class is TermsClass.PAID) is not case.subscribed:
            return Judgement("", MOST_RESTRICTIVE)
        accepted_version = dict(case.documents).get(newest.document)
        accepted = next(
            (one for one in self.terms if (one.document, one.version) == (newest.document, accepted_version)),
            None,
        )
        if accepted is None or case.channel not in accepted.channels:
            return Judgement("", MOST_RESTRICTIVE)
        outcome = accepted.outcome(case)
        if outcome == MOST_RESTRICTIVE:
            return Judgement("", MOST_RESTRICTIVE)
        if accepted is newest:
            return Judgement(accepted.version, outcome)
        outcome = meet(outcome, newest.outcome(case))
        if accepted.effective_time < newest.effective_time:
            outcome = replace(outcome, clauses=united((*outcome.clauses, _NARROWER)))
        return Judgement(accepted.version, outcome)


def is_fine_tuned(model: str) -> bool:
    """Tells whether a model's name is that of a fine-tuned one."""
    return model.startswith(_FINE_TUNED)
