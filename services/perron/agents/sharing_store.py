"""Who is named with an agent, and what a workspace acknowledges, in one open transaction."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import delete, insert, select, text, update

from perron.agents.model import Acknowledgement, Agent
from perron.agents.store import LIVE, Store
from perron.agents.tables import acknowledgements, agent_shares, agents, workspaces

_ACKNOWLEDGE: Final = text(
    "INSERT INTO acknowledgements (workspace_id, third_party, member_id, create_time) "
    "VALUES (:workspace_id, :third_party, :member_id, :now) ON CONFLICT DO NOTHING"
)


class SharingStore(Store):
    """The part of the store that sharing needs."""

    def members_named(self, agent_id: str) -> tuple[str, ...]:
        """Returns the members named with an agent, in the order of their ids."""
        rows = self.tx.execute(
            select(agent_shares.c.member_id)
            .where(agent_shares.c.agent_id == agent_id)
            .order_by(agent_shares.c.member_id)
        )
        return tuple(row.member_id for row in rows)

    def name_members(self, agent: Agent, member_ids: Collection[str]) -> None:
        """Stores the members named with an agent, in the place of those before."""
        self.tx.execute(delete(agent_shares).where(agent_shares.c.agent_id == agent.agent_id))
        place = {"listed_as": agent.listed_as, "create_time": agent.create_us}
        share = {"workspace_id": agent.workspace_id, "agent_id": agent.agent_id} | place
        rows = [share | {"member_id": one} for one in sorted(member_ids)]
        if rows:
            self.tx.execute(insert(agent_shares), rows)

    def forget_member(self, organization_id: str, workspace_id: str, member_id: str) -> None:
        """Takes a member out of every agent's sharing, in one workspace or (empty) the whole organization."""
        own = select(workspaces.c.id).where(workspaces.c.organization_id == organization_id)
        if workspace_id:
            own = own.where(workspaces.c.id == workspace_id)
        named = (agent_shares.c.workspace_id.in_(own)) & (agent_shares.c.member_id == member_id)
        self.tx.execute(
            update(agents)
            .where(agents.c.id.in_(select(agent_shares.c.agent_id).where(named)), LIVE)
            .values(revision=agents.c.revision + 1, update_time=self.now_us())
        )
        self.tx.execute(delete(agent_shares).where(named))

    def acknowledge(self, workspace_id: str, third_party: str, member_id: str) -> bool:
        """Stores that a workspace knows of a third party; tells whether that is new."""
        values = {
            "workspace_id": workspace_id,
            "third_party": third_party,
            "member_id": member_id,
            "now": self.now_us(),
        }
        return bool(self.tx.execute(_ACKNOWLEDGE, values).rowcount)

    def withdraw(self, workspace_id: str, third_party: str) -> bool:
        """Takes an acknowledgement back; tells whether there was one."""
        return bool(
            self.tx.execute(
                delete(acknowledgements).where(
                    acknowledgements.c.workspace_id == workspace_id,
                    acknowledgements.c.third_party == third_party,
                )
            ).rowcount
        )

    def acknowledgements(
        self, workspace_id: str, after: str = "", rows_max: int = 1, *, exactly: str = ""
    ) -> list[Acknowledgement]:
        """Returns a workspace's acknowledgements by third party, from after one on, or `exactly` one."""
        chosen = (
            acknowledgements.c.third_party == exactly if exactly else acknowledgements.c.third_party > after
        )
        rows = self.tx.execute(
            select(acknowledgements)
            .where(acknowledgements.c.workspace_id == workspace_id, chosen)
            .order_by(acknowledgements.c.third_party)
            .limit(rows_max)
        )
        return [Acknowledgement(row.third_party, row.member_id, row.create_time) for row in rows]
