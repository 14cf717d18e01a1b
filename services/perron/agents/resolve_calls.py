"""Resolve and BatchResolve: single calls and batches meet in one batcher, and so in one read.

Only reading is shared. Governance and finetuning are asked afterwards, by each call for those of its agents
that need it: where they are slow, no other call waits for them.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from perron.agents import errors
from perron.agents.configurations import FINE_TUNED
from perron.agents.convert import CHANNELS_BACK
from perron.agents.peers import Governance, Models
from perron.agents.resolve_store import ResolveStore
from perron.agents.resolving import Content, ResolveCommand, Resolved, Resolving
from perron.agents.visibility import person_of
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis import batch_items, status
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database
from perron.chassis.errors import PerronError, Unavailable
from perron.chassis.interceptors.access import Caller
from perron.chassis.passports import Passport

_Scope = tuple[str, str]
_ModelOf = tuple[str, str]

CONFIGURATIONS_BYTES_MAX: Final = 3 * 1024 * 1024


def read_content(configuration: bytes) -> Content:
    """Looks into a configuration."""
    read = AgentConfiguration.FromString(configuration)
    return Content(read.model, tuple(read.handoff_agent_ids), configuration)


class ResolveCalls:
    """Answers both."""

    def __init__(
        self, database: Database, resolving: Resolving, governance: Governance, models: Models
    ) -> None:
        self._database = database
        self._resolving = resolving
        self._governance = governance
        self._models = models
        self._batcher: Batcher[ResolveCommand, Resolved] = Batcher(
            self._read,
            name="resolve",
            tenant=lambda command: command.person.organization_id,
            trace_parent=lambda command: command.trace_parent,
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._batcher.aclose()

    async def one(self, request: pb.ResolveRequest, caller: Caller) -> pb.ResolveResponse:
        """Resolves one agent."""
        assert caller.passport is not None  # the contract demands it
        command = _command(request, caller.passport, request.passport)
        (outcome,) = await self._checked(await self._batcher.submit_many([command]))
        if isinstance(outcome, PerronError):
            raise outcome
        response = pb.ResolveResponse()
        _fill(response, outcome, with_configuration=True)
        return response

    async def many(self, request: pb.BatchResolveRequest, caller: Caller) -> pb.BatchResolveResponse:
        """Resolves agents, each by itself; carries each version's configuration once."""
        outcomes = await batch_items.submit(
            request.items, lambda item: _item(item, request, caller), self._batcher
        )
        response = pb.BatchResolveResponse()
        carried: set[tuple[str, int]] = set()
        room = CONFIGURATIONS_BYTES_MAX
        for outcome in await self._checked(outcomes):
            result = response.results.add()
            if isinstance(outcome, PerronError):
                result.error.CopyFrom(status.to_status(outcome))
                continue
            pin = outcome.pin
            size = 0 if pin in carried else len(outcome.content.configuration)
            if size > room:
                result.error.CopyFrom(status.to_status(errors.answer_too_large()))
                continue
            _fill(result.response, outcome, with_configuration=pin not in carried)
            carried.add(pin)
            room -= size
        return response

    async def _read(self, commands: Sequence[ResolveCommand]) -> Sequence[Resolved | PerronError]:
        outcomes = await self._database.read(lambda tx: self._resolving.resolve(ResolveStore(tx), commands))
        again = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Unavailable)]
        if again:  # a key that was exchanged between the row and the vault: the row names the new one now
            missed = [commands[place] for place in again]
            found = await self._database.read(lambda tx: self._resolving.resolve(ResolveStore(tx), missed))
            for place, outcome in zip(again, found, strict=True):
                outcomes[place] = outcome
        return outcomes

    async def _checked(self, outcomes: Sequence[Resolved | PerronError]) -> list[Resolved | PerronError]:
        """Refuses what zero retention forbids and what is over a model that is no more."""
        found = [one for one in outcomes if isinstance(one, Resolved)]
        scopes = {_scope(one) for one in found if one.unacknowledged}
        models = {_model(one) for one in found if one.content.model.startswith(FINE_TUNED)}
        if not scopes and not models:
            return list(outcomes)
        retention, refused = await asyncio.gather(self._zero_retention(scopes), self._refused_models(models))
        return [
            _refusal(one, retention, refused) or one if isinstance(one, Resolved) else one for one in outcomes
        ]

    async def _zero_retention(self, scopes: Collection[_Scope]) -> Mapping[_Scope, bool | PerronError]:
        """Returns whether zero retention holds for each (organization, workspace), or why nobody knows."""
        wanted = sorted(scopes)
        try:
            found = await self._governance.directives([(*scope, "") for scope in wanted])
        except PerronError as error:
            return dict.fromkeys(wanted, error)
        return {
            scope: one if isinstance(one, PerronError) else one.zero_retention
            for scope, one in zip(wanted, found, strict=True)
        }

    async def _refused_models(self, asked: Collection[_ModelOf]) -> Mapping[_ModelOf, PerronError]:
        """Returns why those of the (passport, model) that may not be used may not."""
        if not asked:
            return {}
        wanted = sorted(asked)
        found = await self._models.resolve(wanted)
        return {
            one: outcome
            for one, outcome in zip(wanted, found, strict=True)
            if isinstance(outcome, PerronError)
        }


def _refusal(
    one: Resolved,
    retention: Mapping[_Scope, bool | PerronError],
    refused: Mapping[_ModelOf, PerronError],
) -> PerronError | None:
    holds = retention.get(_scope(one), False) if one.unacknowledged else False
    if isinstance(holds, PerronError):
        return holds
    if holds:
        return errors.third_party_not_acknowledged(one.unacknowledged[0])
    return refused.get(_model(one))


def _scope(one: Resolved) -> _Scope:
    return one.command.person.organization_id, one.command.person.workspace_id


def _model(one: Resolved) -> _ModelOf:
    return one.command.passport, one.content.model


def _item(item: pb.ResolveItem, request: pb.BatchResolveRequest, caller: Caller) -> ResolveCommand:
    """Reads one item of a batch; raises InvalidArgument, or what its passport was refused with."""
    passport = batch_items.passport_of(caller, item.passport_index)
    return _command(item, passport, request.passports[item.passport_index])


def _command(item: pb.ResolveRequest | pb.ResolveItem, passport: Passport, token: str) -> ResolveCommand:
    return ResolveCommand(
        item.agent, CHANNELS_BACK[item.channel], person_of(passport), token, item.trace_parent
    )


def _fill(response: pb.ResolveResponse, one: Resolved, *, with_configuration: bool) -> None:
    response.agent_id, response.version = one.pin
    response.model = one.content.model
    if one.third_parties:
        response.third_parties.extend(one.third_parties)
    if one.handoffs:
        response.handoff_agent_ids.extend(one.handoffs)
    if with_configuration:
        response.configuration.ParseFromString(one.content.configuration)
        if one.handoffs != one.content.handoffs:
            response.configuration.handoff_agent_ids[:] = one.handoffs
