"""The base models of an installation: the operator's list, nothing else, can be trained."""

from collections.abc import Iterable

from perron.finetuning import errors
from perron.finetuning.model import BaseModel, Method


class BaseModels:
    """The operator's list, by name."""

    def __init__(self, models: Iterable[BaseModel]) -> None:
        self._models = {model.name: model for model in models}

    def all(self) -> list[BaseModel]:
        """Returns the list in the order of names."""
        return [self._models[name] for name in sorted(self._models)]

    def trainable(self, name: str, method: Method) -> BaseModel:
        """Returns a model that may be trained so; raises FailedPrecondition (BASE_MODEL_NOT_TRAINABLE)."""
        found = self._models.get(name)
        if found is None or not found.trainable or method not in found.methods:
            raise errors.base_model_not_trainable()
        return found

    def still_trainable(self, name: str) -> bool:
        """Says whether a model that a job was created with may still be trained."""
        found = self._models.get(name)
        return found is not None and found.trainable
