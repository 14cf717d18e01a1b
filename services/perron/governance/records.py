"""Records: the content of exchanges, sealed, kept only where the decision and the day's rules both permit it.

A decision is a ceiling. Put judges anew, in its own transaction, by the standing that identity gave in the
same call, and keeps what both permit; what may not be kept is never written, not even to be deleted. Reading
judges anew once more.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from perron.chassis.errors import FailedPrecondition, PerronError
from perron.governance.directives import combined
from perron.governance.errors import missing
from perron.governance.model import (
    ClauseReason,
    DataKind,
    Deadline,
    DeadlineKind,
    Decision,
    Directives,
    DiscardReason,
    Outcome,
    Permission,
    PutCommand,
    PutOutcome,
    Record,
    Ruling,
    Standing,
    TermsClass,
)
from perron.governance.outcomes import is_kept, meet, without_training
from perron.governance.record_store import EpochKey, RecordStore, SealedRecord
from perron.governance.rulings import Rulings
from perron.governance.seals import Seals
from perron.governance.store import Key, key_of
from perron.governance.terms import Case, Rulebook, is_fine_tuned

DAY_US: Final = 86_400_000_000
NEVER_US: Final = 253_370_764_800_000_000  # the year 9999
_IN_FLIGHT: Final = Deadline(DeadlineKind.IN_FLIGHT)


class Records:
    """Keeps and reads the content of exchanges."""

    def __init__(self, rulebook: Rulebook, rulings: Rulings, seals: Seals) -> None:
        self._rulebook = rulebook
        self._rulings = rulings
        self._seals = seals

    def put(
        self,
        store: RecordStore,
        commands: Sequence[PutCommand],
        decisions: Mapping[Key, Decision],
        standings: Mapping[str, Standing],
    ) -> list[PutOutcome | PerronError]:
        """Keeps the content of each command, or says why not; a refusal stands in the place of its outcome.

        `decisions` never change and so were read before; `standings`, by workspace, are of this call. A
        decision that has a record answers it again and writes nothing.
        """
        buried = store.buried({one.ruling.organization_id for one in decisions.values()})
        directives = store.directives(
            {(one.ruling.organization_id, one.ruling.workspace_id) for one in decisions.values()}
        )
        kept = store.existing(decisions)
        now_us = store.now_us()
        results: list[PutOutcome | PerronError] = []
        admitted: list[tuple[PutCommand, Decision, Ruling]] = []
        for command in commands:
            key = key_of(command.organization_id, command.decision)
            decision = decisions.get(key)
            if decision is None:
                results.append(missing("decision"))
                continue
            if decision.ruling.data_kind is not DataKind.INFERENCE:
                results.append(
                    FailedPrecondition("DATA_KIND_NOT_RECORDED", "the decision is not about an exchange")
                )
                continue
            if key in kept:
                results.append(PutOutcome(command.decision))
                continue
            scope = (decision.ruling.organization_id, decision.ruling.workspace_id)
            if (scope[0], "") in buried or scope in buried:
                results.append(PutOutcome(b"", DiscardReason.TOMBSTONED))
                continue
            in_force = combined(directives.get(scope, ()))
            ruling = self._judge(decision, command.model, standings[scope[1]], in_force, now_us)
            if isinstance(ruling, DiscardReason):
                results.append(PutOutcome(b"", ruling))
                continue
            admitted.append((command, decision, ruling))
            results.append(PutOutcome(command.decision))
            kept = kept | {key}
        self._keep(store, admitted, now_us)
        return results

    def readable(
        self, record: Record, standing: Standing, directives: Directives, now_us: int
    ) -> Outcome | None:
        """Returns what may still be done with a record; None where nothing may, as if it did not exist."""
        ruling = record.ruling
        if not _stands(ruling, standing) or now_us >= record.due_us:
            return None
        case = Case(
            terms_class=ruling.terms_class,
            subscribed=bool(ruling.subscription_id),
            data_kind=ruling.data_kind,
            channel=ruling.channel,
            documents=standing.documents,
            zero_retention=False,  # whether records that exist are kept was settled with the approval
            opted_out=directives.opted_out(record.as_of_us),
            fine_tuned=is_fine_tuned(record.model),
        )
        outcome = meet(ruling.outcome, self._rulebook.judge(case, now_us).outcome)
        if directives.zero_retention or standing.terms_class is not TermsClass.FREE:
            outcome = without_training(outcome)  # clauses 3-zdr and 3-paid: neither trains on what it keeps
        permissions = tuple(
            one
            for one in outcome.permissions
            if _IN_FLIGHT not in one.deadlines and now_us < ends_us(one, record.as_of_us)
        )
        return replace(outcome, permissions=permissions) if permissions else None

    def _judge(
        self, decision: Decision, model: str, standing: Standing, directives: Directives, now_us: int
    ) -> Ruling | DiscardReason:
        judgement = self._rulebook.judge(
            Case(
                terms_class=standing.terms_class,
                subscribed=bool(standing.subscription_id),
                data_kind=decision.ruling.data_kind,
                channel=decision.ruling.channel,
                documents=standing.documents,
                zero_retention=directives.zero_retention,
                opted_out=directives.opted_out(decision.as_of_us),
                fine_tuned=is_fine_tuned(model),
            ),
            now_us,
        )
        outcome = meet(decision.ruling.outcome, judgement.outcome)
        reason = _discarded(decision, outcome, standing, now_us)
        return reason or replace(
            decision.ruling,
            plan=standing.plan,
            terms_class=standing.terms_class,
            subscription_id=standing.subscription_id,
            outcome=outcome,
        )

    def _keep(
        self, store: RecordStore, admitted: Sequence[tuple[PutCommand, Decision, Ruling]], now_us: int
    ) -> None:
        if not admitted:
            return
        wanted: dict[Hashable, Ruling] = {ruling: ruling for _, _, ruling in admitted}
        found = {key: one for key in wanted if (one := self._rulings.find(key)) is not None}
        unknown = {key: ruling for key, ruling in wanted.items() if key not in found}
        numbers = found | (self._rulings.intern(store, unknown) if unknown else {})
        epochs = self._seals.open_epochs(
            store, {epoch_of(decision, ruling) for _, decision, ruling in admitted}
        )
        rows = []
        for command, decision, ruling in admitted:
            record = Record(
                record=command.decision,
                ruling=ruling,
                as_of_us=decision.as_of_us,
                due_us=due_us(ruling.outcome, decision.as_of_us),
                create_us=now_us,
                epoch=epochs[epoch_of(decision, ruling)].epoch,
                model=command.model,
                agent_id=command.agent_id,
                agent_version=command.agent_version,
                data_subject=decision.data_subject,
                training_eligible=ruling.outcome.training_eligible,
                input_bytes=len(command.input),
                output_bytes=len(command.output),
            )
            content = self._seals.seal(
                epochs[epoch_of(decision, ruling)], record, command.input, command.output
            )
            rows.append(SealedRecord(record, numbers[ruling][0], content))
        store.insert_records(rows)


def _discarded(decision: Decision, outcome: Outcome, standing: Standing, now_us: int) -> DiscardReason | None:
    """Returns why content may not be kept, the weightiest reason first; None where it may."""
    elsewhere = standing.organization_id != decision.ruling.organization_id
    zero_retention = ClauseReason.ZERO_RETENTION in outcome.reasons
    due = is_kept(outcome) and now_us >= due_us(outcome, decision.as_of_us)
    reasons = (
        (not standing.exists or elsewhere, DiscardReason.TOMBSTONED),
        (not standing.active, DiscardReason.TERMINATED),
        (zero_retention, DiscardReason.ZERO_RETENTION),
        (not _stands(decision.ruling, standing), DiscardReason.SUBSCRIPTION_ENDED),
        (not is_kept(outcome), DiscardReason.NO_PURPOSE),
        (due or now_us >= decision.in_flight_until_us, DiscardReason.EXPIRED),
    )
    return next((reason for applies, reason in reasons if applies), None)


def _stands(ruling: Ruling, standing: Standing) -> bool:
    """Tells whether organization and subscription, where the ruling depends on one, are still there."""
    if not (standing.exists and standing.active and standing.organization_id == ruling.organization_id):
        return False
    return not ruling.subscription_id or standing.subscription_id == ruling.subscription_id


def ends_us(permission: Permission, as_of_us: int) -> int:
    """Returns when a permission ends by its days; other deadlines are met when it is used."""
    days = [deadline.days for deadline in permission.deadlines if deadline.kind is DeadlineKind.TIME]
    return as_of_us + min(days) * DAY_US if days else NEVER_US


def due_us(outcome: Outcome, as_of_us: int) -> int:
    """Returns the instant from which no purpose permits keeping any more."""
    return max(ends_us(one, as_of_us) for one in outcome.permissions if _IN_FLIGHT not in one.deadlines)


def epoch_of(decision: Decision, ruling: Ruling) -> EpochKey:
    """Returns which epoch seals a record: whatever ends together shares a key, and nothing else does."""
    return EpochKey(
        organization_id=ruling.organization_id,
        workspace_id=ruling.workspace_id,
        subscription_id=ruling.subscription_id,
        retention_class="eligible" if ruling.outcome.training_eligible else "kept",
        due_day=-(-due_us(ruling.outcome, decision.as_of_us) // DAY_US),
    )
