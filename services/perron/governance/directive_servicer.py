"""DirectiveService on the wire. An approval is answered when what it erases has been erased."""

from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.governance.v1 import directive_pb2, directive_service_pb2_grpc
from perron.api.governance.v1 import directive_service_pb2 as pb
from perron.chassis import status
from perron.chassis.database import Database
from perron.chassis.interceptors.access import Caller, CallerKind, current_call
from perron.chassis.interceptors.validation import check
from perron.chassis.paging import Pages
from perron.governance import convert
from perron.governance.callers import organization_of
from perron.governance.directives import (
    PreferenceCommand,
    RequestCommand,
    ReviewCommand,
    TrainingPreferences,
    ZeroRetention,
    combined,
)
from perron.governance.erasure import Erasure
from perron.governance.model import (
    Directives,
    ExistingRecords,
    RequestState,
    TrainingPreference,
    ZeroRetentionRequest,
)
from perron.governance.peers import Standings
from perron.governance.request_store import RequestStore
from perron.governance.store import Store

_Context = grpc.aio.ServicerContext[Any, Any]
_VERDICTS = {
    pb.REVIEW_VERDICT_APPROVED: RequestState.APPROVED,
    pb.REVIEW_VERDICT_DENIED: RequestState.DENIED,
    pb.REVIEW_VERDICT_DETAIL_ASKED: RequestState.DETAIL_ASKED,
}
_PREFERENCES = {
    directive_pb2.TRAINING_PREFERENCE_DEFAULT: TrainingPreference.DEFAULT,
    directive_pb2.TRAINING_PREFERENCE_OPTED_OUT: TrainingPreference.OPTED_OUT,
}


class DirectiveServicer(directive_service_pb2_grpc.DirectiveServiceServicer):
    """Serves DirectiveService."""

    def __init__(
        self,
        database: Database,
        zero_retention: ZeroRetention,
        preferences: TrainingPreferences,
        erasure: Erasure,
        standings: Standings,
        pages: Pages,
    ) -> None:
        self._database = database
        self._zero_retention = zero_retention
        self._preferences = preferences
        self._erasure = erasure
        self._standings = standings
        self._pages = pages

    async def RequestZeroRetention(
        self, request: pb.RequestZeroRetentionRequest, context: _Context
    ) -> pb.RequestZeroRetentionResponse:
        """Asks for zero retention."""
        call = current_call()
        kept = request.existing_records == directive_pb2.EXISTING_RECORDS_KEEP_UNTIL_DEADLINE
        command = RequestCommand(
            organization_id=await self._own_organization(
                call.caller, request.organization_id, request.workspace_id
            ),
            workspace_id=request.workspace_id,
            reasons=request.reasons,
            existing_records=ExistingRecords.KEEP_UNTIL_DEADLINE if kept else ExistingRecords.ERASE,
        )
        made = await self._database.write(
            lambda tx: self._zero_retention.request(RequestStore(tx), call, command)
        )
        return pb.RequestZeroRetentionResponse(zero_retention_request=_request(made))

    async def ReviewZeroRetention(
        self, request: pb.ReviewZeroRetentionRequest, context: _Context
    ) -> pb.ReviewZeroRetentionResponse:
        """Gives a verdict on a request."""
        call = current_call()
        command = ReviewCommand(
            request_id=request.zero_retention_request_id,
            verdict=_VERDICTS[request.verdict],
            note=request.note,
        )
        reviewed = await self._database.write(
            lambda tx: self._zero_retention.review(RequestStore(tx), call, command)
        )
        await self._erasure.run()
        return pb.ReviewZeroRetentionResponse(zero_retention_request=_request(reviewed))

    async def ListZeroRetentionRequests(
        self, request: pb.ListZeroRetentionRequestsRequest, context: _Context
    ) -> pb.ListZeroRetentionRequestsResponse:
        """Lists requests, newest first."""
        caller = current_call().caller
        organization_id = request.organization_id
        if caller.kind is CallerKind.CUSTOMER:
            organization_id = organization_of(caller, organization_id, thing="organization")
        size = self._pages.size(request.page_size)
        scope, filter_text = caller.key_id, f"zero-retention requests of {organization_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=scope, filter_text=filter_text)
        before = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: RequestStore(tx).zero_retention_requests(organization_id, before, size + 1)
        )
        response = pb.ListZeroRetentionRequestsResponse(zero_retention_requests=map(_request, found[:size]))
        if len(found) > size:
            response.next_page_token = self._pages.token(
                (found[size - 1].request_id,), caller_scope=scope, filter_text=filter_text
            )
        return response

    async def SetTrainingPreference(
        self, request: pb.SetTrainingPreferenceRequest, context: _Context
    ) -> pb.SetTrainingPreferenceResponse:
        """Opts a scope out of training, or lifts it."""
        call = current_call()
        command = PreferenceCommand(
            organization_id=await self._own_organization(
                call.caller, request.organization_id, request.workspace_id
            ),
            workspace_id=request.workspace_id,
            preference=_PREFERENCES[request.preference],
        )
        stored = await self._database.write(lambda tx: self._preferences.set(RequestStore(tx), call, command))
        return pb.SetTrainingPreferenceResponse(
            preference=_preference(stored.preference), watermark_time=_time(stored.watermark_us)
        )

    async def BatchGetDirectives(
        self, request: pb.BatchGetDirectivesRequest, context: _Context
    ) -> pb.BatchGetDirectivesResponse:
        """Answers which directives are in force. There are no holds yet, so nothing is held."""
        scopes = {(item.organization_id, item.workspace_id) for item in request.items}
        found = await self._database.read(lambda tx: Store(tx).directives(scopes))
        results = []
        for item in request.items:
            error = check(item)
            if error is not None:
                results.append(pb.GetDirectivesResult(error=status.to_status(error)))
                continue
            in_force = combined(found.get((item.organization_id, item.workspace_id), ()))
            results.append(pb.GetDirectivesResult(response=_directives(in_force)))
        return pb.BatchGetDirectivesResponse(results=results)

    async def _own_organization(self, caller: Caller, organization_id: str, workspace_id: str) -> str:
        """Returns the caller's organization, and sees to it that the workspace is one of its own."""
        own = organization_of(caller, organization_id, thing="organization")
        if workspace_id not in {"", caller.workspace_id}:
            await self._standings.require(own, workspace_id)
        return own


def _request(made: ZeroRetentionRequest) -> directive_pb2.ZeroRetentionRequest:
    return directive_pb2.ZeroRetentionRequest(
        zero_retention_request_id=made.request_id,
        organization_id=made.organization_id,
        workspace_id=made.workspace_id,
        reasons=made.reasons,
        existing_records=directive_pb2.ExistingRecords.Value(
            f"EXISTING_RECORDS_{made.existing_records.name}"
        ),
        state=directive_pb2.ZeroRetentionRequest.State.Value(f"STATE_{made.state.name}"),
        create_time=_time(made.create_us),
        review_time=_time(made.review_us),
        review_note=made.review_note,
        effective_time=_time(made.effective_us),
        erased_records=made.erased_records,
    )


def _directives(in_force: Directives) -> pb.Directives:
    return pb.Directives(
        zero_retention=in_force.zero_retention,
        training_preference=_preference(in_force.preference),
        training_watermark_time=_time(in_force.watermark_us),
    )


def _preference(preference: TrainingPreference) -> directive_pb2.TrainingPreference.ValueType:
    return directive_pb2.TrainingPreference.Value(f"TRAINING_PREFERENCE_{preference.name}")


def _time(instant_us: int) -> Timestamp | None:
    """Returns a timestamp; none for 0, which stands for never."""
    if not instant_us:
        return None
    message = Timestamp()
    convert.set_time(message, instant_us)
    return message
