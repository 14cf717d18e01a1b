"""Messages to values and back: requests become commands, and what was found becomes responses.

What repeats in decisions is turned into a message once for each ruling; a decision copies it and fills in its
own instants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, record_pb2, record_service_pb2
from perron.chassis import batch_items, status
from perron.chassis.errors import PerronError
from perron.chassis.ids import from_bytes, to_bytes
from perron.chassis.interceptors.access import Caller
from perron.chassis.passports import Passport
from perron.governance.decisions import is_recorded
from perron.governance.explanations import ExplainedClause
from perron.governance.model import (
    AppliedClause,
    Channel,
    ClauseReason,
    DataKind,
    DeadlineKind,
    DecideCommand,
    Decision,
    DiscardReason,
    LicenceEnd,
    Outcome,
    Purpose,
    PutCommand,
    PutOutcome,
    Ruling,
    TermsClass,
)
from perron.governance.reading import Found, ReadCommand

DAY_US: Final = 86_400_000_000
_FORMS_MAX: Final = 4096
_SECOND_US: Final = 1_000_000

KINDS: Final = {one: decision_pb2.DataKind.Value(f"DATA_KIND_{one.name}") for one in DataKind}
CHANNELS: Final = {one: roles_pb2.Channel.Value(f"CHANNEL_{one.name}") for one in Channel}
PURPOSES: Final = {one: decision_pb2.Purpose.Value(f"PURPOSE_{one.name}") for one in Purpose}
DEADLINES: Final = {one: decision_pb2.DeadlineKind.Value(f"DEADLINE_KIND_{one.name}") for one in DeadlineKind}
LICENCE_ENDS: Final = {one: decision_pb2.LicenceEnd.Value(f"LICENCE_END_{one.name}") for one in LicenceEnd}
REASONS: Final = {one: decision_pb2.ClauseReason.Value(f"CLAUSE_REASON_{one.name}") for one in ClauseReason}
DISCARDS: Final = {one: record_pb2.DiscardReason.Value(f"DISCARD_REASON_{one.name}") for one in DiscardReason}
TERMS_CLASSES: Final = {
    TermsClass.UNKNOWN: roles_pb2.TERMS_CLASS_UNSPECIFIED,
    TermsClass.FREE: roles_pb2.TERMS_CLASS_FREE,
    TermsClass.PAID: roles_pb2.TERMS_CLASS_PAID,
}
_KINDS_BACK: Final = {number: one for one, number in KINDS.items()}
_CHANNELS_BACK: Final = {number: one for one, number in CHANNELS.items()}
_PURPOSES_BACK: Final = {number: one for one, number in PURPOSES.items()}
_CLASSES: Final = {one.value: one for one in TermsClass}


def decide_command(
    request: decision_service_pb2.DecideRequest | decision_service_pb2.DecideItem,
    passport: Passport,
    caller: Caller,
) -> DecideCommand:
    """Reads a request or an item of a batch, made for the person of the passport."""
    return DecideCommand(
        organization_id=passport.organization_id,
        workspace_id=passport.workspace_id,
        plan=passport.plan,
        terms_class=_CLASSES.get(passport.terms_class, TermsClass.UNKNOWN),
        subscription_id=passport.subscription_id,
        documents=tuple(sorted(passport.documents.items())),
        as_of_us=passport.as_of_us,
        data_kind=_KINDS_BACK[request.data_kind],
        channel=_CHANNELS_BACK[request.channel],
        model=request.model,
        data_subject=request.data_subject,
        in_flight_until_us=request.in_flight_until.ToMicroseconds()
        if request.HasField("in_flight_until")
        else 0,
        caller_key_id=caller.key_id,
        request_id=request.request_id,
        trace_parent=request.trace_parent,
    )


def decide_item(item: decision_service_pb2.DecideItem, caller: Caller) -> DecideCommand:
    """Reads an item of a batch with the passport that it names; raises what the passport was refused with."""
    passport = batch_items.passport_of(caller, item.passport_index)
    return decide_command(item, passport, caller)


def put_command(request: record_service_pb2.PutRequest) -> PutCommand:
    """Reads content to keep."""
    to_bytes(request.organization_id)  # refused here, rather than where it would spoil a batch
    return PutCommand(
        organization_id=request.organization_id,
        decision=to_bytes(request.decision_id),
        model=request.model,
        agent_id=request.agent_id,
        agent_version=request.agent_version,
        input=request.input,
        output=request.output,
        trace_parent=request.trace_parent,
    )


def read_command(request: record_service_pb2.GetRecordRequest, organization_id: str) -> ReadCommand:
    """Reads a record wanted."""
    return ReadCommand(
        organization_id=organization_id,
        record=to_bytes(request.record_id),
        purpose=_PURPOSES_BACK[request.purpose],
        case_reference=request.case_reference,
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """The message of a ruling as of an instant, and where in it the end of the flight goes."""

    message: decision_pb2.Decision
    ends_of_flight: tuple[tuple[int, int], ...]
    kept: bool


class Decisions:
    """Turns decisions into messages.

    All but an id, a data subject and an end of flight follows from ruling and `as_of`, which repeat for as
    long as a passport does. To fill in instants costs several times what it costs to copy them.
    """

    def __init__(self) -> None:
        self._forms: dict[tuple[int, int], _Form] = {}

    def response(self, decision: Decision) -> decision_service_pb2.DecideResponse:
        """Returns the answer of Decide."""
        response = decision_service_pb2.DecideResponse()
        self._fill_response(response, decision)
        return response

    def batch_response(
        self, outcomes: Iterable[Decision | PerronError]
    ) -> decision_service_pb2.BatchDecideResponse:
        """Returns the answer of BatchDecide."""
        response = decision_service_pb2.BatchDecideResponse()
        for outcome in outcomes:
            result = response.results.add()
            if isinstance(outcome, PerronError):
                result.error.CopyFrom(status.to_status(outcome))
            else:
                self._fill_response(result.response, outcome)
        return response

    def message(self, decision: Decision) -> decision_pb2.Decision:
        """Returns a decision as a message."""
        message = decision_pb2.Decision()
        self._fill(message, decision, self._form(decision))
        return message

    def _fill_response(self, response: decision_service_pb2.DecideResponse, decision: Decision) -> None:
        form = self._form(decision)
        self._fill(response.decision, decision, form)
        if form.kept and not decision.discards:
            response.keep_content = True

    def _fill(self, message: decision_pb2.Decision, decision: Decision, form: _Form) -> None:
        message.CopyFrom(form.message)
        message.decision_id = from_bytes("dec", decision.decision)
        if decision.data_subject:
            message.data_subject = decision.data_subject
        for permission, deadline in form.ends_of_flight:
            set_time(message.permissions[permission].deadlines[deadline].time, decision.in_flight_until_us)

    def _form(self, decision: Decision) -> _Form:
        key = (decision.ruling_number, decision.as_of_us)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _FORMS_MAX:
                self._forms.clear()
            form = self._forms[key] = _form_of(decision)
        return form


def put_response(outcome: PutOutcome) -> record_service_pb2.PutResponse:
    """Returns the answer of Put."""
    if outcome.reason is not None:
        return record_service_pb2.PutResponse(recorded=False, reason=DISCARDS[outcome.reason])
    return record_service_pb2.PutResponse(recorded=True, record_id=from_bytes("rec", outcome.record))


def put_result(outcome: PutOutcome | PerronError) -> record_service_pb2.PutResult:
    """Returns the result of one item of BatchPut."""
    if isinstance(outcome, PerronError):
        return record_service_pb2.PutResult(error=status.to_status(outcome))
    return record_service_pb2.PutResult(response=put_response(outcome))


def record(found: Found) -> record_pb2.Record:
    """Returns a record as a message, with the permissions that it still has."""
    kept = found.record
    message = record_pb2.Record(
        record_id=from_bytes("rec", kept.record),
        decision_id=from_bytes("dec", kept.record),
        organization_id=kept.ruling.organization_id,
        workspace_id=kept.ruling.workspace_id,
        model=kept.model,
        agent_id=kept.agent_id,
        agent_version=kept.agent_version,
        data_subject=kept.data_subject,
        permissions=permissions(found.outcome, kept.ruling, as_of_us=kept.as_of_us),
        training_eligible=kept.training_eligible and found.outcome.training_eligible,
        input_bytes=kept.input_bytes,
        output_bytes=kept.output_bytes,
    )
    set_time(message.create_time, kept.create_us)
    return message


def permissions(outcome: Outcome, ruling: Ruling, *, as_of_us: int) -> list[decision_pb2.Permission]:
    """Returns the permissions of an outcome, with their instants, but for the end of the flight."""
    messages = []
    for permission in outcome.permissions:
        message = decision_pb2.Permission(purpose=PURPOSES[permission.purpose])
        for deadline in permission.deadlines:
            added = message.deadlines.add(kind=DEADLINES[deadline.kind])
            if deadline.kind is DeadlineKind.TIME:
                set_time(added.time, as_of_us + deadline.days * DAY_US)
            elif deadline.kind is DeadlineKind.END_OF_SUBSCRIPTION:
                added.subject_id = ruling.subscription_id
        messages.append(message)
    return messages


def clauses(applied: Iterable[AppliedClause]) -> list[decision_pb2.AppliedClause]:
    """Returns clauses as messages."""
    return [decision_pb2.AppliedClause(clause=one.clause, reason=REASONS[one.reason]) for one in applied]


def explained_clause(clause: ExplainedClause) -> decision_service_pb2.ClauseExplanation:
    """Returns a clause in words."""
    return decision_service_pb2.ClauseExplanation(
        clause=clause.clause,
        clause_text=clause.text,
        reason=REASONS[clause.reason],
        reason_text=clause.reason_text,
    )


def set_time(message: Timestamp, instant_us: int) -> None:
    """Writes microseconds since 1970 into a timestamp."""
    seconds, rest = divmod(instant_us, _SECOND_US)
    message.seconds = seconds
    message.nanos = rest * 1000


def _form_of(decision: Decision) -> _Form:
    ruling, outcome = decision.ruling, decision.ruling.outcome
    message = decision_pb2.Decision(
        organization_id=ruling.organization_id,
        workspace_id=ruling.workspace_id,
        terms_version=ruling.terms_version,
        plan=ruling.plan,
        terms_class=TERMS_CLASSES[ruling.terms_class],
        subscription_id=ruling.subscription_id,
        data_kind=KINDS[ruling.data_kind],
        channel=CHANNELS[ruling.channel],
        permissions=permissions(outcome, ruling, as_of_us=decision.as_of_us),
        training_eligible=outcome.training_eligible,
        licence_end=LICENCE_ENDS[outcome.licence_end],
        clauses=clauses(outcome.clauses),
    )
    set_time(message.as_of_time, decision.as_of_us)
    ends_of_flight = tuple(
        (place, index)
        for place, permission in enumerate(outcome.permissions)
        for index, deadline in enumerate(permission.deadlines)
        if deadline.kind is DeadlineKind.IN_FLIGHT
    )
    return _Form(message, ends_of_flight, is_recorded(ruling))
