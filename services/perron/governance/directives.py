"""Directives: what customers say about their data. They narrow, and nothing else.

An organization's directive and a workspace's hold together: the narrower of both. How a directive narrows an
outcome stands in the rules file; that it can only narrow follows from `outcomes.meet`. Each is written while
its organization's writers wait, so it holds from its acknowledgement on, for exchanges in flight too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from perron.chassis.errors import AlreadyExists, FailedPrecondition
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call
from perron.governance.model import (
    Directives,
    ExistingRecords,
    RequestState,
    TrainingPreference,
    ZeroRetentionRequest,
)
from perron.governance.request_store import RequestStore


@dataclass(frozen=True, slots=True)
class RequestCommand:
    """Zero retention asked for a scope; an empty workspace stands for the whole organization."""

    organization_id: str
    workspace_id: str
    reasons: str
    existing_records: ExistingRecords


@dataclass(frozen=True, slots=True)
class ReviewCommand:
    """A reviewer's verdict on a request."""

    request_id: str
    verdict: RequestState
    note: str


@dataclass(frozen=True, slots=True)
class PreferenceCommand:
    """A training preference for a scope; an empty workspace stands for the whole organization."""

    organization_id: str
    workspace_id: str
    preference: TrainingPreference


def combined(directives: Iterable[Directives]) -> Directives:
    """Returns the narrower of several directives, in whatever order they come."""
    found = tuple(directives)
    out = any(one.preference is TrainingPreference.OPTED_OUT for one in found)
    return Directives(
        zero_retention=any(one.zero_retention for one in found),
        preference=TrainingPreference.OPTED_OUT if out else TrainingPreference.DEFAULT,
        watermark_us=max((one.watermark_us for one in found), default=0),
    )


class ZeroRetention:
    """Zero retention: asked with reasons, reviewed, in force when the approval commits; clause 3-zdr."""

    def __init__(self, new_id: IdSource) -> None:
        self._new_id = new_id

    def request(self, store: RequestStore, call: Call, command: RequestCommand) -> ZeroRetentionRequest:
        """Stores a request.

        Raises AlreadyExists (ZERO_RETENTION_REQUESTED) while one of the same scope is open or in force.
        """
        request_id = self._new_id("zdr")
        earlier = store.once(call, request_id)
        if earlier is not None:
            return store.zero_retention_request(earlier)
        store.refuse_buried(command.organization_id, command.workspace_id)
        request = ZeroRetentionRequest(
            request_id=request_id,
            organization_id=command.organization_id,
            workspace_id=command.workspace_id,
            reasons=command.reasons,
            existing_records=command.existing_records,
            state=RequestState.REQUESTED,
            create_us=store.now_us(),
            review_us=0,
            review_note="",
            effective_us=0,
            erased_records=0,
        )
        if not store.insert_zero_retention_request(request):
            raise AlreadyExists(
                "ZERO_RETENTION_REQUESTED", "zero retention is requested or in force for this scope already"
            )
        _record(store, call, request, "directive.zero_retention_requested")
        return request

    def review(self, store: RequestStore, call: Call, command: ReviewCommand) -> ZeroRetentionRequest:
        """Gives a verdict; with the commit an approval is in force and the scope's epochs are closed.

        Raises NotFound, FailedPrecondition (ZERO_RETENTION_REVIEWED).
        """
        earlier = store.once(call, command.request_id)
        if earlier is not None:
            return store.zero_retention_request(earlier)
        found = store.zero_retention_request(command.request_id)
        store.hold_alone(found.organization_id)
        found = store.zero_retention_request(command.request_id)
        if found.state in {RequestState.APPROVED, RequestState.DENIED}:
            raise FailedPrecondition("ZERO_RETENTION_REVIEWED", "the request was approved or denied before")
        now_us = store.now_us()
        reviewed = replace(found, state=command.verdict, review_us=now_us, review_note=command.note)
        if command.verdict is RequestState.APPROVED:
            reviewed = self._approve(store, reviewed, now_us)
        store.update_zero_retention_request(reviewed)
        _record(store, call, reviewed, f"directive.zero_retention_{command.verdict.value.lower()}")
        return reviewed

    def _approve(
        self, store: RequestStore, request: ZeroRetentionRequest, now_us: int
    ) -> ZeroRetentionRequest:
        scope = (request.organization_id, request.workspace_id)
        store.put_directives(*scope, replace(store.directives_of(*scope), zero_retention=True))
        erased = store.close_epochs(*scope) if request.existing_records is ExistingRecords.ERASE else 0
        return replace(request, effective_us=now_us, erased_records=erased)


class TrainingPreferences:
    """Opting out of training, and lifting it: what was made before the lifting never becomes eligible."""

    def set(self, store: RequestStore, call: Call, command: PreferenceCommand) -> Directives:
        """Stores the preference of a scope and returns what is now in force for exactly that scope."""
        scope = (command.organization_id, command.workspace_id)
        if store.once(call, command.workspace_id or command.organization_id) is not None:
            return store.directives_of(*scope)
        store.hold_alone(command.organization_id)
        store.refuse_buried(*scope)
        present = store.directives_of(*scope)
        lifted = (
            present.preference is TrainingPreference.OPTED_OUT
            and command.preference is TrainingPreference.DEFAULT
        )
        wanted = replace(
            present,
            preference=command.preference,
            watermark_us=store.now_us() if lifted else present.watermark_us,
        )
        store.put_directives(*scope, wanted)
        store.audit(call, command.workspace_id or command.organization_id, command.organization_id)
        store.publish(
            "directive.training_preference_set",
            organization_id=command.organization_id,
            workspace_id=command.workspace_id,
        )
        return wanted


def _record(store: RequestStore, call: Call, request: ZeroRetentionRequest, kind: str) -> None:
    store.audit(call, request.request_id, request.organization_id, action=kind)
    store.publish(
        kind,
        organization_id=request.organization_id,
        workspace_id=request.workspace_id,
        resource_id=request.request_id,
    )
