"""DecisionService on the wire: single calls and batches meet in one batcher, and so in one transaction."""

from collections.abc import Sequence
from typing import Any

import grpc

from perron.api.governance.v1 import decision_service_pb2 as pb
from perron.api.governance.v1 import decision_service_pb2_grpc
from perron.chassis import batch_items
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.ids import to_bytes
from perron.chassis.interceptors.access import current_call
from perron.chassis.paging import Pages
from perron.governance import convert, explanations
from perron.governance.callers import organization_of
from perron.governance.decisions import Decisions
from perron.governance.errors import missing
from perron.governance.model import DecideCommand, Decision
from perron.governance.store import Store, key_of
from perron.governance.terms import Rulebook

_Context = grpc.aio.ServicerContext[Any, Any]


class DecisionServicer(decision_service_pb2_grpc.DecisionServiceServicer):
    """Serves DecisionService."""

    def __init__(self, database: Database, decisions: Decisions, rulebook: Rulebook, pages: Pages) -> None:
        self._database = database
        self._decisions = decisions
        self._rulebook = rulebook
        self._pages = pages
        self._messages = convert.Decisions()
        self._batcher: Batcher[DecideCommand, Decision] = Batcher(
            self._decide,
            name="decide",
            tenant=lambda command: command.organization_id,
            trace_parent=lambda command: command.trace_parent,
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._batcher.aclose()

    async def Decide(self, request: pb.DecideRequest, context: _Context) -> pb.DecideResponse:
        """Makes one decision."""
        caller = current_call().caller
        assert caller.passport is not None  # the contract demands it
        command = convert.decide_command(request, caller.passport, caller)
        return self._messages.response(await self._batcher.submit(command))

    async def BatchDecide(self, request: pb.BatchDecideRequest, context: _Context) -> pb.BatchDecideResponse:
        """Makes many decisions."""
        caller = current_call().caller
        outcomes = await batch_items.submit(
            request.items, lambda item: convert.decide_item(item, caller), self._batcher
        )
        return self._messages.batch_response(outcomes)

    async def GetDecision(self, request: pb.GetDecisionRequest, context: _Context) -> pb.GetDecisionResponse:
        """Returns one decision."""
        decision = await self._find(request.organization_id, request.decision_id)
        return pb.GetDecisionResponse(decision=self._messages.message(decision))

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: _Context
    ) -> pb.ListDecisionsResponse:
        """Lists an organization's decisions, newest first."""
        organization_id = organization_of(
            current_call().caller, request.organization_id, thing="organization"
        )
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(request.page_token, caller_scope=organization_id, filter_text="decisions")
        before = (int(cursor[0]), bytes.fromhex(str(cursor[1]))) if cursor else None
        found = await self._database.read(
            lambda tx: Store(tx).decisions_of(organization_id, before, size + 1)
        )
        response = pb.ListDecisionsResponse(decisions=map(self._messages.message, found[:size]))
        if len(found) > size:
            last = found[size - 1]
            response.next_page_token = self._pages.token(
                (last.as_of_us, last.decision.hex()), caller_scope=organization_id, filter_text="decisions"
            )
        return response

    async def ExplainDecision(
        self, request: pb.ExplainDecisionRequest, context: _Context
    ) -> pb.ExplainDecisionResponse:
        """Explains one decision in words."""
        decision = await self._find(request.organization_id, request.decision_id)
        return pb.ExplainDecisionResponse(
            decision=self._messages.message(decision),
            sentences=explanations.sentences(decision),
            clauses=map(convert.explained_clause, explanations.clauses(decision, self._rulebook)),
        )

    async def _find(self, named: str, decision_id: str) -> Decision:
        organization_id = organization_of(current_call().caller, named, thing="decision")
        key = key_of(organization_id, to_bytes(decision_id))
        found = await self._database.read(lambda tx: Store(tx).decisions([key]))
        if key not in found:
            raise missing("decision")
        return found[key]

    async def _decide(self, commands: Sequence[DecideCommand]) -> Sequence[Decision | PerronError]:
        return await self._database.write(lambda tx: self._decisions.decide(Store(tx), commands))
