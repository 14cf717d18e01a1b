"""All counters of one organization, workspace or key: one row, packed into one value.

A call touches three rows however many limits bind it. Packed are only counters that count something, as
MessagePack arrays: a sub-bucket of a quiet key costs one byte. Beside them stand the row's open suspensions,
so that a refusal knows without another query whether it is the first.
"""

from typing import Final

import msgspec

from perron.quotas.model import CounterKey, LimitScope
from perron.quotas.windows import Counter, Instant


class OpenSuspension(msgspec.Struct, array_like=True, gc=False):
    """The suspension of one limit that a call of `cost` opened; stored as it stands."""

    model: str
    metric: int
    window: int
    suspension_id: str
    cost: int
    reset_us: int


class _Packed(msgspec.Struct, array_like=True, gc=False):
    counters: list[Counter]
    suspended: list[OpenSuspension]


_DECODER: Final = msgspec.msgpack.Decoder(_Packed)
_ENCODER: Final = msgspec.msgpack.Encoder()


class Counters:
    """What one scope used, and its rules as `limits` packs them; `changed` says that it must be saved."""

    __slots__ = (
        "_by_key",
        "changed",
        "id",
        "last_us",
        "organization_id",
        "rules",
        "scope",
        "suspended",
        "tier",
        "workspace_id",
    )

    def __init__(
        self,
        scope: LimitScope,
        scope_id: str,
        organization_id: str,
        workspace_id: str,
        tier: str = "",
        last_us: int = 0,
        packed: bytes = b"",
        rules: bytes = b"",
    ) -> None:
        self.scope = scope
        self.id = scope_id
        self.organization_id = organization_id
        self.workspace_id = workspace_id
        self.tier = tier
        self.last_us = last_us
        self.rules = rules
        self.changed = False
        self._by_key: dict[tuple[str, int, int], Counter] = {}
        self.suspended: dict[tuple[str, int, int], OpenSuspension] = {}
        if packed:
            stored = _DECODER.decode(packed)
            self._by_key = {(c.model, c.metric, c.window): c for c in stored.counters}
            self.suspended = {(s.model, s.metric, s.window): s for s in stored.suspended}

    def move_to(self, now: Instant) -> None:
        """Drops what no longer counts, and what time has closed, at an instant from `last_us` on."""
        for counter in self._by_key.values():
            counter.move_to(now)
        if self.suspended:
            self.suspended = {key: each for key, each in self.suspended.items() if each.reset_us > now.us}

    def counter(self, key: CounterKey) -> Counter:
        """Returns the counter of a key, an empty one where nothing was counted."""
        counter = self._by_key.get(key)
        if counter is None:
            counter = self._by_key[key] = Counter(*key)
        return counter

    def pack(self) -> bytes:
        """Writes what counts as the row's value."""
        live = [counter for counter in self._by_key.values() if counter.total]
        return _ENCODER.encode(_Packed(live, list(self.suspended.values())))
