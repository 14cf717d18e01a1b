"""Names of models: what kind of thing each is, and the operator's list of base models."""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from perron.admission import errors

ANY: Final = "*"
_AGENTS: Final = ("agt_", "agent:")
_FINE_TUNED: Final = ("ft:", "mdl_")


class Kind(Enum):
    """What a name that is asked for stands for, and so who knows what is behind it."""

    BASE_MODEL = "base model"
    AGENT = "agent"
    FINE_TUNED_MODEL = "fine-tuned model"


def kind_of(name: str) -> Kind:
    """Tells from its beginning what a name stands for; whatever is nothing else is a base model."""
    if name.startswith(_AGENTS):
        return Kind.AGENT
    if name.startswith(_FINE_TUNED):
        return Kind.FINE_TUNED_MODEL
    return Kind.BASE_MODEL


class BaseModels:
    """Names of base models; the name "*" among them accepts any."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def check(self, name: str, allowed: Iterable[str]) -> None:
        """Refuses a name to a key that may use the `allowed` ones (none: all).

        Raises NotFound for a base model that is not on the list, PermissionDenied for any name that the key
        may not use. The list comes first, so that a key bound to a model that is gone learns that it is gone.
        Agents and fine-tuned models are vouched for by those who resolve them.
        """
        if kind_of(name) is Kind.BASE_MODEL and name not in self._names and ANY not in self._names:
            raise errors.model_unknown()
        if allowed and name not in allowed:
            raise errors.model_not_allowed()
