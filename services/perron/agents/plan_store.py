"""What the plan of each organization gave when it was last looked at, in one open transaction.

For events alone: what a person may do is always said by the entitlements of the call itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select, text

from perron.agents.store import channels_of
from perron.agents.tables import plan_entitlements
from perron.agents.visibility import Entitlements
from perron.chassis.mutations import Mutations

_REMEMBER: Final = text(
    "INSERT INTO plan_entitlements (organization_id, sharing, channels, changes, update_time) "
    "VALUES (:organization_id, :sharing, :channels, 0, :now) ON CONFLICT DO NOTHING"
)
_HEAR: Final = text(
    "UPDATE plan_entitlements SET changes = changes + 1 WHERE organization_id = :organization_id"
)
_SAW: Final = text(
    "UPDATE plan_entitlements SET sharing = :sharing, channels = :channels, changes = changes - :changes, "
    "update_time = :now WHERE organization_id = :organization_id"
)
_TO_LOOK_AT: Final = text("changes > 0")
# A workspace to ask identity by: one that lives, as far as is known here.
_WORKSPACES: Final = text(
    "SELECT organization_id, min(id) AS id FROM workspaces WHERE organization_id IN "
    "(SELECT organization_id FROM plan_entitlements WHERE changes > 0) AND NOT EXISTS (SELECT 1 "
    "FROM tombstones WHERE tombstones.organization_id = workspaces.organization_id "
    "AND tombstones.workspace_id IN ('', workspaces.id)) GROUP BY organization_id"
)


@dataclass(frozen=True, slots=True)
class Heard:
    """An organization whose plan changed unseen; `workspace_id` is empty where it has none left."""

    organization_id: str
    workspace_id: str
    entitlements: Entitlements
    changes: int


class PlanStore(Mutations):
    """The part of the store that changes of plan need."""

    def remember(self, organization_id: str, entitlements: Entitlements) -> None:
        """Stores what a plan gives, where nothing is known of the organization yet."""
        self.tx.execute(_REMEMBER, self._values(organization_id, entitlements))

    def hear(self, organization_id: str) -> None:
        """Counts a change of plan, which is to be looked at."""
        self.tx.execute(_HEAR, {"organization_id": organization_id})

    def heard(self, rows_max: int) -> list[Heard]:
        """Returns organizations that are to be looked at."""
        workspaces: Mapping[str, str] = {row.organization_id: row.id for row in self.tx.execute(_WORKSPACES)}
        rows = self.tx.execute(
            select(plan_entitlements)
            .where(_TO_LOOK_AT)
            .order_by(plan_entitlements.c.organization_id)
            .limit(rows_max)
        )
        return [
            Heard(
                row.organization_id,
                workspaces.get(row.organization_id, ""),
                Entitlements(bool(row.sharing), channels_of(row.channels)),
                row.changes,
            )
            for row in rows
        ]

    def saw(self, heard: Heard, entitlements: Entitlements) -> None:
        """Stores what the plan gives; a change heard of meanwhile is still to be looked at."""
        self.tx.execute(_SAW, self._values(heard.organization_id, entitlements) | {"changes": heard.changes})

    def _values(self, organization_id: str, entitlements: Entitlements) -> dict[str, Any]:
        return {
            "organization_id": organization_id,
            "sharing": entitlements.sharing,
            "channels": ",".join(sorted(entitlements.channels)),
            "now": self.tx.now_us(),
        }
