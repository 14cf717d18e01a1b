"""Reserve, settle and release against a reference model: an exact log of every charge."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from perron.quotas.model import Admitted, LimitScope, Metric, Settlement
from perron.quotas.reservations import LATE_US
from perron.quotas.windows import Window
from tests.unit.quotas.platform import MINUTE_US, Service, limit, limits

LIMITS = (
    (LimitScope.ORGANIZATION, Metric.TOKENS, Window.HOUR, 400),
    (LimitScope.WORKSPACE, Metric.TOKENS, Window.MINUTE, 120),
    (LimitScope.KEY, Metric.REQUESTS, Window.SECOND, 3),
    (LimitScope.KEY, Metric.TOKENS, Window.MINUTE, 80),
)
LENGTHS = {Window.SECOND: 1_000_000, Window.MINUTE: MINUTE_US, Window.HOUR: 60 * MINUTE_US}


@dataclass
class Reference:
    """Exact logs, per limit and whom it bounds: [instant, amount] of every charge."""

    logs: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)
    made: dict[int, list[tuple[int, list[int]]]] = field(default_factory=dict)

    def would_admit(self, now_us: int, key: int, tokens: int, *, late: bool) -> bool:
        for index, (scope, metric, window, amount) in enumerate(LIMITS):
            length = LENGTHS[window] + (-(-LENGTHS[window] // 60) if late else 0)
            log = self.logs.get((index, holder(scope, key)), [])
            used = sum(charged for at_us, charged in log if at_us > now_us - length)
            if used + (tokens if metric is Metric.TOKENS else 1) > amount:
                return False
        return True

    def charge(self, now_us: int, number: int, key: int, tokens: int) -> None:
        self.made[number] = []
        for index, (scope, metric, _, _) in enumerate(LIMITS):
            entry = [now_us, tokens if metric is Metric.TOKENS else 1]
            self.logs.setdefault((index, holder(scope, key)), []).append(entry)
            self.made[number].append((index, entry))

    def settle(self, now_us: int, number: int, key: int, reserved: int, tokens: int) -> None:
        for index, entry in self.made[number]:
            scope, metric, _, _ = LIMITS[index]
            if metric is Metric.TOKENS and tokens < reserved:
                entry[1] = tokens
            elif metric is Metric.TOKENS:
                self.logs[index, holder(scope, key)].append([now_us, tokens - reserved])

    def release(self, number: int) -> None:
        for _, entry in self.made[number]:
            entry[1] = 0


def holder(scope: LimitScope, key: int) -> int:
    return {LimitScope.ORGANIZATION: 1, LimitScope.WORKSPACE: 1 + key % 2, LimitScope.KEY: key}[scope]


steps = st.one_of(
    st.tuples(st.just("reserve"), st.integers(1, 4), st.integers(0, 60)),
    st.tuples(
        st.just("advance"),
        st.sampled_from([1, 17_000, 400_000, 1_100_000, 20_000_000, 61_000_000]),
        st.just(0),
    ),
    st.tuples(st.just("settle"), st.integers(0, 50), st.integers(0, 90)),
    st.tuples(st.just("release"), st.integers(0, 50), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=60))
def test_reserve_settle_and_release_follow_an_exact_log_of_every_charge(
    drawn: list[tuple[str, int, int]],
) -> None:
    service = Service(limits(free=[limit(*each) for each in LIMITS]))
    reference = Reference()
    open_ones: list[tuple[int, int, int]] = []
    for number, (verb, first, second) in enumerate(drawn, start=1):
        now_us = service.clock.now_us()
        if verb == "advance":
            service.advance(first)
        elif verb == "reserve":
            workspace = 1 + first % 2
            result = service.reserve(number, key=first, workspace=workspace, tokens=second, ttl_us=LATE_US)
            if isinstance(result, Admitted):
                assert reference.would_admit(now_us, first, second, late=False), "admitted over the limit"
                reference.charge(now_us, number, first, second)
                open_ones.append((number, first, second))
            else:
                assert not reference.would_admit(now_us, first, second, late=True), "refused for too long"
        elif open_ones:
            chosen, key, reserved = open_ones.pop(first % len(open_ones))
            if verb == "settle":
                assert isinstance(service.settle(chosen, second), Settlement)
                reference.settle(now_us, chosen, key, reserved, second)
            else:
                service.release(chosen)
                reference.release(chosen)
