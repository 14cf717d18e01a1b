"""Files of rules: read, and checked to leave no case open and no promise without effect.

What a newcomer gets wrong: a file that lacks something is no smaller table. It stops the start, because what
it leaves out (a directive, say) would otherwise have no effect and nobody would notice.
"""

import hashlib
import itertools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from perron.chassis.errors import SetupError
from perron.governance.model import (
    AppliedClause,
    Channel,
    ClauseReason,
    DataKind,
    Deadline,
    DeadlineKind,
    LicenceEnd,
    Outcome,
    Permission,
    Purpose,
    TermsClass,
)
from perron.governance.outcomes import is_kept, meet, without_training
from perron.governance.terms import (
    OPTED_OUT,
    THROUGH_FINE_TUNED,
    ZERO_RETENTION,
    Clause,
    Rule,
    Rulebook,
    Terms,
)

PACKAGED: Final = Path(__file__).with_name("rules")
_CUSTOMERS_DATA: Final = (DataKind.INFERENCE, DataKind.FINE_TUNING_DATA)
"""What customers send and are answered; the other kinds are what they build of it."""
_NARROWED: Final = (
    *itertools.product((ZERO_RETENTION, OPTED_OUT), _CUSTOMERS_DATA),
    (THROUGH_FINE_TUNED, DataKind.INFERENCE),
)
"""What must be felt, and by which data."""


def load(
    source: Path = PACKAGED,
    *,
    lengths: Mapping[str, int] | None = None,
    train_on_fine_tuning_data: bool = True,
) -> Rulebook:
    """Reads a rules file, or every one of a folder, and checks that each leaves no case open.

    `lengths` are the operator's own, by name; they may only narrow. Raises SetupError with one line.
    """
    paths = sorted(source.glob("*.yaml")) if source.is_dir() else [source]
    if not paths:
        raise SetupError(f"rules {source}: the folder holds no .yaml file")
    return Rulebook(tuple(_read(path, lengths or {}, train_on_fine_tuning_data) for path in paths))


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """What a row or narrowing permits, as the file writes it."""

    purposes: dict[Purpose, list[str]]
    training: Literal["eligible", "never"]
    licence_ends: LicenceEnd
    clauses: dict[str, ClauseReason]


class _RuleRow(_Row, forbid_unknown_fields=True):
    """One row of the table, as the file writes it."""

    plan: Literal["FREE", "PAID", "any"]
    data_kind: DataKind


class _ClauseRow(msgspec.Struct, forbid_unknown_fields=True):
    """One clause, as the file writes it."""

    text: str
    tests: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """One file of rules."""

    document: str
    version: str
    effective_time: datetime
    channels: list[Channel]
    lengths: dict[str, int]
    rules: dict[str, _RuleRow]
    narrowings: dict[Literal["zero-retention", "opted-out", "through-fine-tuned-model"], dict[DataKind, _Row]]
    clauses: dict[str, _ClauseRow]


def _read(path: Path, lengths: Mapping[str, int], train_on_fine_tuning_data: bool) -> Terms:  # noqa: FBT001 (a setting)
    try:
        content = path.read_bytes()
        file = msgspec.yaml.decode(content, type=_File)
    except (OSError, msgspec.MsgspecError) as error:
        raise SetupError(f"rules {path}: {error}") from None
    reader = _Reader(path, file, lengths)
    rules = tuple(itertools.chain.from_iterable(reader.rules(name, row) for name, row in file.rules.items()))
    if not train_on_fine_tuning_data:
        rules = tuple(
            Rule(one.name, one.terms_class, one.data_kind, without_training(one.outcome))
            if one.data_kind is DataKind.FINE_TUNING_DATA
            else one
            for one in rules
        )
    narrowings: dict[tuple[str, DataKind], Outcome] = {
        (narrowing, data_kind): reader.outcome(f"narrowing {narrowing}", row)
        for narrowing, rows in file.narrowings.items()
        for data_kind, row in rows.items()
    }
    reader.check(rules)
    reader.check_narrowings(narrowings)
    return Terms(
        document=file.document,
        version=file.version,
        effective_time=file.effective_time,
        channels=tuple(file.channels),
        rules_sha256=hashlib.sha256(content).hexdigest(),
        rules=rules,
        narrowings=narrowings,
        clauses=tuple(Clause(name, row.text, tuple(row.tests)) for name, row in file.clauses.items()),
    )


class _Reader:
    """Turns rows of one file into outcomes, and complains with the file's name."""

    def __init__(self, path: Path, file: _File, lengths: Mapping[str, int]) -> None:
        self._path = path
        self._file = file
        self._lengths = dict(file.lengths)
        if file.effective_time.tzinfo is None:
            raise self._error("effective_time names no time zone")
        if any(days < 1 for days in (*file.lengths.values(), *lengths.values())):
            raise self._error("a length is shorter than one day")
        for name, days in lengths.items():
            if days > file.lengths.get(name, days):
                raise self._error(
                    f"setting {name} is {days}; it may only shorten the terms' {file.lengths[name]}"
                )
            self._lengths[name] = days

    def rules(self, name: str, row: _RuleRow) -> list[Rule]:
        """Returns the rule for each class of plans that the row names."""
        classes = (TermsClass.FREE, TermsClass.PAID) if row.plan == "any" else (TermsClass(row.plan),)
        outcome = self.outcome(f"rule {name}", row)
        return [Rule(name, terms_class, row.data_kind, outcome) for terms_class in classes]

    def outcome(self, place: str, row: _Row) -> Outcome:
        """Returns the outcome of a row."""
        for clause in row.clauses:
            if clause not in self._file.clauses:
                raise self._error(f"{place}: clause {clause} is not in the list of clauses")
        if not row.clauses or not row.purposes:
            raise self._error(f"{place}: a clause and a purpose are needed")
        if (row.training == "eligible") != (Purpose.IMPROVE_SERVICES in row.purposes):
            raise self._error(f"{place}: training and IMPROVE_SERVICES go together")
        drawn = Outcome(
            permissions=tuple(
                Permission(purpose, tuple(self._deadline(place, text) for text in texts))
                for purpose, texts in row.purposes.items()
            ),
            training_eligible=row.training == "eligible",
            licence_end=row.licence_ends,
            clauses=tuple(AppliedClause(clause, reason) for clause, reason in row.clauses.items()),
        )
        return meet(drawn, drawn)  # in the order that every outcome has

    def check(self, rules: tuple[Rule, ...]) -> None:
        """Refuses a table with a case left open or answered twice, and training where no plan permits it."""
        cases = [(rule.terms_class, rule.data_kind) for rule in rules]
        for case in itertools.product((TermsClass.FREE, TermsClass.PAID), DataKind):
            if cases.count(case) != 1:
                raise self._error(f"{' '.join(case)} has {cases.count(case)} rules; exactly one is needed")
        for rule in rules:
            if rule.terms_class is TermsClass.PAID and rule.outcome.training_eligible:
                raise self._error(f"rule {rule.name}: clause 3-paid permits no training on a paid plan")
            if rule.data_kind not in _CUSTOMERS_DATA and rule.outcome.training_eligible:
                raise self._error(f"rule {rule.name}: what customers build is never trained on")
            if not all(permission.deadlines for permission in rule.outcome.permissions):
                raise self._error(f"rule {rule.name}: each purpose needs a deadline")

    def check_narrowings(self, narrowings: Mapping[tuple[str, DataKind], Outcome]) -> None:
        """Refuses a table by which a directive in force, or a fine-tuned model, would not be felt."""
        for narrowing, data_kind in _NARROWED:
            outcome = narrowings.get((narrowing, data_kind))
            if outcome is None:
                raise self._error(f"narrowing {narrowing} says nothing of {data_kind}")
            if outcome.training_eligible:
                raise self._error(f"narrowing {narrowing} narrows training of {data_kind} to nothing")
        if is_kept(narrowings[ZERO_RETENTION, DataKind.INFERENCE]):
            raise self._error("narrowing zero-retention: clause 3-zdr keeps nothing beyond the exchange")

    def _deadline(self, place: str, text: str) -> Deadline:
        if text in self._lengths:
            return Deadline(DeadlineKind.TIME, self._lengths[text])
        if text in DeadlineKind.__members__ and text != DeadlineKind.TIME:
            return Deadline(DeadlineKind(text))
        raise self._error(f"{place}: unknown deadline {text}")

    def _error(self, message: str) -> SetupError:
        return SetupError(f"rules {self._path}: {message}")
