"""Lists of agents in one open transaction: a page touches about as many rows as it shows, whoever asks.

A person sees what the person owns, what is shared with the workspace, and what names the person. Each of the
three is read in the order of the list from an index of its own and cut at the size of a page; together they
hold the page. One condition over the whole workspace would read it whole where a person sees little of it.
What lists are narrowed by (owner, channel, state) is read past, except the agents that are disabled.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Select, Table, and_, exists, or_, select, text, union

from perron.agents.model import Agent, AgentState
from perron.agents.store import LIVE, Store, agent_of
from perron.agents.tables import agent_shares, agents, workspaces
from perron.agents.visibility import Channel, Person, SharingMode

_DISABLED: Final = text("agents.state = 'DISABLED'")


class Order(StrEnum):
    """Orders of a list."""

    CREATE_TIME = "CREATE_TIME"
    CREATE_TIME_DESCENDING = "CREATE_TIME_DESCENDING"
    DISPLAY_NAME = "DISPLAY_NAME"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which agents of a workspace are wanted; what is None is not asked about."""

    workspace_id: str
    state: AgentState | None
    owner_member_id: str | None
    channel: Channel | None
    order: Order


@dataclass(frozen=True, slots=True)
class Way:
    """A way to see agents of a workspace: the condition, and the table that has them in order."""

    condition: ColumnElement[bool]
    table: Table


class ListStore(Store):
    """The part of the store that lists need."""

    def list_agents(
        self, listing: Listing, person: Person | None, after: tuple[str | int, str] | None, rows_max: int
    ) -> list[Agent]:
        """Returns agents that a person sees, from after the key of an agent on; of all for None."""
        arms = [self._arm(listing, way, after, rows_max) for way in ways_to_see(person, listing.workspace_id)]
        if len(arms) == 1:
            rows = self.tx.execute(arms[0])
        else:
            together = union(*(select(arm.subquery()) for arm in arms)).subquery()
            rows = self.tx.execute(
                select(together)
                .order_by(*_ordered(_keys(together.c, listing.order), listing.order))
                .limit(rows_max)
            )
        return [agent_of(row) for row in rows]

    def may_have(self, organization_id: str, workspace_id: str) -> bool:
        """Tells whether a workspace can be the organization's: no other has it, and it was not deleted."""
        owner = self.tx.execute(
            select(workspaces.c.organization_id).where(workspaces.c.id == workspace_id)
        ).scalar()
        return owner in {None, organization_id} and not self.is_buried(organization_id, workspace_id)

    def _arm(
        self,
        listing: Listing,
        way: Way,
        after: tuple[str | int, str] | None,
        rows_max: int,
    ) -> Select[Any]:
        statement = select(agents).where(LIVE, way.condition)
        keys = _keys(way.table.c, listing.order)
        if listing.state is AgentState.DISABLED:
            statement = statement.where(_DISABLED)
        elif listing.state is not None:
            statement = statement.where(agents.c.state == listing.state.value)
        if listing.owner_member_id is not None:
            statement = statement.where(agents.c.owner_member_id == listing.owner_member_id)
        if listing.channel is not None:
            statement = statement.where(agents.c.channels.contains(listing.channel.value))
        if after is not None:
            statement = statement.where(_follows(keys, listing.order, after))
        return statement.order_by(*_ordered(keys, listing.order)).limit(rows_max)


def ways_to_see(person: Person | None, workspace_id: str) -> list[Way]:
    """Says in SQL what `visibility.sees` says of the agents of a workspace: one of these is true.

    Those that name the person are found by their ids alone: were the workspace a condition too, SQLite would
    read all of it in the order of the list to find them.
    """
    within = agents.c.workspace_id == workspace_id
    if person is None or person.is_admin:
        return [Way(within, agents)]
    ways = [Way(within & (agents.c.owner_member_id == person.member_id), agents)]
    if person.entitlements.sharing:
        names = (agent_shares.c.workspace_id == workspace_id) & (agent_shares.c.member_id == person.member_id)
        ways += [
            Way(within & (agents.c.sharing_mode == SharingMode.WORKSPACE.value), agents),
            Way(names & (agent_shares.c.agent_id == agents.c.id), agent_shares),
        ]
    return ways


def is_seen(person: Person, workspace_id: str) -> ColumnElement[bool]:
    """Says the same as one condition, for statements that read something else of agents."""
    return or_(
        *(
            way.condition if way.table is agents else exists().where(way.condition)
            for way in ways_to_see(person, workspace_id)
        )
    )


def key_of(agent: Agent, order: Order) -> tuple[str | int, str]:
    """Returns the place of an agent in an order."""
    first = agent.listed_as if order is Order.DISPLAY_NAME else agent.create_us
    return first, agent.agent_id


def _keys(columns: Any, order: Order) -> tuple[Column[Any], Column[Any]]:
    first = columns.listed_as if order is Order.DISPLAY_NAME else columns.create_time
    return first, columns.agent_id if "agent_id" in columns else columns.id


def _ordered(keys: tuple[Column[Any], Column[Any]], order: Order) -> list[ColumnElement[Any]]:
    return [key.desc() for key in keys] if order is Order.CREATE_TIME_DESCENDING else list(keys)


def _follows(
    keys: tuple[Column[Any], Column[Any]], order: Order, after: tuple[str | int, str]
) -> ColumnElement[bool]:
    first, last = keys
    value, agent_id = after
    if order is Order.CREATE_TIME_DESCENDING:
        return and_(first <= value, or_(first < value, last < agent_id))
    return and_(first >= value, or_(first > value, last > agent_id))
