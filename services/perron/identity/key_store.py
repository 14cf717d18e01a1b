"""API keys as rows. A secret never comes here: a key is written with its keyed digest."""

from typing import Any

from sqlalchemy import Row, Select, insert, select, update

from perron.chassis.mutations import Mutations
from perron.identity import errors
from perron.identity.grants import Grant
from perron.identity.model import Key, KeyKind
from perron.identity.tables import api_keys, workspaces


class KeyStore(Mutations):
    """The rows of keys."""

    def add_key(self, key: Key, digest: bytes, pepper_id: str) -> None:
        """Writes a new key."""
        self.tx.execute(
            insert(api_keys),
            {
                "digest": digest,
                "pepper_id": pepper_id,
                "key_id": key.key_id,
                "kind": str(key.kind),
                "display_name": key.display_name,
                "organization_id": key.organization_id,
                "workspace_id": key.workspace_id,
                "owner_member_id": key.owner_member_id,
                "ancestors": " ".join(key.ancestors),
                "revoke_time": None,
                "service_name": key.service_name,
                "operator_roles": " ".join(sorted(key.operator_roles)),
                "create_time": key.create_us,
                "version": key.version,
                **_grant_columns(key.grant),
            },
        )

    def key(self, key_id: str, *, lock: bool = False) -> Key:
        """Reads a key; with `lock`, so that no other transaction changes it meanwhile."""
        query = _KEYS.where(api_keys.c.key_id == key_id)
        row = self.tx.execute(query.with_for_update(of=api_keys) if lock else query).one_or_none()
        if row is None:
            raise errors.not_found("key")
        return _key(row)

    def keys(
        self, organization_id: str, workspace_id: str, owner_member_id: str, after: str, limit: int
    ) -> list[Key]:
        """Reads keys by their ids: an organization's (empty: the installation's), of a workspace or owner."""
        query = _KEYS.where(api_keys.c.organization_id == organization_id, api_keys.c.key_id > after)
        if workspace_id:
            query = query.where(api_keys.c.workspace_id == workspace_id)
        if owner_member_id:
            query = query.where(api_keys.c.owner_member_id == owner_member_id)
        return [_key(row) for row in self.tx.execute(query.order_by(api_keys.c.key_id).limit(limit))]

    def update_key(self, key: Key, display_name: str, grant: Grant) -> None:
        """Changes a key's name and grant."""
        self._change_key(key.key_id, display_name=display_name, **_grant_columns(grant))

    def revoke_key(self, key_id: str, revoke_us: int) -> None:
        """Revokes a key; what was minted with it is refused by its ancestry."""
        self._change_key(key_id, revoke_time=revoke_us)

    def revoke_keys_of(self, workspace_id: str, member_id: str, revoke_us: int) -> None:
        """Revokes the keys that a member owns in a workspace."""
        self.tx.execute(
            update(api_keys)
            .where(
                api_keys.c.workspace_id == workspace_id,
                api_keys.c.owner_member_id == member_id,
                api_keys.c.revoke_time.is_(None),
            )
            .values(version=api_keys.c.version + 1, revoke_time=revoke_us)
        )

    def has_keys(self) -> bool:
        """Says whether any key was ever written here."""
        return self.tx.execute(select(api_keys.c.key_id).limit(1)).first() is not None

    def peppers_in_use(self) -> frozenset[str]:
        """Returns the ids of the peppers that keys which still work were digested with."""
        working = api_keys.c.revoke_time.is_(None) & (
            api_keys.c.expire_time.is_(None) | (api_keys.c.expire_time > self.tx.now_us())
        )
        return frozenset(self.tx.execute(select(api_keys.c.pepper_id).where(working).distinct()).scalars())

    def _change_key(self, key_id: str, **values: Any) -> None:
        self.tx.execute(
            update(api_keys)
            .where(api_keys.c.key_id == key_id)
            .values(version=api_keys.c.version + 1, **values)
        )


_KEYS: Select[Any] = select(
    api_keys,
    (workspaces.c.workspace_id.is_(None) & (api_keys.c.workspace_id != "")).label("workspace_deleted"),
).outerjoin(workspaces, workspaces.c.workspace_id == api_keys.c.workspace_id)


def read_grant(scopes: str, models: str | None, networks: str | None, expire_us: int | None) -> Grant:
    """Reads a grant as columns hold it: words with a space between, NULL for any."""
    return Grant(
        frozenset(scopes.split()),
        None if models is None else frozenset(models.split()),
        None if networks is None else frozenset(networks.split()),
        expire_us,
    )


def _grant_columns(grant: Grant) -> dict[str, Any]:
    return {
        "scopes": " ".join(sorted(grant.scopes)),
        "allowed_models": None if grant.models is None else " ".join(sorted(grant.models)),
        "allowed_networks": None if grant.networks is None else " ".join(sorted(grant.networks)),
        "expire_time": grant.expire_us,
    }


def _key(row: Row[Any]) -> Key:
    return Key(
        key_id=row.key_id,
        kind=KeyKind(row.kind),
        display_name=row.display_name,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        owner_member_id=row.owner_member_id,
        ancestors=tuple(row.ancestors.split()),
        grant=read_grant(row.scopes, row.allowed_models, row.allowed_networks, row.expire_time),
        service_name=row.service_name,
        operator_roles=frozenset(row.operator_roles.split()),
        create_us=row.create_time,
        revoke_us=row.revoke_time,
        version=row.version,
        workspace_deleted=bool(row.workspace_deleted),
    )
