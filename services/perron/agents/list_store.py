"""Lists of agents in one open transaction: a page touches about as many rows as it shows, whoever asks.

A person sees what the person owns, what is shared with the workspace, and what names the person. Each of the
three is read in the order of the list from an index of its own and cut at the size of a page; together they
hold the page. One condition over the whole workspace would read it whole where a person sees little of it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, or_, select, text, union

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


class ListStore(Store):
    """The part of the store that lists need."""

    def list_agents(
        self, listing: Listing, person: Person | None, after: tuple[str | int, str] | None, rows_max: int
    ) -> list[Agent]:
        """Returns agents that a person sees, from after the key of an agent on; of all for None."""
        arms = [
            self._arm(listing, seen, after, rows_max) for seen in ways_to_see(person, listing.workspace_id)
        ]
        if len(arms) == 1:
            rows = self.tx.execute(arms[0])
        else:
            together = union(*(select(arm.subquery()) for arm in arms)).subquery()
            rows = self.tx.execute(
                select(together).order_by(*_ordered(together.c, listing.order)).limit(rows_max)
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
        seen: ColumnElement[bool],
        after: tuple[str | int, str] | None,
        rows_max: int,
    ) -> Select[Any]:
        statement = select(agents).where(LIVE, seen)
        if listing.state is AgentState.DISABLED:
            statement = statement.where(_DISABLED)
        elif listing.state is not None:
            statement = statement.where(agents.c.state == listing.state.value)
        if listing.owner_member_id is not None:
            statement = statement.where(agents.c.owner_member_id == listing.owner_member_id)
        if listing.channel is not None:
            statement = statement.where(agents.c.channels.contains(listing.channel.value))
        if after is not None:
            statement = statement.where(_follows(listing.order, after))
        return statement.order_by(*_ordered(agents.c, listing.order)).limit(rows_max)


def ways_to_see(person: Person | None, workspace_id: str) -> list[ColumnElement[bool]]:
    """Says in SQL what `visibility.sees` says of the agents of a workspace: a condition for each way.

    Those that name the person are asked for by their ids alone: were the workspace a condition too, SQLite
    would read all of it in the order of the list to find them.
    """
    within = agents.c.workspace_id == workspace_id
    if person is None or person.is_admin:
        return [within]
    ways: list[ColumnElement[bool]] = [within & (agents.c.owner_member_id == person.member_id)]
    if person.entitlements.sharing:
        named = select(agent_shares.c.agent_id).where(
            agent_shares.c.workspace_id == workspace_id, agent_shares.c.member_id == person.member_id
        )
        shared = agents.c.sharing_mode == SharingMode.WORKSPACE.value
        ways += [within & shared, agents.c.id.in_(named)]
    return ways


def key_of(agent: Agent, order: Order) -> tuple[str | int, str]:
    """Returns the place of an agent in an order."""
    first = agent.listed_as if order is Order.DISPLAY_NAME else agent.create_us
    return first, agent.agent_id


def _ordered(columns: Any, order: Order) -> list[Any]:
    if order is Order.DISPLAY_NAME:
        return [columns.listed_as, columns.id]
    if order is Order.CREATE_TIME_DESCENDING:
        return [columns.create_time.desc(), columns.id.desc()]
    return [columns.create_time, columns.id]


def _follows(order: Order, after: tuple[str | int, str]) -> ColumnElement[bool]:
    first = agents.c.listed_as if order is Order.DISPLAY_NAME else agents.c.create_time
    value, agent_id = after
    if order is Order.CREATE_TIME_DESCENDING:
        return and_(first <= value, or_(first < value, agents.c.id < agent_id))
    return and_(first >= value, or_(first > value, agents.c.id > agent_id))
