"""What is left to erase, in one open transaction."""

from sqlalchemy import and_, delete, exists, or_, select, text, update

from perron.agents.model import Agent, ErasureState
from perron.agents.store import LIVE, agent_of
from perron.agents.tables import acknowledgements, agents, chassis_tables, workspaces
from perron.agents.version_store import VersionStore

_PENDING = text("agents.erasure = 'PENDING'")


class ErasingStore(VersionStore):
    """The part of the store that erasure needs."""

    def pending(self, after: str, rows_max: int) -> list[Agent]:
        """Returns deleted agents that were not erased yet, by id, from after an id on."""
        rows = self.tx.execute(
            select(agents).where(_PENDING, agents.c.id > after).order_by(agents.c.id).limit(rows_max)
        )
        return [agent_of(row) for row in rows]

    def is_pending(self, agent_id: str) -> bool:
        """Tells whether an agent is still to be erased."""
        found = self.tx.execute(select(agents.c.id).where(agents.c.id == agent_id, _PENDING))
        return found.first() is not None

    def erased(self, agent_id: str) -> None:
        """Marks a deleted agent erased."""
        self.tx.execute(
            update(agents).where(agents.c.id == agent_id).values(erasure=ErasureState.ERASED.value)
        )

    def ended_workspace(self) -> tuple[str, str] | None:
        """Returns an (organization, workspace) that was deleted for good and still has agents, or may."""
        graves = chassis_tables.tombstones.c
        buried = exists().where(
            and_(
                graves.organization_id == workspaces.c.organization_id,
                or_(graves.workspace_id == "", graves.workspace_id == workspaces.c.id),
            )
        )
        row = self.tx.execute(
            select(workspaces).where(workspaces.c.erased.is_(False), buried).limit(1)
        ).first()
        return (row.organization_id, row.id) if row is not None else None

    def live_agents(self, workspace_id: str, rows_max: int) -> list[Agent]:
        """Returns agents of a workspace that are not deleted."""
        rows = self.tx.execute(
            select(agents).where(agents.c.workspace_id == workspace_id, LIVE).limit(rows_max)
        )
        return [agent_of(row) for row in rows]

    def end_workspace(self, workspace_id: str) -> None:
        """Marks a workspace that has no agents any more; what it acknowledged is gone."""
        self.tx.execute(delete(acknowledgements).where(acknowledgements.c.workspace_id == workspace_id))
        self.tx.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(erased=True))
