"""The order of the questions: who, which model, how much, what for; in the end, what was used and is kept.

Exchanges that arrive at the same time are asked about together, one batch after the other: services pay for
a message once where they would pay for each call. Base models, agents and fine-tuned models go in batches of
their own, so that nobody waits for a service that is not needed. A refusal at any question leaves no trace of
the ones before it.

What a newcomer gets wrong: the questions belong to the service and not to the caller. A caller that goes away
in between cannot leave half an admission behind: what was reserved for it is given back by whoever sees it
last.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from perron.admission import children, convert, errors
from perron.admission.admission_ids import AdmissionIds
from perron.admission.base_models import BaseModels, Kind
from perron.admission.effective_models import EffectiveModels
from perron.admission.exchanges import Asking, Completion, Room
from perron.admission.peers import Asked, Peers
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
    AdmitResponse,
    CompleteRequest,
    CompleteResponse,
)
from perron.api.identity.v1.api_key_pb2 import KEY_STATE_VALID, VerifyResponse
from perron.api.identity.v1.principal_pb2 import PRINCIPAL_KIND_CUSTOMER
from perron.chassis import credentials, telemetry
from perron.chassis.batcher import Batcher
from perron.chassis.errors import PerronError
from perron.chassis.interceptors import deadline

_RELEASE_SECONDS: Final = 5.0
_GATHER_SECONDS: Final = 0.01  # settling has one question only, and so would run in many small batches
_QUEUES_MAX: Final = 100_000
_CONTENT_BYTES_MAX: Final = 2 * 1024 * 1024

_log = telemetry.logger("admission")


class Admissions:
    """Admits, completes and aborts inferences for gateways, each known by the id of its key."""

    def __init__(self, peers: Peers, admission_ids: AdmissionIds, base_models: BaseModels) -> None:
        self._peers = peers
        self._admission_ids = admission_ids
        self._models = EffectiveModels(peers, base_models)
        self._running: set[asyncio.Task[None]] = set()
        self._queues: dict[bytes, str] = {}
        self._askings = {
            Kind.BASE_MODEL: self._batches(_nobody_to_ask),
            Kind.AGENT: self._batches(self._models.agents),
            Kind.FINE_TUNED_MODEL: self._batches(self._models.fine_tuned_models),
        }
        self._completions: Batcher[Completion, CompleteResponse] = Batcher(
            self._complete,
            name="admission.complete",
            tenant=_organization,
            trace_parent=_trace_parent,
            weigh=_content_bytes,
            max_bytes=_CONTENT_BYTES_MAX,
            gather_seconds=_GATHER_SECONDS,
            records_items=False,
        )

    async def admit(
        self, gateway_key_id: str, asks: Sequence[AdmitRequest]
    ) -> list[AdmitResponse | PerronError]:
        """Admits inferences, each by itself."""
        room = Room()
        askings = [Asking(gateway_key_id, ask, _sampled(ask.trace_parent), room) for ask in asks]
        # A typo costs nobody a query.
        formed = [asking for asking in askings if credentials.is_well_formed(asking.ask.credential)]
        try:
            answers = await self._submit(formed)
        except asyncio.CancelledError:
            for asking in formed:
                asking.is_abandoned = True
                if not asking.is_open:  # else the batch that it is in gives back
                    self._give_back(asking)
            raise
        convert.carry_configurations(formed, answers)
        if len(formed) == len(askings):
            return answers
        answered = dict(zip(map(id, formed), answers, strict=True))
        return [answered.get(id(asking)) or errors.key_refused("MALFORMED") for asking in askings]

    async def complete(
        self, gateway_key_id: str, requests: Sequence[CompleteRequest]
    ) -> list[CompleteResponse | PerronError]:
        """Settles admissions and has their content recorded where allowed, each by itself."""
        outcomes: list[CompleteResponse | PerronError | None] = []
        completions = []
        for request in requests:
            try:
                admitted = self._admission_ids.open(request.admission_id, gateway_key_id)
            except PerronError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
                completions.append(Completion(admitted, request, _sampled(request.trace_parent)))
        answered = iter(await self._completions.submit_many(completions))
        return [next(answered) if outcome is None else outcome for outcome in outcomes]

    async def abort(self, gateway_key_id: str, admission_id: str) -> None:
        """Gives back what an admission reserved, or raises what stands in the way."""
        admitted = self._admission_ids.open(admission_id, gateway_key_id)
        await self._peers.release(convert.release_request(admitted.organization_id, admitted.reservation_id))

    async def aclose(self) -> None:
        """Answers what waits, takes nothing new, and returns when nothing that was begun is half done."""
        for batches in self._askings.values():
            await batches.aclose()
        await self._completions.aclose()
        while self._running:
            await asyncio.wait(self._running)

    def _batches(
        self, resolve: Callable[[Sequence[Asking]], Awaitable[None]]
    ) -> Batcher[Asking, AdmitResponse]:
        return Batcher(
            partial(self._admit, resolve),
            name="admission.admit",
            tenant=self._whom,
            trace_parent=_trace_parent,
            records_items=False,  # the call's own span has the same beginning and end
        )

    async def _submit(self, askings: Sequence[Asking]) -> list[AdmitResponse | PerronError]:
        kinds = list({asking.kind for asking in askings})
        if len(kinds) == 1:
            return await self._askings[kinds[0]].submit_many(askings)
        parts = [[asking for asking in askings if asking.kind is kind] for kind in kinds]
        answers = await asyncio.gather(
            *(self._askings[kind].submit_many(part) for kind, part in zip(kinds, parts, strict=True))
        )
        answered = {
            id(asking): answer
            for part, of_part in zip(parts, answers, strict=True)
            for asking, answer in zip(part, of_part, strict=True)
        }
        return [answered[id(asking)] for asking in askings]

    def _whom(self, asking: Asking) -> str:
        """The queue to wait in: the organization's, or the key's while nobody has said whose it is.

        Whose a key was the last time says where to wait and nothing else: what it may do is asked anew.
        """
        if len(self._queues) > _QUEUES_MAX:
            self._queues.clear()
        digest = _digest(asking)
        return self._queues.get(digest) or digest.hex()

    async def _admit(
        self, resolve: Callable[[Sequence[Asking]], Awaitable[None]], batch: Sequence[Asking]
    ) -> list[AdmitResponse | PerronError]:
        try:
            await self._verify(batch)
            if known := [asking for asking in batch if asking.is_open]:
                await resolve(known)
            await self._reserve([asking for asking in batch if asking.is_open])
            await self._decide([asking for asking in batch if asking.is_open])
        finally:  # also where the batch's time ran out on the way
            releases = [release for asking in batch if (release := self._give_back(asking))]
        if releases:  # before anybody is told to come back, so that nobody meets a reservation that is going
            await asyncio.wait(releases)
        return [asking.answer() for asking in batch]

    async def _verify(self, batch: Sequence[Asking]) -> None:
        for asking in batch:
            asking.begin()
        answers = await self._peers.verify([convert.verify_request(asking) for asking in batch])
        for asking, answer in zip(batch, answers, strict=True):
            try:
                self._identify(asking, answer)
            except PerronError as refusal:
                asking.outcome = refusal

    def _identify(self, asking: Asking, answer: VerifyResponse | PerronError) -> None:
        if isinstance(answer, PerronError):
            raise answer
        if answer.state != KEY_STATE_VALID:
            raise errors.key_refused(convert.key_state(answer.state))
        principal = answer.principal
        if principal.kind != PRINCIPAL_KIND_CUSTOMER:
            raise errors.not_a_customer()
        self._models.begin(asking, principal.allowed_models)
        asking.organization_id = principal.organization_id
        asking.workspace_id = principal.workspace_id
        self._queues[_digest(asking)] = principal.organization_id
        asking.passport = answer.passport

    async def _reserve(self, batch: Sequence[Asking]) -> None:
        if not batch:
            return
        answers = await self._peers.reserve(
            [
                Asked(asking.passport, convert.reserve_item(asking, _child(asking, "reserve")))
                for asking in batch
            ]
        )
        for asking, answer in zip(batch, answers, strict=True):
            if isinstance(answer, PerronError):
                asking.outcome = answer
            else:
                asking.reserved = answer

    async def _decide(self, batch: Sequence[Asking]) -> None:
        if not batch:
            return
        answers = await self._peers.decide(
            [
                Asked(asking.passport, convert.decide_item(asking, _child(asking, "decide")))
                for asking in batch
            ]
        )
        for asking, answer in zip(batch, answers, strict=True):
            if isinstance(answer, PerronError):
                asking.outcome = answer
            else:
                admission_id = self._admission_ids.seal(convert.admission(asking, answer))
                asking.outcome = convert.admit_response(admission_id, asking, answer)

    async def _complete(self, batch: Sequence[Completion]) -> list[CompleteResponse | PerronError]:
        settled = await self._peers.settle([convert.settle_request(completion) for completion in batch])
        outcomes: list[CompleteResponse | PerronError] = []
        recorded: list[tuple[Completion, CompleteResponse, int]] = []
        for completion, answer in zip(batch, settled, strict=True):
            if isinstance(answer, PerronError):
                outcomes.append(answer)
                continue
            response = CompleteResponse(settled_tokens=answer.tokens, omission=self._omission(completion))
            if not response.omission:
                recorded.append((completion, response, len(outcomes)))
            outcomes.append(response)
        if recorded:
            put = await self._peers.put([convert.put_request(completion) for completion, _, _ in recorded])
            for (_, response, place), record in zip(recorded, put, strict=True):
                if isinstance(record, PerronError):
                    outcomes[place] = record
                else:
                    convert.note_record(response, record)
        return outcomes

    def _omission(self, completion: Completion) -> "CompleteResponse.Omission.ValueType":
        content = completion.request.content
        if not (content.input or content.output):
            return CompleteResponse.OMISSION_NO_CONTENT
        if not completion.admission.keep_content:
            return CompleteResponse.OMISSION_NOT_TO_BE_KEPT
        if not self._admission_ids.takes_content(completion.admission):
            return CompleteResponse.OMISSION_TOO_LATE
        return CompleteResponse.OMISSION_UNSPECIFIED

    def _give_back(self, asking: Asking) -> "asyncio.Task[None] | None":
        """Releases what is reserved for an exchange that will not take place; the first to see it does so.

        A caller with a request id may come back for this very admission; if it does not, its ttl closes it.
        """
        if asking.reserved is None or asking.is_released:
            return None
        if isinstance(asking.outcome, AdmitResponse) and (asking.ask.request_id or not asking.is_abandoned):
            return None
        asking.is_released = True
        task = asyncio.get_running_loop().create_task(
            self._release(asking.organization_id, asking.reserved.reservation_id)
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _release(self, organization_id: str, reservation_id: str) -> None:
        # The caller's deadline may have passed.
        deadline.set_instant(asyncio.get_running_loop().time() + _RELEASE_SECONDS)
        try:
            await self._peers.release(convert.release_request(organization_id, reservation_id))
        except PerronError as error:  # the reservation's ttl closes it
            _log.warning("not released", reason=error.reason)


async def _nobody_to_ask(_batch: Sequence[Asking]) -> None:
    """Base models are known here."""


def _child(asking: Asking, name: str) -> str:
    return children.child_id(asking.gateway_key_id, asking.organization_id, asking.ask.request_id, name)


def _sampled(trace_parent: str) -> str:
    """The trace of an item, or else of the call, where it is recorded; others need not travel along."""
    parent = trace_parent or telemetry.current_trace_parent()
    return parent if telemetry.is_sampled(parent) else ""


def _trace_parent(item: Asking | Completion) -> str:
    return item.trace_parent


def _digest(asking: Asking) -> bytes:
    """Names a key without being it."""
    return hashlib.blake2b(asking.ask.credential.encode(), digest_size=16).digest()


def _organization(completion: Completion) -> str:
    return completion.admission.organization_id


def _content_bytes(completion: Completion) -> int:
    return completion.request.ByteSize()
