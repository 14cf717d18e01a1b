"""What is left to erase, in one open transaction."""

from typing import Final

from sqlalchemy import delete, select, text, update

from perron.agents.model import Agent, ErasureState
from perron.agents.store import LIVE, agent_of
from perron.agents.tables import acknowledgements, agents, workspaces
from perron.agents.version_store import VersionStore

_PENDING: Final = text("agents.erasure = 'PENDING'")
_ENDED: Final = text("is_ended")


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

    def end_workspaces(self, organization_id: str, workspace_id: str = "") -> None:
        """Notes that a workspace, or every one of an organization, was deleted for good."""
        own = workspaces.c.organization_id == organization_id
        if workspace_id:
            own &= workspaces.c.id == workspace_id
        self.tx.execute(update(workspaces).where(own).values(is_ended=True))

    def ended_workspace(self) -> str | None:
        """Returns a workspace that was deleted for good and may have agents yet; None where there is none."""
        found = self.tx.execute(select(workspaces.c.id).where(_ENDED).limit(1)).scalar()
        return str(found) if found is not None else None

    def live_agents(self, workspace_id: str, rows_max: int) -> list[Agent]:
        """Returns agents of a workspace that are not deleted."""
        rows = self.tx.execute(
            select(agents).where(agents.c.workspace_id == workspace_id, LIVE).limit(rows_max)
        )
        return [agent_of(row) for row in rows]

    def forget_workspace(self, workspace_id: str) -> None:
        """Notes that an ended workspace has no agents any more; what it acknowledged is gone."""
        self.tx.execute(delete(acknowledgements).where(acknowledgements.c.workspace_id == workspace_id))
        self.tx.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(is_ended=False))
