"""The base models that may be asked for: the operator's list, nothing else."""

from collections.abc import Iterable
from typing import Final

from perron.admission import errors

ANY: Final = "*"
_NOT_BASE_MODELS: Final = ("agt_", "agent:", "ft:")


class BaseModels:
    """Names of models; the name "*" among them accepts any."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def effective(self, requested: str, allowed: Iterable[str]) -> str:
        """Returns the model to run for one requested by a key that may use the `allowed` ones (none: all).

        Raises NotFound for a model that is not on the list, PermissionDenied for one that the key may not
        use. The list comes first, so that a key bound to a model that is gone learns that it is gone.
        """
        if requested.startswith(_NOT_BASE_MODELS):
            raise errors.not_a_base_model()
        if requested not in self._names and ANY not in self._names:
            raise errors.model_unknown()
        if allowed and requested not in allowed:
            raise errors.model_not_allowed()
        return requested
