from pathlib import Path

import pytest

from perron.chassis.errors import FailedPrecondition, NotFound, SetupError
from perron.quotas.limits import (
    DEFAULT_FILE,
    RULES_MAX,
    Limits,
    Rule,
    RuleKind,
    Rules,
    charged,
    make_limit,
    read_tiers,
)
from perron.quotas.model import CounterKey, LimitScope, Metric, Origin
from perron.quotas.windows import Window
from tests.unit.quotas.platform import limit, limits

KEY = LimitScope.KEY
MINUTE_REQUESTS = CounterKey("", Metric.REQUESTS, Window.MINUTE)


def amounts(found: Limits, rules: Rules, tier: str = "free") -> dict[CounterKey, tuple[int, Origin]]:
    return {each.key: (each.amount, each.origin) for each in found.effective(tier, KEY, rules.pack())}


@pytest.fixture
def free() -> Limits:
    return limits(free=[limit(KEY, Metric.REQUESTS, Window.MINUTE, 10)])


@pytest.mark.parametrize(
    ("override", "cap", "expected"),
    [
        (None, None, (10, Origin.PLAN)),
        (50, None, (50, Origin.OVERRIDE)),
        (3, None, (3, Origin.OVERRIDE)),
        (None, 4, (4, Origin.CAP)),
        (None, 10, (10, Origin.PLAN)),
        (None, 40, (10, Origin.PLAN)),
        (50, 40, (40, Origin.CAP)),
        (3, 4, (3, Origin.OVERRIDE)),
    ],
)
def test_the_effective_amount_is_the_narrower_of_override_or_plan_and_cap(
    free: Limits, override: int | None, cap: int | None, expected: tuple[int, Origin]
) -> None:
    rules = Rules(
        overrides=(Rule(*MINUTE_REQUESTS, override),) if override is not None else (),
        caps=(Rule(*MINUTE_REQUESTS, cap),) if cap is not None else (),
    )
    assert amounts(free, rules) == {MINUTE_REQUESTS: expected}


def test_a_cap_adds_a_limit_that_the_plan_does_not_have(free: Limits) -> None:
    rules = Rules(caps=(Rule("large-1", Metric.TOKENS, Window.DAY, 7),))
    assert amounts(free, rules)[CounterKey("large-1", Metric.TOKENS, Window.DAY)] == (7, Origin.CAP)
    assert len(free.binding("free", KEY, rules.pack(), "large-1")) == 2
    assert len(free.binding("free", KEY, rules.pack(), "small-1")) == 1
    assert free.binding("free", LimitScope.WORKSPACE, b"", "small-1") == ()


def test_an_unknown_tier_is_refused_and_never_without_limits(free: Limits) -> None:
    with pytest.raises(FailedPrecondition):
        free.binding("gone", KEY, b"", "small-1")


def test_rules_are_set_replaced_and_deleted() -> None:
    rules = Rules().with_rule(RuleKind.CAP, Rule(*MINUTE_REQUESTS, 1))
    rules = rules.with_rule(RuleKind.CAP, Rule(*MINUTE_REQUESTS, 2))
    rules = rules.with_rule(RuleKind.OVERRIDE, Rule(*MINUTE_REQUESTS, 3))
    assert Rules.unpack(rules.pack()) == rules
    assert (rules.caps[0].amount, rules.overrides[0].amount) == (2, 3)
    rules = rules.without_rule(RuleKind.CAP, MINUTE_REQUESTS)
    with pytest.raises(NotFound):
        rules.without_rule(RuleKind.CAP, MINUTE_REQUESTS)
    assert rules.without_rule(RuleKind.OVERRIDE, MINUTE_REQUESTS).pack() == b""


def test_one_scope_has_a_bounded_number_of_rules() -> None:
    rules = Rules()
    for number in range(RULES_MAX):
        rules = rules.with_rule(RuleKind.CAP, Rule(f"m{number}", Metric.TOKENS, Window.DAY, 1))
    with pytest.raises(FailedPrecondition):
        rules.with_rule(RuleKind.CAP, Rule("one more", Metric.TOKENS, Window.DAY, 1))


def test_every_counter_that_one_call_can_charge_has_a_bit_of_its_own_in_63() -> None:
    every = [
        (scope, CounterKey(model, metric, window))
        for scope in LimitScope
        for model in ("", "m")
        for metric in Metric
        for window in Window
    ]
    bits = [make_limit(scope, key, 1, Origin.PLAN).charge_bit for scope, key in every]
    assert len(set(bits)) == len(every)
    assert max(bits) < 1 << 63
    assert sorted(charged(sum(bits), "m")) == sorted(every)


def test_one_call_has_nine_live_limits_in_every_tier_that_comes_with_perron() -> None:
    tiers = read_tiers(DEFAULT_FILE)
    assert [tier.name for tier in tiers] == ["free", "scale-1", "scale-2", "enterprise"]
    found = Limits(tiers)
    for tier in tiers:
        assert sum(len(found.binding(tier.name, scope, b"", "small-1")) for scope in LimitScope) == 9


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tiers: [", "tiers file"),
        ("[]", "tiers file"),
        ("tiers: []", "no tier"),
        ("tiers: [{name: free, limits: [], more: 1}]", "more"),
        ("tiers: [{name: free, limits: []}, {name: free, limits: []}]", "twice"),
        ("tiers: [{name: '', limits: []}]", "name is empty"),
        (
            "tiers: [{name: a, limits: [{scope: key, metric: concurrent, window: day, amount: 1}]}]",
            "concurrent",
        ),
        ("tiers: [{name: a, limits: [{scope: key, metric: tokens, window: week, amount: 1}]}]", "week"),
        ("tiers: [{name: a, limits: [{scope: key, metric: tokens, window: day, amount: -1}]}]", "amount"),
        ("tiers: [{name: a, limits: [{scope: key, metric: tokens, window: day, amount: .nan}]}]", "amount"),
        (
            "tiers: [{name: a, limits: [&one {scope: key, metric: tokens, window: day, amount: 1}, *one]}]",
            "twice",
        ),
    ],
)
def test_a_wrong_tiers_file_is_told_in_one_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "tiers.yaml").write_text(text)
    with pytest.raises(SetupError) as caught:
        read_tiers(tmp_path / "tiers.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tiers_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"gone\.yaml"):
        read_tiers(tmp_path / "gone.yaml")
