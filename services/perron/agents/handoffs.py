"""Handoffs: agents hand over to agents, never in a circle and never more than five times in a row.

The rule holds over the latest versions of a workspace, which it is asked about one level at a time. What a
newcomer gets wrong: two updates that are each harmless can close a circle together, so whoever asks holds the
workspace's lock until the new handoffs are stored.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from perron.chassis.errors import FailedPrecondition

DEPTH_MAX: Final = 5
_AGENTS_PER_QUESTION_MAX: Final = 1000

Neighbours = Callable[[Collection[str]], Mapping[str, Collection[str]]]
"""Answers which agents each of some agents is joined to; agents joined to none may be left out."""


def check(agent_id: str, target_ids: Collection[str], *, below: Neighbours, above: Neighbours) -> None:
    """Checks that an agent may hand over to `target_ids`, whatever it handed over to before.

    `below` answers to whom agents hand over, `above` who hands over to them, both as stored.

    Raises FailedPrecondition: HANDOFF_CYCLE, with the agent and the target of it that leads back (who is in
    between, its author may not be allowed to see), or HANDOFF_TOO_DEEP.
    """
    depth = 0
    for level in _levels(target_ids, below):
        depth += 1
        if agent_id in level:
            raise _cycle(agent_id, level[agent_id])
        if depth > DEPTH_MAX:
            raise _too_deep()
    if not depth:
        return
    for _ in _levels(above([agent_id]).get(agent_id, ()), above):
        depth += 1
        if depth > DEPTH_MAX:
            raise _too_deep()


def _levels(first: Iterable[str], neighbours: Neighbours) -> Iterator[dict[str, str]]:
    """Yields the agents of each level, each with the agent of the first level that leads there.

    An agent comes in every level that some path has it in: the last level is the longest path.
    """
    level = {one: one for one in first}
    while level:
        yield level
        asked = sorted(level)
        level = {
            further: level[one]
            for start in range(0, len(asked), _AGENTS_PER_QUESTION_MAX)
            for one, others in neighbours(asked[start : start + _AGENTS_PER_QUESTION_MAX]).items()
            for further in others
        }


def _cycle(agent_id: str, target_id: str) -> FailedPrecondition:
    return FailedPrecondition(
        "HANDOFF_CYCLE",
        "the agents would hand over to each other in a circle",
        metadata={"agents": f"{agent_id},{target_id}"},
    )


def _too_deep() -> FailedPrecondition:
    return FailedPrecondition(
        "HANDOFF_TOO_DEEP",
        f"a chain of handoffs would be longer than {DEPTH_MAX}",
    )
