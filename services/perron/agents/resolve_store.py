"""What Resolve reads, for a whole batch on one snapshot: a handful of statements, however many items it has.

Statements are text and rows the driver's own tuples: at a hundred items a batch, what SQLAlchemy makes of
them would cost more than the database. Nothing read is kept; only the reading of text is, as the same text
always means the same.
"""

import functools
import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from perron.agents.model import AgentState, Sealed
from perron.agents.visibility import Channel, SharingMode
from perron.chassis.database import Transaction

AgentOf = tuple[str, str]
"""An agent and the member who asks for it."""

Pin = tuple[str, int]
"""An agent and one of its versions."""

_STATES: Final = {one.value: one for one in AgentState}
_MODES: Final = {one.value: one for one in SharingMode}

_ALIASES: Final = (
    "SELECT wanted.a, wanted.b, found.agent_id, found.version FROM wanted "
    "JOIN aliases AS found ON found.workspace_id = wanted.a AND found.alias = wanted.b"
)
_AGENTS: Final = (
    "SELECT wanted.b, found.id, found.workspace_id, found.owner_member_id, found.state, found.sharing_mode, "
    "found.channels, found.latest_version, shares.member_id IS NOT NULL FROM wanted "
    "JOIN agents AS found ON found.id = wanted.a "
    "LEFT JOIN agent_shares AS shares ON shares.agent_id = wanted.a AND shares.member_id = wanted.b "
    "WHERE found.state <> 'DELETED' AND NOT EXISTS (SELECT 1 FROM tombstones AS graves "
    "WHERE graves.organization_id = found.organization_id "
    "AND graves.workspace_id IN ('', found.workspace_id))"
)
_VERSIONS: Final = (
    "SELECT wanted.a, wanted.b, found.third_parties, found.key_id, found.wrapped_key, found.sealed "
    "FROM wanted JOIN agent_versions AS found ON found.agent_id = wanted.a AND found.version = wanted.b "
    "WHERE found.sealed IS NOT NULL"
)
_ACKNOWLEDGED: Final = (
    "SELECT found.workspace_id, found.third_party FROM wanted "
    "JOIN acknowledgements AS found ON found.workspace_id = wanted.a AND found.third_party = wanted.b"
)


class FoundAgent(NamedTuple):
    """An agent as one member meets it; `is_named`: it is among those named with RESTRICTED."""

    agent_id: str
    workspace_id: str
    owner_member_id: str
    state: AgentState
    sharing_mode: SharingMode
    channels: frozenset[Channel]
    latest_version: int
    is_named: bool


class FoundVersion(NamedTuple):
    """A version with its sealed configuration."""

    third_parties: tuple[str, ...]
    sealed: Sealed


class ResolveStore:
    """Reads within one open transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def aliases(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Pin]:
        """Returns what each (workspace, alias) stands for, where it exists; version 0 is the latest."""
        return {(row[0], row[1]): (row[2], row[3]) for row in self._rows(_ALIASES, wanted)}

    def agents(self, wanted: Collection[AgentOf]) -> dict[AgentOf, FoundAgent]:
        """Returns those of the agents that live, each as its member meets it."""
        return {
            (row[1], row[0]): FoundAgent(
                agent_id=row[1],
                workspace_id=row[2],
                owner_member_id=row[3],
                state=_STATES[row[4]],
                sharing_mode=_MODES[row[5]],
                channels=_channels(row[6]),
                latest_version=row[7],
                is_named=bool(row[8]),
            )
            for row in self._rows(_AGENTS, wanted)
        }

    def versions(self, wanted: Collection[Pin]) -> dict[Pin, FoundVersion]:
        """Returns the versions that exist and are not erased."""
        return {
            (row[0], row[1]): FoundVersion(_names(row[2]), Sealed(row[3], bytes(row[4]), bytes(row[5])))
            for row in self._rows(_VERSIONS, wanted)
        }

    def acknowledged(self, wanted: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Returns those of the (workspace, third party) pairs that are acknowledged."""
        return {(row[0], row[1]) for row in self._rows(_ACKNOWLEDGED, wanted)}

    def _rows(self, query: str, wanted: Collection[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
        """Joins pairs to a table: SQLite would answer `(a, b) IN (…)` by reading the whole of it."""
        if not wanted:
            return []
        place = "(?, ?)" if self._tx.dialect == "sqlite" else "(%s, %s)"
        result = self._tx.driver_execute(
            _statement(query, place, len(wanted)), tuple(part for pair in wanted for part in pair)
        )
        rows: list[tuple[Any, ...]] = result.cursor.fetchall()  # type: ignore[assignment]  # the driver's tuples
        result.close()
        return rows


@functools.lru_cache(maxsize=1024)
def _statement(query: str, place: str, count: int) -> str:
    return f"WITH wanted (a, b) AS (VALUES {', '.join([place] * count)}) {query}"


@functools.lru_cache(maxsize=16)
def _channels(joined: str) -> frozenset[Channel]:
    return frozenset(map(Channel, joined.split(","))) if joined else frozenset()


@functools.lru_cache(maxsize=1024)
def _names(listed: str) -> tuple[str, ...]:
    return tuple(json.loads(listed))
