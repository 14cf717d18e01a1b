"""Models that leave the service: to their own workspace as holdings, to others as transfers.

A holding says that somebody of the owner's workspace has a copy, for a time; it is how a deletion reaches
copies outside. A transfer goes through one of two gates (clause 1.2-conf): to a distributor on the operator's
list by an admin's authorization, to any other party by an admin's recorded consent. Its key opens one model,
until it is revoked or over, and is known to nobody but its holder.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call
from perron.finetuning import errors
from perron.finetuning.model import Gate, Holding, Model, ModelState, Transfer
from perron.finetuning.store import Store

SecretSource = Callable[[], str]
"""Draws the key of a transfer: 32 random bytes as text."""


@dataclass(frozen=True, slots=True)
class DownloadCommand:
    """A model that somebody of its workspace wants a copy of; with a holding, the rest of it."""

    model_id: str
    holding_id: str
    ttl_us: int


@dataclass(frozen=True, slots=True)
class TransferCommand:
    """A disclosure that is wanted."""

    model_id: str
    gate: Gate
    party: str
    purpose: str
    expire_us: int


class Holdings:
    """Copies in the owner's workspace."""

    def __init__(self, new_id: IdSource) -> None:
        self._new_id = new_id

    def register(self, store: Store, call: Call, command: DownloadCommand) -> tuple[Model, Holding]:
        """Returns a model with the holding that its download runs under; again, the same one.

        Raises NotFound, FailedPrecondition (MODEL_DELETED).
        """
        caller = call.caller
        holding_id = command.holding_id or self._new_id("hld")
        earlier = store.once(call, holding_id)
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        model = store.lock_model(caller.workspace_id, command.model_id)
        if model.state is ModelState.DELETED:
            raise errors.model_deleted()
        if earlier is not None or command.holding_id:
            return model, _live(store, store.lock_holding(caller.workspace_id, earlier or holding_id), model)
        holding = Holding(
            holding_id,
            model.model_id,
            caller.workspace_id,
            caller.member_id,
            expire_us=store.now_us() + command.ttl_us,
            release_us=0,
        )
        store.add_holding(holding)
        store.audit(call, holding_id, caller.organization_id)
        return model, holding

    def renew(self, store: Store, call: Call, holding_id: str, ttl_us: int) -> tuple[Holding, bool]:
        """Prolongs a holding, unless its model is deleted; says whether it is."""
        earlier = store.once(call, holding_id)
        holding, model = _of_caller(store, call, holding_id)
        _live(store, holding, model)
        if earlier is not None or model.state is ModelState.DELETED:
            return holding, model.state is ModelState.DELETED
        renewed = replace(holding, expire_us=max(holding.expire_us, store.now_us() + ttl_us))
        store.save_holding(renewed)
        store.audit(call, holding_id, call.caller.organization_id)
        return renewed, False

    def release(self, store: Store, call: Call, holding_id: str) -> bool:
        """Notes that a copy is gone; says whether its model is deleted."""
        store.once(call, holding_id)
        holding, model = _of_caller(store, call, holding_id)
        if not holding.release_us:
            store.save_holding(replace(holding, release_us=store.now_us()))
            store.audit(call, holding_id, call.caller.organization_id)
        return model.state is ModelState.DELETED


class Transfers:
    """Disclosures beyond the workspace; `distributors` is the operator's list."""

    def __init__(self, distributors: Collection[str], new_id: IdSource, new_secret: SecretSource) -> None:
        self._distributors = frozenset(distributors)
        self._new_id = new_id
        self._new_secret = new_secret

    def permit(self, store: Store, call: Call, command: TransferCommand) -> tuple[Transfer, str]:
        """Opens a gate and returns the transfer with its key; a repetition returns it without.

        Raises NotFound, PermissionDenied (DISTRIBUTOR_UNKNOWN), FailedPrecondition (MODEL_DELETED),
        InvalidArgument for a time that is over.
        """
        caller = call.caller
        transfer_id = self._new_id("trf")
        earlier = store.once(call, transfer_id)
        if earlier is not None:
            return store.transfer(caller.organization_id, earlier), ""
        model = store.model_of_organization(caller.organization_id, command.model_id)
        store.refuse_buried(caller.organization_id, model.workspace_id)
        if command.gate is Gate.DISTRIBUTOR and command.party not in self._distributors:
            raise errors.distributor_unknown()
        if model.state is ModelState.DELETED:
            raise errors.model_deleted()
        now_us = store.now_us()
        if command.expire_us <= now_us:
            raise errors.field_invalid("expire_time", "The time is over.")
        transfer = Transfer(
            transfer_id=transfer_id,
            organization_id=caller.organization_id,
            workspace_id=model.workspace_id,
            model_id=model.model_id,
            gate=command.gate,
            party=command.party,
            purpose=command.purpose,
            member_id=caller.member_id,
            create_us=now_us,
            expire_us=command.expire_us,
            revoke_us=0,
            last_download_us=0,
        )
        secret = self._new_secret()
        store.add_transfer(transfer, digest(secret))
        _record(store, call, transfer, "permitted")
        return transfer, secret

    def revoke(self, store: Store, call: Call, transfer_id: str) -> Transfer:
        """Ends a transfer; one that was revoked before is returned as it is."""
        organization_id = call.caller.organization_id
        if store.once(call, transfer_id) is not None:
            return store.transfer(organization_id, transfer_id)
        transfer = store.transfer(organization_id, transfer_id)
        if transfer.revoke_us:
            return transfer
        revoked = replace(transfer, revoke_us=store.now_us())
        store.save_transfer(revoked)
        _record(store, call, revoked, "revoked")
        return revoked

    def open(self, store: Store, secret: str) -> tuple[Transfer, Model]:
        """Returns what a key opens now; raises Unauthenticated, PermissionDenied (TRANSFER_ENDED)."""
        transfer = store.transfer_of_key(digest(secret))
        if transfer is None:
            raise errors.transfer_key_unknown()
        return transfer, self.still_open(store, transfer)

    def begin(self, store: Store, secret: str) -> tuple[Transfer, Model]:
        """Opens a transfer for a download and notes when."""
        transfer, model = self.open(store, secret)
        used = replace(transfer, last_download_us=store.now_us())
        store.save_transfer(used)
        store.publish(
            "transfer.downloaded",
            organization_id=transfer.organization_id,
            workspace_id=transfer.workspace_id,
            resource_id=transfer.transfer_id,
        )
        return used, model

    def still_open(self, store: Store, transfer: Transfer) -> Model:
        """Returns the model of a transfer that holds; raises PermissionDenied (TRANSFER_ENDED)."""
        now = store.transfer(transfer.organization_id, transfer.transfer_id)
        model = store.model_of_organization(transfer.organization_id, transfer.model_id)
        over = now.revoke_us or now.expire_us <= store.now_us()
        gone = store.is_buried(transfer.organization_id, transfer.workspace_id)
        if over or gone or model.state is ModelState.DELETED:
            raise errors.transfer_ended()
        return model


def digest(secret: str) -> bytes:
    """Returns what is stored of a key: it is 32 random bytes, so a plain digest can be searched by nobody."""
    return hashlib.sha256(secret.encode()).digest()


def _live(store: Store, holding: Holding, model: Model) -> Holding:
    if holding.model_id != model.model_id or holding.release_us or holding.expire_us <= store.now_us():
        raise errors.not_found()
    return holding


def _of_caller(store: Store, call: Call, holding_id: str) -> tuple[Holding, Model]:
    holding = store.lock_holding(call.caller.workspace_id, holding_id)
    return holding, store.model(call.caller.workspace_id, holding.model_id)


def _record(store: Store, call: Call, transfer: Transfer, what: str) -> None:
    store.audit(call, transfer.transfer_id, transfer.organization_id, action=f"transfer.{what}")
    store.publish(
        f"transfer.{what}",
        organization_id=transfer.organization_id,
        workspace_id=transfer.workspace_id,
        resource_id=transfer.transfer_id,
    )
