"""Who calls, and whether the contract lets them.

Every call presents a key, and identity is asked about it at every call. What each method allows stands in
its contract; this layer knows roles and scopes, never objects: whether this member may see that workspace,
the domain decides.

What a newcomer gets wrong: trouble on the way to identity is UNAVAILABLE. A caller is told UNAUTHENTICATED
only where identity has answered so.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from perron.api.common.v1 import roles_pb2
from perron.chassis import idempotency, telemetry
from perron.chassis.credentials import is_well_formed
from perron.chassis.errors import PermissionDenied, PerronError, SetupError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from perron.api.common.v1.access_pb2 import Access
    from perron.chassis.idempotency import IdempotentRequest
    from perron.chassis.method import Behaviour, Context, Method
    from perron.chassis.passports import Passport

__all__ = [
    "AccessLayer",
    "Call",
    "Caller",
    "CallerKind",
    "KeyVerifier",
    "PassportReader",
    "Verified",
    "current_call",
]

_SCHEME: Final = "Bearer "
_ANY: Final = "*"
_PASSPORTS_MAX: Final = 128
_VALID: Final = "VALID"
_TERMS_NOT_ACCEPTED: Final = "TERMS_NOT_ACCEPTED"
_NETWORK_NOT_ALLOWED: Final = "NETWORK_NOT_ALLOWED"


class CallerKind(StrEnum):
    """What kind of caller a call has."""

    PUBLIC = "PUBLIC"
    CUSTOMER = "CUSTOMER"
    OPERATOR = "OPERATOR"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class Caller:
    """The one who calls. Roles and scopes are enum names without prefix; what does not apply is empty.

    `passport_token` is a customer's passport as the next service is shown it that is asked for that person.
    """

    kind: CallerKind
    key_id: str = ""
    name: str = ""
    organization_id: str = ""
    workspace_id: str = ""
    member_id: str = ""
    organization_role: str = ""
    workspace_role: str = ""
    operator_roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    passport: Passport | None = None
    passport_token: str = field(default="", repr=False)
    passports: tuple[Passport | PerronError, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call: who, what, in which trace; `identity` is what makes it the same one when sent again."""

    caller: Caller
    method: str
    trace_id: str = ""
    identity: IdempotentRequest | None = None
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What identity says of a key: its state, and, where it has one, the caller and its passport."""

    state: str
    caller: Caller | None = None
    passport: str = ""


class KeyVerifier(Protocol):
    """Asks identity about keys."""

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        """What is true of the key now. Raises Unavailable where identity cannot be asked."""


class PassportReader(Protocol):
    """Reads passports."""

    async def read(self, token: str) -> Passport:
        """The passport. Raises Unauthenticated (PASSPORT_INVALID)."""


_call: contextvars.ContextVar[Call] = contextvars.ContextVar("perron_call")


def current_call() -> Call:
    """The call that is being served. Raises LookupError outside of one."""
    return _call.get()


def served_call() -> Call | None:
    """The call that is being served, if the caller is known yet."""
    return _call.get(None)


class AccessLayer:
    """Admits callers to methods; `flags` are the settings that a contract may name as `public_setting`."""

    def __init__(
        self, keys: KeyVerifier, passports: PassportReader | None, flags: Mapping[str, bool]
    ) -> None:
        self._keys = keys
        self._passports = passports
        self._flags = flags

    def wrap(self, method: Method, behaviour: Behaviour) -> Behaviour:
        """Let in only whom the contract of `method` names."""
        access = method.access
        if access.public_setting and access.public_setting not in self._flags:
            message = f"{method.name}: there is no setting {access.public_setting}"
            raise SetupError(message)
        with_passports = access.service.passport
        if with_passports and self._passports is None:
            message = f"{method.name} takes passports, and this service reads none"
            raise SetupError(message)
        is_batch = "passports" in method.request.DESCRIPTOR.fields_by_name

        async def admit(request: Any, context: Context) -> None:
            peer = _peer_address(context.peer())
            caller, credential = await self._caller(access, context, peer)
            if with_passports and caller.kind is CallerKind.SERVICE:
                caller = await self._with_passports(caller, request, is_batch=is_batch)
            known = Call(caller, method.name, telemetry.current_trace_id(), None, peer)
            _call.set(known)
            if method.idempotent and not method.request_streams:
                identity = idempotency.identify(caller.key_id, method.name, request, secret=credential)
                _call.set(replace(known, identity=identity))

        async def admitted(request: Any, context: Context) -> Any:
            await admit(request, context)
            return await behaviour(request, context)

        async def admitted_stream(request: Any, context: Context) -> AsyncIterator[Any]:
            await admit(request, context)
            async for response in behaviour(request, context):
                yield response

        return admitted_stream if method.response_streams else admitted

    async def _caller(self, access: Access, context: Context, peer: str) -> tuple[Caller, str]:
        headers = [str(value) for key, value in context.invocation_metadata() or () if key == "authorization"]
        open_to_all = access.public or bool(access.public_setting and self._flags[access.public_setting])
        if open_to_all and (access.public or not headers):
            return Caller(CallerKind.PUBLIC), ""
        if len(headers) != 1 or not headers[0].startswith(_SCHEME):
            raise Unauthenticated(
                "CREDENTIAL_MISSING", "send exactly one header `authorization: Bearer <key>`"
            )
        credential = headers[0].removeprefix(_SCHEME)
        if not is_well_formed(credential):
            raise invalid_credential("MALFORMED")
        verified = await self._keys.verify(
            credential, peer_network=peer, want_passport=access.HasField("customer")
        )
        caller = _admitted(verified, without_terms=access.without_terms)
        _authorize(access, caller)
        if verified.passport and self._passports is not None:
            passport = await self._passports.read(verified.passport)
            caller = replace(caller, passport=passport, passport_token=verified.passport)
        return caller, credential

    async def _with_passports(self, caller: Caller, request: Any, *, is_batch: bool) -> Caller:
        if not is_batch:
            return replace(caller, passport=await self._read(request.passport))
        read: list[Passport | PerronError] = []
        if len(request.passports) > _PASSPORTS_MAX:
            return caller  # the next layer refuses the form; reading a million would take seconds
        for token in request.passports:
            try:
                read.append(await self._read(token))
            except PerronError as error:  # this passport's items are refused, the others go on
                read.append(error)
        return replace(caller, passports=tuple(read))

    async def _read(self, token: str) -> Passport:
        if not token or self._passports is None:
            raise Unauthenticated("PASSPORT_INVALID", "the call is made for a person: send the passport")
        return await self._passports.read(token)


def invalid_credential(state: str) -> Unauthenticated:
    """The refusal of a key that identity knows nothing good of."""
    return Unauthenticated("CREDENTIAL_INVALID", f"the key is not valid: {state}", metadata={"state": state})


def _admitted(verified: Verified, *, without_terms: bool) -> Caller:
    caller = verified.caller
    if verified.state == _NETWORK_NOT_ALLOWED:
        raise PermissionDenied("NETWORK_NOT_ALLOWED", "the key may not be used from this network")
    if verified.state == _TERMS_NOT_ACCEPTED and caller is not None:
        if not without_terms:
            raise PermissionDenied(
                "TERMS_NOT_ACCEPTED", "accept the terms in force first: see ListDocuments and AcceptTerms"
            )
        return caller
    if verified.state != _VALID or caller is None:
        raise invalid_credential(verified.state)
    return caller


def _authorize(access: Access, caller: Caller) -> None:
    kind = caller.kind
    if kind is CallerKind.CUSTOMER and access.HasField("customer"):
        return _authorize_customer(access, caller)
    if kind is CallerKind.OPERATOR and access.HasField("operator"):
        wanted = _names(access.operator.roles, roles_pb2.OperatorRole.Name, "OPERATOR_ROLE_")
        if wanted and not wanted & caller.operator_roles:
            raise _role_missing(wanted)
        return None
    if (
        kind is CallerKind.SERVICE
        and access.HasField("service")
        and (_ANY in access.service.names or caller.name in access.service.names)
    ):
        return None
    raise PermissionDenied("CALLER_NOT_ALLOWED", f"no {kind.lower()} key may call this method")


def _authorize_customer(access: Access, caller: Caller) -> None:
    rule = access.customer
    if rule.scope:
        scope = roles_pb2.Scope.Name(rule.scope).removeprefix("SCOPE_")
        if scope not in caller.scopes:
            raise PermissionDenied(
                "SCOPE_MISSING", f"the key lacks the scope {scope}", metadata={"scope": scope}
            )
    organization = _names(rule.organization_roles, roles_pb2.OrganizationRole.Name, "ORGANIZATION_ROLE_")
    workspace = _names(rule.workspace_roles, roles_pb2.WorkspaceRole.Name, "WORKSPACE_ROLE_")
    if (organization or workspace) and not (
        caller.organization_role in organization or caller.workspace_role in workspace
    ):
        raise _role_missing(organization | {f"workspace {role}" for role in workspace})


def _names(values: Any, name: Callable[[Any], str], prefix: str) -> frozenset[str]:
    return frozenset(name(value).removeprefix(prefix) for value in values)


def _role_missing(wanted: frozenset[str]) -> PermissionDenied:
    roles = ", ".join(sorted(wanted))
    return PermissionDenied("ROLE_MISSING", f"this needs one of the roles {roles}", metadata={"roles": roles})


def _peer_address(peer: str) -> str:
    """The network address in what gRPC calls a peer, as `ipv4:127.0.0.1:5000`; empty for a local socket."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return ""
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
