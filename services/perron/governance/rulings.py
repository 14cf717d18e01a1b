"""Rulings by number: what repeats in decisions is stored once, and each decision names it.

A ruling never changes and its number never moves, so a number that was once committed is remembered.
Directives are no part of this: they are read anew for every batch, and only then is it known which ruling a
decision names.
"""

from collections.abc import Hashable, Mapping
from typing import Final

from perron.governance.model import Ruling
from perron.governance.store import Store

_REMEMBERED_MAX: Final = 65_536


class Rulings:
    """The rulings that this process has met, by whatever key the caller computes them from."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[int, Ruling]] = {}

    def find(self, key: Hashable) -> tuple[int, Ruling] | None:
        """Returns number and ruling for a key that was interned before."""
        return self._known.get(key)

    def intern(self, store: Store, wanted: Mapping[Hashable, Ruling]) -> dict[Hashable, tuple[int, Ruling]]:
        """Stores the rulings that are new, and returns each with its number.

        They are remembered once the transaction has committed, since a number that was rolled back may be
        given again.
        """
        numbers = store.intern_rulings(list(wanted.values()))
        found = {key: (number, ruling) for (key, ruling), number in zip(wanted.items(), numbers, strict=True)}
        store.tx.after_commit(lambda: self._remember(found))
        return found

    def _remember(self, found: Mapping[Hashable, tuple[int, Ruling]]) -> None:
        if len(self._known) + len(found) > _REMEMBERED_MAX:
            self._known.clear()
        self._known.update(found)
