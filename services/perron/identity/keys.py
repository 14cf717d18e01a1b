"""Keys: minting, changing and revoking them.

A secret exists in two places only: in the answer that shows it, and with whoever received it. Minting binds
a key to the one that asked for it; from then on it can be narrower than its ancestors, never wider.

A newcomer's trap: what the caller's key may do is read anew in the transaction of the change. What the
caller was let in with may have been narrowed since.
"""

from dataclasses import dataclass
from typing import Final

from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call, Caller
from perron.identity import errors, key_rules
from perron.identity.commands import CreateKey, CreatePlatformKey, UpdateKey
from perron.identity.grants import Grant
from perron.identity.model import Key, KeyKind, Member, WorkspaceRole
from perron.identity.secrets import Pepper, Randomness, make_credential
from perron.identity.store import Store
from perron.identity.verification import Verification

ANCESTORS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key with its secret, which is empty where it has been shown before."""

    key: Key
    secret: str = ""

    def __repr__(self) -> str:
        return f"MintedKey({self.key.key_id!r})"


class Keys:
    """API keys of organizations and of the installation. The first pepper digests new keys."""

    def __init__(
        self,
        verification: Verification,
        peppers: tuple[Pepper, ...],
        environment: str,
        ids: IdSource,
        randomness: Randomness,
    ) -> None:
        self._verification = verification
        self._pepper = peppers[0]
        self._environment = environment
        self._ids = ids
        self._randomness = randomness

    def create(self, store: Store, call: Call, command: CreateKey) -> MintedKey:
        """Mints a key below the caller's. Raises as CreateApiKey documents."""
        key_id = self._ids("key")
        earlier = store.once(call, key_id)
        if earlier is not None:
            return MintedKey(store.key(earlier))
        caller = call.caller
        workspace_id = command.workspace_id or caller.workspace_id
        key_rules.require_workspace(store, caller, workspace_id)
        owner = key_rules.owner(store, caller, workspace_id, command.owner_member_id or caller.member_id)
        bound, ancestors = self._verification.effective_grant(store.hot, caller.key_id)
        if len(ancestors) >= ANCESTORS_MAX:
            raise errors.ancestry_too_deep()
        grant = key_rules.inherited(command.grant, bound)
        key_rules.require_within(grant, bound)
        now_us = store.now_us()
        key_rules.require_future(grant.expire_us, now_us)
        key = Key(
            key_id=key_id,
            kind=KeyKind.CUSTOMER,
            display_name=command.display_name,
            organization_id=caller.organization_id,
            workspace_id=workspace_id,
            owner_member_id=owner.member_id,
            ancestors=(*ancestors, caller.key_id),
            grant=grant,
            service_name="",
            operator_roles=frozenset(),
            create_us=now_us,
            revoke_us=None,
            version=1,
        )
        return self._record(store, call, key)

    def create_platform(self, store: Store, call: Call, command: CreatePlatformKey) -> MintedKey:
        """Mints a key of the installation, without ancestors: it must outlive the operator who made it."""
        key_id = self._ids("key")
        earlier = store.once(call, key_id)
        if earlier is not None:
            return MintedKey(store.key(earlier))
        now_us = store.now_us()
        key_rules.require_future(command.expire_us, now_us)
        return self._record(store, call, self._platform_key(key_id, command, now_us))

    def bootstrap(self, store: Store, credential: str, operator_roles: frozenset[str]) -> Key:
        """Writes the first operator key of an empty store, whose secret was made or chosen outside."""
        command = CreatePlatformKey("bootstrap", "", operator_roles, None)
        key = self._platform_key(self._ids("key"), command, store.now_us())
        store.add_key(key, self._pepper.digest(credential), self._pepper.pepper_id)
        return key

    def first(self, store: Store, workspace_id: str, owner: Member, grant: Grant) -> MintedKey:
        """Mints the first key of a new organization, which no key stands above."""
        key = Key(
            key_id=self._ids("key"),
            kind=KeyKind.CUSTOMER,
            display_name="first admin key",
            organization_id=owner.organization_id,
            workspace_id=workspace_id,
            owner_member_id=owner.member_id,
            ancestors=(),
            grant=grant,
            service_name="",
            operator_roles=frozenset(),
            create_us=store.now_us(),
            revoke_us=None,
            version=1,
        )
        return self._write(store, key)

    def get(self, store: Store, caller: Caller, key_id: str) -> Key:
        """Returns a key that the caller may see."""
        return key_rules.visible(store.key(key_id), caller)

    def list(
        self, store: Store, caller: Caller, organization_id: str, workspace_id: str, after: str, limit: int
    ) -> list[Key]:
        """Returns keys that the caller may see, in the order of their ids."""
        if str(caller.kind) != KeyKind.CUSTOMER:
            return store.keys(organization_id, workspace_id, "", after, limit)
        if organization_id not in {"", caller.organization_id}:
            raise errors.not_found("organization")
        owner_member_id = ""
        if not key_rules.reads_all(caller):
            if workspace_id not in {"", caller.workspace_id}:
                raise errors.not_found("workspace")
            if caller.workspace_role == WorkspaceRole.ADMIN:
                workspace_id = caller.workspace_id
            else:
                owner_member_id = caller.member_id
        elif workspace_id:
            key_rules.require_workspace(store, caller, workspace_id)
        return store.keys(caller.organization_id, workspace_id, owner_member_id, after, limit)

    def update(self, store: Store, call: Call, command: UpdateKey) -> Key:
        """Changes the fields named, within what the caller's key may do. Raises as UpdateApiKey documents."""
        earlier = store.once(call, command.key_id)
        if earlier is not None:
            return store.key(earlier)
        key = key_rules.managed(store.key(command.key_id, lock=True), call.caller)
        store.refuse_buried(key.organization_id, key.workspace_id)
        if command.etag and command.etag != etag(key.version):
            raise errors.etag_stale()
        if key.revoke_us is not None or key.workspace_deleted:
            raise errors.key_revoked()
        grant = key_rules.changed(key.grant, command)
        bound, _ = self._verification.effective_grant(store.hot, call.caller.key_id)
        key_rules.require_change_within(key.grant, grant, bound)
        display_name = command.display_name if "display_name" in command.fields else key.display_name
        store.update_key(key, display_name, grant)
        store.audit(call, key.key_id, key.organization_id)
        kind = "api_key.narrowed" if key.grant.exceeds(grant) else "api_key.updated"
        self._publish(store, kind, key, version=key.version + 1)
        return store.key(key.key_id)

    def revoke(self, store: Store, call: Call, key_id: str) -> Key:
        """Revokes a key and so every descendant; a revoked one stays as it is."""
        earlier = store.once(call, key_id)
        if earlier is not None:
            return store.key(earlier)
        key = key_rules.managed(store.key(key_id, lock=True), call.caller)
        if key.revoke_us is None:
            store.revoke_key(key_id, store.now_us())
            store.audit(call, key_id, key.organization_id)
            self._publish(store, "api_key.revoked", key, version=key.version + 1)
        return store.key(key_id)

    def _record(self, store: Store, call: Call, key: Key) -> MintedKey:
        store.refuse_buried(key.organization_id, key.workspace_id)
        minted = self._write(store, key)
        store.audit(call, key.key_id, key.organization_id)
        self._publish(store, "api_key.created", key, version=1)
        return minted

    def _write(self, store: Store, key: Key) -> MintedKey:
        secret = make_credential(self._environment, self._randomness)
        store.add_key(key, self._pepper.digest(secret), self._pepper.pepper_id)
        return MintedKey(key, secret)

    @staticmethod
    def _platform_key(key_id: str, command: CreatePlatformKey, now_us: int) -> Key:
        return Key(
            key_id=key_id,
            kind=KeyKind.SERVICE if command.service_name else KeyKind.OPERATOR,
            display_name=command.display_name,
            organization_id="",
            workspace_id="",
            owner_member_id="",
            ancestors=(),
            grant=Grant(expire_us=command.expire_us),
            service_name=command.service_name,
            operator_roles=command.operator_roles,
            create_us=now_us,
            revoke_us=None,
            version=1,
        )

    @staticmethod
    def _publish(store: Store, kind: str, key: Key, *, version: int) -> None:
        store.publish(
            kind,
            organization_id=key.organization_id,
            workspace_id=key.workspace_id,
            resource_id=key.key_id,
            version=version,
        )


def etag(version: int) -> str:
    """Returns the etag of a version of any resource here."""
    return f'"{version}"'
