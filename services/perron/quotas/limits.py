"""Limits: what a tier admits, what operators and customers changed of it, and so which limits hold.

    effective amount = min(override or plan, cap)

An override replaces the plan's amount, either way. A cap is a further limit of the customer's own; both would
share one counter, so the narrower of the two is the limit. Rules are the caps and overrides of one scope;
they lie packed in its row and are read with its counters, so that a change holds for the next call on every
replica.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

from perron.chassis.errors import SetupError
from perron.quotas import errors
from perron.quotas.model import CounterKey, Limit, LimitScope, Metric, Origin
from perron.quotas.windows import Window

AMOUNT_MAX: Final = 10**15
RULES_MAX: Final = 32
"""How many caps, and how many overrides, one scope may have."""

DEFAULT_FILE: Final = Path(__file__).with_name("tiers.yaml")

_MODELS_PER_TIER_MAX: Final = 100


class RuleKind(StrEnum):
    """What a rule is: a cap of the customer, or an override of the operator."""

    CAP = "cap"
    OVERRIDE = "override"


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """The amount that a cap or an override sets for one counter; stored as it stands."""

    model: str
    metric: int
    window: int
    amount: int

    @property
    def key(self) -> CounterKey:
        """The counter that it bounds."""
        return CounterKey(self.model, self.metric, self.window)


class Rules(msgspec.Struct, array_like=True, frozen=True):
    """The caps and overrides of one scope."""

    overrides: tuple[Rule, ...] = ()
    caps: tuple[Rule, ...] = ()

    @classmethod
    def unpack(cls, packed: bytes) -> "Rules":
        """Reads the value that `pack` wrote; none for the empty one."""
        return msgspec.msgpack.decode(packed, type=Rules) if packed else cls()

    def pack(self) -> bytes:
        """Writes them as one value, the same for the same rules."""
        return msgspec.msgpack.encode(self) if self.overrides or self.caps else b""

    def of(self, kind: RuleKind) -> tuple[Rule, ...]:
        """Returns the caps, or the overrides."""
        return self.caps if kind is RuleKind.CAP else self.overrides

    def with_rule(self, kind: RuleKind, rule: Rule) -> "Rules":
        """Returns them with one set; raises FailedPrecondition with LIMITS_TOO_MANY."""
        changed = self._without(kind, rule.key)
        if len(changed) >= RULES_MAX:
            raise errors.limits_too_many(kind, RULES_MAX)
        return self._replaced(kind, tuple(sorted((*changed, rule), key=lambda each: each.key)))

    def without_rule(self, kind: RuleKind, key: CounterKey) -> "Rules":
        """Returns them with one deleted; raises NotFound where there is none."""
        changed = self._without(kind, key)
        if len(changed) == len(self.of(kind)):
            raise errors.not_found()
        return self._replaced(kind, changed)

    def _without(self, kind: RuleKind, key: CounterKey) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.of(kind) if rule.key != key)

    def _replaced(self, kind: RuleKind, rules: tuple[Rule, ...]) -> "Rules":
        return Rules(self.overrides, rules) if kind is RuleKind.CAP else Rules(rules, self.caps)


@dataclass(frozen=True, slots=True)
class Tier:
    """What a plan admits, as published."""

    name: str
    limits: tuple[Limit, ...]


class Limits:
    """The limits that hold, computed from the tiers and the rules of a row.

    Computing is remembered by its inputs, which are read from the row for every call.
    """

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = tuple(tiers)
        self._by_name = {tier.name: tier for tier in tiers}
        self._by_model = functools.lru_cache(maxsize=20_000)(self._computed)

    def binding(self, tier: str, scope: LimitScope, rules: bytes, model: str) -> tuple[Limit, ...]:
        """Returns the limits of one scope that bind a call to `model`.

        Raises FailedPrecondition with TIER_UNKNOWN.
        """
        by_model = self._by_model(tier, scope, rules)
        return by_model.get(model) or by_model[""]

    def effective(self, tier: str, scope: LimitScope, rules: bytes) -> tuple[Limit, ...]:
        """Returns all limits of one scope, those for all models first; raises as `binding`."""
        by_model = self._by_model(tier, scope, rules)
        for_all = by_model[""]
        named = (limit for model in sorted(by_model) if model for limit in by_model[model][len(for_all) :])
        return (*for_all, *named)

    def _computed(self, tier: str, scope: LimitScope, packed: bytes) -> Mapping[str, tuple[Limit, ...]]:
        if tier not in self._by_name:
            raise errors.tier_unknown(tier)
        rules = Rules.unpack(packed)
        amounts = {
            limit.key: (limit.amount, Origin.PLAN)
            for limit in self._by_name[tier].limits
            if limit.scope is scope
        }
        for rule in rules.overrides:
            amounts[rule.key] = (rule.amount, Origin.OVERRIDE)
        for rule in rules.caps:
            if rule.key not in amounts or rule.amount < amounts[rule.key][0]:
                amounts[rule.key] = (rule.amount, Origin.CAP)
        limits = [make_limit(scope, key, amount, origin) for key, (amount, origin) in sorted(amounts.items())]
        for_all = tuple(limit for limit in limits if not limit.key.model)
        models = {limit.key.model for limit in limits if limit.key.model}
        by_model = {
            model: (*for_all, *(each for each in limits if each.key.model == model)) for model in models
        }
        return {"": for_all, **by_model}


def make_limit(scope: LimitScope, key: CounterKey, amount: int, origin: Origin) -> Limit:
    """Makes a limit, with the place of its counter among the 60 that one call can charge."""
    place = ((scope - 1) * 2 + bool(key.model)) * 2 + key.metric - 1
    return Limit(scope, key, amount, origin, 1 << place * len(Window) + key.window - 1)


@functools.lru_cache(maxsize=1000)
def charged(bits: int, model: str) -> tuple[tuple[LimitScope, CounterKey], ...]:
    """Returns the counters that the bits of a reservation for `model` stand for."""
    found = []
    for place in range(bits.bit_length()):
        if bits >> place & 1:
            rest, window = divmod(place, len(Window))
            rest, metric = divmod(rest, len(Metric))
            scope, named = divmod(rest, 2)
            found.append((LimitScope(scope + 1), CounterKey(model if named else "", metric + 1, window + 1)))
    return tuple(found)


class _LimitEntry(msgspec.Struct, forbid_unknown_fields=True):
    scope: Literal["organization", "workspace", "key"]
    metric: Literal["requests", "tokens"]
    window: Literal["second", "minute", "hour", "day", "month"]
    amount: int
    model: str = ""


class _TierEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    limits: list[_LimitEntry]


class _TiersFile(msgspec.Struct, forbid_unknown_fields=True):
    tiers: list[_TierEntry]


def read_tiers(path: Path) -> tuple[Tier, ...]:
    """Reads a tiers file; raises SetupError that says in one line what is wrong with it."""
    try:
        entries = msgspec.convert(yaml.safe_load(path.read_bytes()), _TiersFile).tiers
    except OSError as error:
        raise SetupError(f"tiers file {path}: {error.strerror}") from None
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SetupError(f"tiers file {path}: {' '.join(str(error).split())}") from None
    _refuse_doubles(path, "tier", [entry.name for entry in entries])
    if not entries:
        raise SetupError(f"tiers file {path}: it has no tier")
    return tuple(_tier(path, entry) for entry in entries)


def _tier(path: Path, entry: _TierEntry) -> Tier:
    limits = tuple(
        make_limit(
            LimitScope[each.scope.upper()],
            CounterKey(each.model, Metric[each.metric.upper()], Window[each.window.upper()]),
            each.amount,
            Origin.PLAN,
        )
        for each in entry.limits
    )
    _refuse_doubles(
        path, f"tier {entry.name}: limit", [(limit.scope.name.lower(), *limit.key) for limit in limits]
    )
    if not entry.name or any(not 0 <= limit.amount <= AMOUNT_MAX for limit in limits):
        raise SetupError(
            f"tiers file {path}: tier {entry.name}: a name is empty, or an amount not 0 to {AMOUNT_MAX}"
        )
    if len({limit.key.model for limit in limits}) > _MODELS_PER_TIER_MAX:
        raise SetupError(f"tiers file {path}: tier {entry.name}: more than {_MODELS_PER_TIER_MAX} models")
    return Tier(entry.name, limits)


def _refuse_doubles(path: Path, noun: str, names: Iterable[object]) -> None:
    seen: set[object] = set()
    for name in names:
        if name in seen:
            raise SetupError(f"tiers file {path}: {noun} {name} stands there twice")
        seen.add(name)
