"""Messages of keys and Verify to values and back.

What Verify answers is converted once for each principal and copied from then on.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from perron.api.common.v1 import error_reason_pb2
from perron.api.identity.v1 import api_key_pb2 as key_pb
from perron.api.identity.v1 import principal_pb2
from perron.chassis.errors import PerronError
from perron.chassis.passports import SigningKey
from perron.chassis.status import to_status
from perron.identity import commands, wire
from perron.identity.grants import Grant
from perron.identity.keys import MintedKey, etag
from perron.identity.model import Key, KeyState, Principal, Verdict, VerifyItem
from perron.identity.verification import models_on_the_wire

_KEY_STATES: Final = {state: key_pb.KeyState.Value(f"KEY_STATE_{state}") for state in KeyState}
_NO_SCOPES: Final[frozenset[str]] = frozenset()


def verify_item(request: key_pb.VerifyRequest) -> VerifyItem:
    """Reads one question of Verify."""
    scopes = request.required_scopes
    return VerifyItem(
        request.credential,
        _scope_set(tuple(scopes)) if scopes else _NO_SCOPES,
        request.peer_network,
        request.want_passport,
        request.trace_parent,
    )


@lru_cache(maxsize=1024)
def _scope_set(numbers: tuple[int, ...]) -> frozenset[str]:
    return frozenset(wire.SCOPE_NAMES[number] for number in numbers)


def verify_response(verdict: Verdict, passport: str) -> key_pb.VerifyResponse:
    """Writes one answer of Verify."""
    response = key_pb.VerifyResponse(state=_KEY_STATES[verdict.state], passport=passport)
    if verdict.principal is not None:
        response.principal.CopyFrom(_principal(verdict.principal))
    return response


def verify_result(verdict: Verdict, passport: str) -> key_pb.VerifyResult:
    """Writes one answer of BatchVerify that carries a passport."""
    return key_pb.VerifyResult(response=verify_response(verdict, passport))


@lru_cache(maxsize=16_384)
def plain_result(verdict: Verdict) -> key_pb.VerifyResult:
    """Writes one answer of BatchVerify without passport: one message for one answer, to be copied."""
    return verify_result(verdict, "")


def refused_result(error: PerronError) -> key_pb.VerifyResult:
    """Writes one answer of BatchVerify that there is none."""
    return key_pb.VerifyResult(error=to_status(error))


@lru_cache(maxsize=16_384)
def _principal(principal: Principal) -> principal_pb2.Principal:
    return principal_pb2.Principal(
        kind=wire.KINDS[principal.kind],
        key_id=principal.key_id,
        name=principal.name,
        organization_id=principal.organization_id,
        workspace_id=principal.workspace_id,
        member_id=principal.member_id,
        organization_role=wire.ORGANIZATION_ROLES[principal.organization_role or "UNSPECIFIED"],
        workspace_role=wire.WORKSPACE_ROLES[principal.workspace_role or "UNSPECIFIED"],
        operator_roles=wire.in_order(wire.OPERATOR_ROLES, principal.operator_roles),
        scopes=wire.in_order(wire.SCOPES, principal.grant.scopes),
        allowed_models=models_on_the_wire(principal.grant),
        plan=principal.plan,
        terms_class=wire.TERMS_CLASSES[principal.terms_class],
        tier=principal.tier,
        subscription_id=principal.subscription_id,
    )


def signing_keys(keys: Iterable[SigningKey]) -> list[key_pb.SigningKey]:
    """Writes the public halves of the keys that sign passports."""
    return [
        key_pb.SigningKey(
            kid=key.kid,
            public_key=key.private.public_key().public_bytes_raw(),
            not_before=wire.time(key.signs_from_us),
        )
        for key in keys
    ]


def create_key_command(request: key_pb.CreateApiKeyRequest) -> commands.CreateKey:
    """Reads what key is asked for; an empty list means what the minter has."""
    return commands.CreateKey(
        request.workspace_id, request.owner_member_id, request.display_name, _grant(request)
    )


def update_key_command(request: key_pb.UpdateApiKeyRequest) -> commands.UpdateKey:
    """Reads what shall change of a key."""
    return commands.UpdateKey(
        key_id=request.key_id,
        fields=frozenset(request.update_mask.paths),
        etag=request.etag,
        display_name=request.display_name,
        grant=_grant(request),
    )


def create_platform_key_command(request: key_pb.CreatePlatformKeyRequest) -> commands.CreatePlatformKey:
    """Reads what key of the installation is asked for."""
    return commands.CreatePlatformKey(
        display_name=request.display_name,
        service_name=request.service.name,
        operator_roles=frozenset(wire.OPERATOR_ROLE_NAMES[role] for role in request.operator.roles),
        expire_us=wire.us(request.expire_time) if request.HasField("expire_time") else None,
    )


def minted(created: MintedKey, now_us: int) -> dict[str, Any]:
    """Writes the fields that every answer to a minting has: key, secret, and why the secret is empty."""
    shown = bool(created.secret)
    return {
        "key": api_key(created.key, now_us),
        "secret": created.secret,
        "secret_reason": error_reason_pb2.ERROR_REASON_UNSPECIFIED
        if shown
        else error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN,
    }


def api_key(key: Key, now_us: int) -> key_pb.ApiKey:
    """Writes a key as it stands at an instant."""
    state = key_pb.API_KEY_STATE_ACTIVE
    if key.revoke_us is not None or key.workspace_deleted:
        state = key_pb.API_KEY_STATE_REVOKED
    elif key.grant.expired(now_us):
        state = key_pb.API_KEY_STATE_EXPIRED
    return key_pb.ApiKey(
        key_id=key.key_id,
        display_name=key.display_name,
        kind=wire.KINDS[key.kind],
        organization_id=key.organization_id,
        workspace_id=key.workspace_id,
        owner_member_id=key.owner_member_id,
        ancestor_key_ids=key.ancestors,
        scopes=wire.in_order(wire.SCOPES, key.grant.scopes),
        allowed_models=models_on_the_wire(key.grant),
        allowed_networks=sorted(key.grant.networks or ()),
        expire_time=wire.time(key.grant.expire_us),
        create_time=wire.time(key.create_us),
        revoke_time=wire.time(key.revoke_us),
        state=state,
        service_name=key.service_name,
        operator_roles=wire.in_order(wire.OPERATOR_ROLES, key.operator_roles),
        etag=etag(key.version),
    )


def _grant(request: key_pb.CreateApiKeyRequest | key_pb.UpdateApiKeyRequest) -> Grant:
    return Grant(
        scopes=_scope_set(tuple(request.scopes)),
        models=frozenset(request.allowed_models) or None,
        networks=frozenset(request.allowed_networks) or None,
        expire_us=wire.us(request.expire_time) if request.HasField("expire_time") else None,
    )
