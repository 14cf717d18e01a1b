"""The values of quotas: limits, costs, reservations, settlements, suspensions.

Those made once per call are named tuples, which are as frozen as a dataclass and made in a quarter of its
time.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from perron.quotas.windows import Window


class LimitScope(IntEnum):
    """Whose use a limit bounds, in the order of locks; the values are those of the contract."""

    ORGANIZATION = 1
    WORKSPACE = 2
    KEY = 3


class Metric(IntEnum):
    """What a limit counts; the values are those of the contract."""

    REQUESTS = 1
    TOKENS = 2


class Origin(IntEnum):
    """Where the amount of a limit comes from; the values are those of the contract."""

    PLAN = 1
    OVERRIDE = 2
    CAP = 3


class CounterKey(NamedTuple):
    """What a counter counts within its scope; `model` is empty for all models together."""

    model: str
    metric: int
    window: int


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """A bound on use. `charge_bit` is its counter's place in the set of counters that a reservation charged.

    It is compared by identity, because what is computed from a limit once is looked up for every call.
    """

    scope: LimitScope
    key: CounterKey
    amount: int
    origin: Origin
    charge_bit: int

    @property
    def metric(self) -> Metric:
        """What it counts."""
        return Metric(self.key.metric)

    @property
    def window(self) -> Window:
        """Over which time."""
        return Window(self.key.window)


class LimitStatus(NamedTuple):
    """Where a limit stands; `reset_us` is when capacity next comes back, 0 while nothing is counted."""

    limit: Limit
    used: int
    reset_us: int


@dataclass(frozen=True, slots=True)
class Target:
    """An organization, or one workspace or key of it: that whose limits are read or changed."""

    organization_id: str
    workspace_id: str = ""
    key_id: str = ""

    @property
    def scope(self) -> LimitScope:
        """The narrowest that is named."""
        if self.key_id:
            return LimitScope.KEY
        return LimitScope.WORKSPACE if self.workspace_id else LimitScope.ORGANIZATION

    @property
    def scope_id(self) -> str:
        """The id of the narrowest that is named."""
        return self.key_id or self.workspace_id or self.organization_id


class ReserveCommand(NamedTuple):
    """One call to be admitted; `reservation_id` is its id if it is admitted, the same for a repetition."""

    reservation_id: bytes
    repeatable: bool
    organization_id: str
    workspace_id: str
    key_id: str
    tier: str
    model: str
    requests: int
    tokens: int
    ttl_us: int
    check_only: bool
    trace_parent: str


class State(IntEnum):
    """What became of a reservation."""

    OPEN = 1
    SETTLED = 2
    RELEASED = 3


class Reservation(NamedTuple):
    """A charge that waits for its settlement; `charged` has a bit for each counter it was charged to.

    `settled_tokens` means something only once it is settled.
    """

    id: bytes
    organization_id: str
    workspace_id: str
    key_id: str
    model: str
    requests: int
    tokens: int
    reserve_us: int
    ttl_us: int
    charged: int
    state: int
    settled_tokens: int

    @property
    def expire_us(self) -> int:
        """When its ttl ends."""
        return self.reserve_us + self.ttl_us


class Admitted(NamedTuple):
    """The answer to an admitted call; where it was only checked, the id is empty and the time 0."""

    reservation_id: bytes
    expire_us: int
    statuses: list[LimitStatus]


class SettleCommand(NamedTuple):
    """What a reserved call really used."""

    organization_id: str
    reservation_id: bytes
    tokens: int
    trace_parent: str


class Settlement(NamedTuple):
    """What a reservation was settled with; of `refunded` and `debt` one is 0."""

    tokens: int
    refunded: int
    debt: int


@dataclass(frozen=True, slots=True)
class Suspension:
    """A time in which a limit refused calls; `close_us` is 0 while nothing but time has closed it."""

    id: str
    target: Target
    limit: Limit
    create_us: int
    reset_us: int
    close_us: int = 0

    def closed_us(self, now_us: int) -> int:
        """Returns when it was closed, by an admission or by time; 0 while it is open."""
        return self.close_us or (self.reset_us if self.reset_us <= now_us else 0)
