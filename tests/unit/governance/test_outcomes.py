"""The meet of outcomes, and of directives: whatever is combined, in whatever order, nothing gets wider."""

from hypothesis import given
from hypothesis import strategies as st

from perron.governance.directives import combined
from perron.governance.model import (
    AppliedClause,
    ClauseReason,
    Deadline,
    DeadlineKind,
    Directives,
    LicenceEnd,
    Outcome,
    Permission,
    Purpose,
    TrainingPreference,
)
from perron.governance.outcomes import MOST_RESTRICTIVE, is_kept, meet, without_training

FLIGHT_DAYS = 1.0  # an exchange is cut at 24 hours; days start at one

deadlines = st.builds(
    lambda kind, days: Deadline(kind, days if kind is DeadlineKind.TIME else 0),
    st.sampled_from(DeadlineKind),
    st.integers(1, 400),
)
permissions = st.builds(
    lambda chosen: tuple(Permission(purpose, tuple(until)) for purpose, until in chosen.items()),
    st.dictionaries(st.sampled_from(Purpose), st.lists(deadlines, min_size=1, max_size=4)),
)
clauses = st.lists(
    st.builds(AppliedClause, st.sampled_from(["", "3-free", "3-paid"]), st.sampled_from(ClauseReason)),
    max_size=4,
)
drawn = st.builds(Outcome, permissions, st.booleans(), st.sampled_from(LicenceEnd), clauses.map(tuple))
outcomes = drawn.map(lambda outcome: meet(outcome, outcome))  # in the form that every loaded outcome has
directives = st.builds(Directives, st.booleans(), st.sampled_from(TrainingPreference), st.integers(0, 9))
worlds = st.fixed_dictionaries(
    {
        DeadlineKind.IN_FLIGHT: st.floats(0, FLIGHT_DAYS),
        DeadlineKind.END_OF_SUBSCRIPTION: st.floats(FLIGHT_DAYS, 500),
        DeadlineKind.WHILE_JOB: st.floats(FLIGHT_DAYS, 500),
        DeadlineKind.UNTIL_DELETED: st.floats(FLIGHT_DAYS, 500),
    }
)


def ends(outcome: Outcome, purpose: Purpose, world: dict[DeadlineKind, float]) -> float:
    """The day on which a purpose ends, in a world where each event has its day; 0 where it never began."""
    found = outcome.permission(purpose)
    if found is None:
        return 0.0
    return min(world[one.kind] if one.kind in world else float(one.days) for one in found.deadlines)


@given(outcomes, outcomes, worlds)
def test_the_meet_never_widens(one: Outcome, other: Outcome, world: dict[DeadlineKind, float]) -> None:
    both = meet(one, other)
    for purpose in Purpose:
        assert ends(both, purpose, world) == min(ends(one, purpose, world), ends(other, purpose, world))
    assert both.training_eligible == (one.training_eligible and other.training_eligible)
    order = list(LicenceEnd)
    assert order.index(both.licence_end) == min(order.index(one.licence_end), order.index(other.licence_end))
    assert set(both.clauses) == {*one.clauses, *other.clauses}


@given(outcomes, outcomes)
def test_the_meet_is_commutative(one: Outcome, other: Outcome) -> None:
    assert meet(one, other) == meet(other, one)


@given(outcomes, outcomes, outcomes)
def test_the_meet_is_associative(one: Outcome, other: Outcome, third: Outcome) -> None:
    assert meet(meet(one, other), third) == meet(one, meet(other, third))


@given(outcomes)
def test_the_meet_is_idempotent(outcome: Outcome) -> None:
    assert meet(outcome, outcome) == outcome


@given(outcomes)
def test_nothing_is_kept_that_met_the_most_restrictive(outcome: Outcome) -> None:
    assert not is_kept(meet(outcome, MOST_RESTRICTIVE))


@given(outcomes)
def test_without_training_nothing_improves(outcome: Outcome) -> None:
    narrowed = without_training(outcome)
    assert not narrowed.training_eligible
    assert narrowed.permission(Purpose.IMPROVE_SERVICES) is None
    assert {one.purpose for one in narrowed.permissions} <= {one.purpose for one in outcome.permissions}


@given(st.lists(directives, max_size=4), st.randoms(use_true_random=False))
def test_directives_combine_in_any_order_and_only_add_up(found: list[Directives], random: object) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    whole = combined(found)
    assert combined(shuffled) == whole == combined([*found, *found])
    for one in found:
        assert whole.zero_retention >= one.zero_retention
        for as_of_us in range(10):
            assert whole.opted_out(as_of_us) >= one.opted_out(as_of_us)
