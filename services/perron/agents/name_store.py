"""Aliases and reserved names in one open transaction."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from perron.agents.errors import missing
from perron.agents.list_store import is_seen
from perron.agents.model import Alias
from perron.agents.store import attestation_of, attestation_row
from perron.agents.tables import agents, aliases, reserved_keys, reserved_names
from perron.agents.version_store import VersionStore
from perron.agents.visibility import Person


class NameStore(VersionStore):
    """The part of the store that aliases and reserved names need."""

    def alias(self, workspace_id: str, alias: str) -> Alias:
        """Returns an alias. Raises NotFound."""
        row = self.tx.execute(
            select(aliases).where(aliases.c.workspace_id == workspace_id, aliases.c.alias == alias)
        ).first()
        if row is None:
            raise missing("alias")
        return _alias(row)

    def aliases(self, person: Person, agent_id: str, after: str, rows_max: int) -> list[Alias]:
        """Returns aliases of agents that a person sees, by name; of one agent where it is named."""
        statement = (
            select(aliases)
            .join(agents, agents.c.id == aliases.c.agent_id)
            .where(
                aliases.c.workspace_id == person.workspace_id,
                aliases.c.alias > after,
                is_seen(person, person.workspace_id),
            )
            .order_by(aliases.c.alias)
            .limit(rows_max)
        )
        if agent_id:
            statement = statement.where(aliases.c.agent_id == agent_id)
        return [_alias(row) for row in self.tx.execute(statement)]

    def alias_is_taken(self, workspace_id: str, readings: Collection[str]) -> bool:
        """Tells whether an alias of the workspace can be read in one of these ways."""
        found = self.tx.execute(
            select(aliases.c.alias)
            .where(aliases.c.workspace_id == workspace_id, aliases.c.reading.in_(readings))
            .limit(1)
        )
        return found.first() is not None

    def insert_alias(self, alias: Alias, reading: str) -> None:
        """Stores a new alias."""
        self.tx.execute(insert(aliases), _row(alias) | {"reading": reading})

    def update_alias(self, alias: Alias) -> None:
        """Stores what has changed of an alias."""
        self.tx.execute(
            update(aliases)
            .where(aliases.c.workspace_id == alias.workspace_id, aliases.c.alias == alias.alias)
            .values(_row(alias))
        )

    def delete_alias(self, alias: Alias) -> None:
        """Deletes an alias."""
        self.tx.execute(
            delete(aliases).where(
                aliases.c.workspace_id == alias.workspace_id, aliases.c.alias == alias.alias
            )
        )

    def reserved_names(self, after: str, rows_max: int) -> list[tuple[str, str]]:
        """Returns (place in the list, name) of reserved names, from after a place on."""
        rows = self.tx.execute(
            select(reserved_names)
            .where(reserved_names.c.listed_as > after)
            .order_by(reserved_names.c.listed_as)
            .limit(rows_max)
        )
        return [(row.listed_as, row.name) for row in rows]

    def reserve(self, wanted: Mapping[str, tuple[str, Collection[str]]]) -> None:
        """Stores reserved names, as (name, keys) by their places in the list; those stored go first."""
        self.release(wanted)
        if not wanted:
            return
        self.tx.execute(
            insert(reserved_names),
            [{"listed_as": place, "name": name} for place, (name, _) in sorted(wanted.items())],
        )
        self.tx.execute(
            insert(reserved_keys),
            [
                {"key": key, "listed_as": place}
                for place, (_, keys) in sorted(wanted.items())
                for key in sorted(keys)
            ],
        )

    def release(self, places: Collection[str]) -> None:
        """Deletes reserved names by their places in the list; those that are not there are passed over."""
        if places:
            self.tx.execute(delete(reserved_names).where(reserved_names.c.listed_as.in_(places)))
            self.tx.execute(delete(reserved_keys).where(reserved_keys.c.listed_as.in_(places)))

    def count_reserved(self) -> int:
        """Returns how many names are reserved."""
        return int(self.tx.execute(select(func.count()).select_from(reserved_names)).scalar_one())


def _row(alias: Alias) -> dict[str, Any]:
    return attestation_row(alias.attestation) | {
        "workspace_id": alias.workspace_id,
        "alias": alias.alias,
        "agent_id": alias.agent_id,
        "version": alias.version,
        "create_time": alias.create_us,
        "update_time": alias.update_us,
        "revision": alias.revision,
    }


def _alias(row: Row[Any]) -> Alias:
    return Alias(
        workspace_id=row.workspace_id,
        alias=row.alias,
        agent_id=row.agent_id,
        version=row.version,
        attestation=attestation_of(row),
        create_us=row.create_time,
        update_us=row.update_time,
        revision=row.revision,
    )
