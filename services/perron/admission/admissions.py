"""The order of the questions: who, how much, what for; and in the end, what was used and what is kept.

A refusal at any question leaves no trace of the ones before it. What a newcomer gets wrong: from the moment
something may have been reserved, the admission belongs to the service and not to the caller. A caller that
goes away cannot leave half of it behind.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from perron.admission import children, convert, errors
from perron.admission.admission_ids import AdmissionIds
from perron.admission.base_models import BaseModels
from perron.admission.peers import Peers
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
    AdmitResponse,
    CompleteRequest,
    CompleteResponse,
)
from perron.api.identity.v1.api_key_pb2 import KEY_STATE_VALID
from perron.api.identity.v1.principal_pb2 import PRINCIPAL_KIND_CUSTOMER, Principal
from perron.chassis import credentials, telemetry
from perron.chassis.errors import PerronError
from perron.chassis.interceptors import deadline

_RELEASE_SECONDS: Final = 5.0

_log = telemetry.logger("admission")


class Admissions:
    """Admits, completes and aborts inferences for gateways, each known by the id of its key."""

    def __init__(self, peers: Peers, admission_ids: AdmissionIds, base_models: BaseModels) -> None:
        self._peers = peers
        self._admission_ids = admission_ids
        self._base_models = base_models
        self._running: set[asyncio.Task[Any]] = set()

    async def admit(self, gateway_key_id: str, ask: AdmitRequest) -> AdmitResponse:
        """Admits one inference or raises why not."""
        if not credentials.is_well_formed(ask.credential):
            raise errors.key_refused("MALFORMED")  # a typo costs nobody a query
        verified = await self._peers.verify.submit(convert.verify_request(ask))
        if verified.state != KEY_STATE_VALID:
            raise errors.key_refused(convert.key_state(verified.state))
        if verified.principal.kind != PRINCIPAL_KIND_CUSTOMER:
            raise errors.not_a_customer()
        model = self._base_models.effective(ask.model, verified.principal.allowed_models)
        admitting = self._own(
            self._reserve_and_decide(gateway_key_id, ask, verified.principal, verified.passport, model)
        )
        try:
            return await asyncio.shield(admitting)
        except asyncio.CancelledError:
            # With a request id the gateway may come back for this very admission; else the ttl closes it.
            if not ask.request_id:
                self._own(self._undo(admitting, gateway_key_id))
            raise

    async def complete(self, gateway_key_id: str, request: CompleteRequest) -> CompleteResponse:
        """Settles an admission and has its content recorded where allowed; raises what stands in the way."""
        admitted = self._admission_ids.open(request.admission_id, gateway_key_id)
        settled = await self._peers.settle.submit(convert.settle_request(admitted, request.tokens))
        response = CompleteResponse(settled_tokens=settled.tokens)
        if not (request.content.input or request.content.output):
            response.omission = CompleteResponse.OMISSION_NO_CONTENT
        elif not admitted.keep_content:
            response.omission = CompleteResponse.OMISSION_NOT_TO_BE_KEPT
        elif not self._admission_ids.takes_content(admitted):
            response.omission = CompleteResponse.OMISSION_TOO_LATE
        else:
            put = await self._peers.put.submit(convert.put_request(admitted, request))
            response.recorded = put.recorded
            response.record_id = put.record_id
            if not put.recorded:
                response.omission = CompleteResponse.OMISSION_DISCARDED
                response.discard_reason = put.reason
        return response

    async def abort(self, gateway_key_id: str, admission_id: str) -> None:
        """Gives back what an admission reserved, or raises what stands in the way."""
        admitted = self._admission_ids.open(admission_id, gateway_key_id)
        await self._peers.release(convert.release_request(admitted.organization_id, admitted.reservation_id))

    async def aclose(self) -> None:
        """Returns when nothing that was begun is left half done."""
        while self._running:
            await asyncio.wait(self._running)

    async def _reserve_and_decide(
        self,
        gateway_key_id: str,
        ask: AdmitRequest,
        principal: Principal,
        passport: str,
        model: str,
    ) -> AdmitResponse:
        organization_id = principal.organization_id
        reserve_id = children.child_id(gateway_key_id, organization_id, ask.request_id, "reserve")
        reserved = await self._peers.reserve(
            organization_id, passport, convert.reserve_item(ask, model, reserve_id)
        )
        decide_id = children.child_id(gateway_key_id, organization_id, ask.request_id, "decide")
        try:
            decided = await self._peers.decide(
                organization_id, passport, convert.decide_item(ask, reserved, decide_id)
            )
        except BaseException:
            await self._release(organization_id, reserved.reservation_id)
            raise
        admitted = convert.admission(gateway_key_id, principal, model, reserved, decided)
        return convert.admit_response(self._admission_ids.seal(admitted), admitted, reserved, decided)

    async def _undo(self, admitting: asyncio.Task[AdmitResponse], gateway_key_id: str) -> None:
        try:
            response = await admitting
        except PerronError:
            return  # refused after all: nothing is reserved
        admitted = self._admission_ids.open(response.admission_id, gateway_key_id)
        await self._release(admitted.organization_id, admitted.reservation_id)

    async def _release(self, organization_id: str, reservation_id: str) -> None:
        # The caller's deadline may have passed.
        deadline.set_instant(asyncio.get_running_loop().time() + _RELEASE_SECONDS)
        try:
            await self._peers.release(convert.release_request(organization_id, reservation_id))
        except PerronError as error:  # the reservation's ttl closes it
            _log.warning("not released", reason=error.reason)

    def _own(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
