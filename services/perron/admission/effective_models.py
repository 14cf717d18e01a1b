"""What stands behind the name that an exchange asks for: a model to run, and maybe an agent to run it as.

Base models are known here; agents and fine-tuned models are resolved by those who keep them, in one question
for all exchanges of a batch. What a newcomer gets wrong: a key is checked against two names, that which was
asked for, before anybody is asked, and that of the model which is run in the end.
"""

from collections.abc import Iterable, Sequence

from perron.admission import convert, errors
from perron.admission.base_models import BaseModels
from perron.admission.exchanges import Asking, ResolvedAgent
from perron.admission.peers import Asked, Peers
from perron.api.finetuning.v1.model_service_pb2 import ResolveResponse
from perron.chassis.errors import PerronError


class EffectiveModels:
    """Finds the effective model of each exchange, and its agent where it has one."""

    def __init__(self, peers: Peers, base_models: BaseModels) -> None:
        self._peers = peers
        self._base_models = base_models

    def begin(self, asking: Asking, allowed_models: Iterable[str]) -> None:
        """Takes the name asked for as the model to run, which is all there is to do for a base model.

        Raises NotFound (MODEL_UNKNOWN) or PermissionDenied (MODEL_NOT_ALLOWED).
        """
        asking.allowed_models = allowed_models
        self._run(asking, asking.ask.model)

    async def agents(self, batch: Sequence[Asking]) -> None:
        """Resolves the agents of a batch, all of whose exchanges name one."""
        answers = await self._peers.resolve_agents(
            [Asked(asking.passport, convert.agent_item(asking)) for asking in batch]
        )
        for asking, answer in zip(batch, answers, strict=True):
            try:
                self._take_agent(asking, answer)
            except PerronError as refusal:
                asking.outcome = refusal

    async def fine_tuned_models(self, batch: Sequence[Asking]) -> None:
        """Resolves the fine-tuned models of a batch, all of whose exchanges name one."""
        answers = await self._peers.resolve_models(
            [Asked(asking.passport, convert.model_item(asking)) for asking in batch]
        )
        for asking, answer in zip(batch, answers, strict=True):
            try:
                self._take_model(asking, answer)
            except PerronError as refusal:
                asking.outcome = refusal

    def _take_agent(self, asking: Asking, answer: ResolvedAgent | PerronError) -> None:
        if isinstance(answer, PerronError):
            raise answer
        self._run(asking, answer.response.model)
        if not asking.room.takes(answer):
            raise errors.answer_too_large()
        asking.agent = answer

    def _take_model(self, asking: Asking, answer: ResolveResponse | PerronError) -> None:
        if isinstance(answer, PerronError):
            raise answer
        self._run(asking, answer.name)

    def _run(self, asking: Asking, model: str) -> None:
        self._base_models.check(model, asking.allowed_models)
        asking.model = model
