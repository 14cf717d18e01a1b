from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perron.agents.handoffs import DEPTH_MAX, check
from perron.chassis.errors import FailedPrecondition

Edges = dict[str, set[str]]


class Graph:
    """Handoffs as stored, and what was asked about them."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        self.asked: list[int] = []

    def below(self, agents: Collection[str]) -> Mapping[str, Collection[str]]:
        self.asked.append(len(agents))
        return {one: self.edges[one] for one in agents if self.edges.get(one)}

    def above(self, agents: Collection[str]) -> Mapping[str, Collection[str]]:
        self.asked.append(len(agents))
        found = {one: {other for other, its in self.edges.items() if one in its} for one in agents}
        return {one: others for one, others in found.items() if others}

    def update(self, agent: str, targets: Collection[str]) -> None:
        check(agent, targets, below=self.below, above=self.above)
        self.edges[agent] = set(targets)


def chain(*agents: str) -> Edges:
    return {one: {other} for one, other in pairwise(agents)}


def longest(edges: Edges, agent: str, seen: tuple[str, ...] = ()) -> float:
    """The longest path from an agent, infinite where there is a circle."""
    if agent in seen:
        return float("inf")
    return max((1 + longest(edges, other, (*seen, agent)) for other in edges.get(agent, ())), default=0)


AGENTS = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(AGENTS, st.sets(AGENTS, max_size=3)), max_size=16))
@example([(one, {other}) for one, other in zip("abcdefg", "bcdefgh", strict=True)])
@example([("a", {"b"}), ("b", {"c"}), ("c", {"a"})])
def test_what_is_stored_has_neither_circles_nor_long_chains(updates: list[tuple[str, set[str]]]) -> None:
    graph = Graph({})
    for agent, targets in updates:
        wanted = graph.edges | {agent: targets}
        depth = max(longest(wanted, one) for one in wanted)
        if depth <= DEPTH_MAX:
            graph.update(agent, targets)
            continue
        with pytest.raises(FailedPrecondition) as refused:
            graph.update(agent, targets)
        assert refused.value.reason == ("HANDOFF_CYCLE" if depth == float("inf") else "HANDOFF_TOO_DEEP")


def test_an_agent_does_not_hand_over_to_itself() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        Graph({}).update("a", ["b", "a"])
    assert refused.value.metadata == {"agents": "a,a"}


def test_a_circle_is_told_by_the_handoff_that_closes_it_and_nothing_between() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        Graph(chain("b", "hidden", "a")).update("a", ["c", "b"])
    assert refused.value.reason == "HANDOFF_CYCLE"
    assert refused.value.metadata == {"agents": "a,b"}
    assert "hidden" not in str(refused.value)


def test_a_circle_of_full_length_is_a_circle_and_not_a_long_chain() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        Graph(chain("b", "c", "d", "e", "f", "a")).update("a", ["b"])
    assert refused.value.reason == "HANDOFF_CYCLE"


@pytest.mark.parametrize("last", "abcde")
def test_a_chain_of_five_handoffs_is_the_longest_whichever_link_comes_last(last: str) -> None:
    edges = chain(*"abcdef")
    graph = Graph({one: others for one, others in edges.items() if one != last})
    graph.update(last, edges[last])
    for agent, target in (("f", "g"), ("z", "a")):
        with pytest.raises(FailedPrecondition) as refused:
            graph.update(agent, [target])
        assert refused.value.reason == "HANDOFF_TOO_DEEP"


def test_what_an_agent_handed_over_to_before_does_not_count() -> None:
    graph = Graph({"a": {"b"}, "b": {"c"}})
    graph.update("b", [])
    graph.update("c", ["a"])
    graph.update("a", ["d"])
    assert graph.edges == {"a": {"d"}, "b": set(), "c": {"a"}}


def test_no_question_names_more_agents_than_a_statement_takes() -> None:
    graph = Graph({f"caller {number}": {"a"} for number in range(2500)})
    graph.update("a", ["b"])
    assert max(graph.asked) == 1000
    assert sum(graph.asked) == 1 + 1 + 2500


def test_two_updates_that_do_not_wait_for_each_other_close_a_circle() -> None:
    """The racy variant: each is checked against what the other has not stored yet. Hence the lock."""
    graph = Graph({})
    for agent, target in (("a", "b"), ("b", "a")):
        check(agent, [target], below=Graph({}).below, above=Graph({}).above)
        graph.edges[agent] = {target}
    assert longest(graph.edges, "a") == float("inf")

    serial = Graph({})
    serial.update("a", ["b"])
    with pytest.raises(FailedPrecondition):
        serial.update("b", ["a"])
