"""Asks identity who calls: keys by BatchVerify, passports by its public signing keys.

Concurrent questions share one call. Nothing is remembered but the answer for a service's own key, for at
most one second, and the signing keys, which are asked for again when a passport names another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, principal_pb2
from perron.chassis.channels import Coalescer, Peer
from perron.chassis.errors import Unauthenticated
from perron.chassis.interceptors.access import Caller, CallerKind, Verified
from perron.chassis.passports import UnknownKeyError, Verifier
from perron.chassis.remembered import RememberedServices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perron.chassis.clock import Clock
    from perron.chassis.passports import Passport

_ASK_AGAIN_SECONDS: Final = 1.0
_KINDS: Final = {
    principal_pb2.PRINCIPAL_KIND_CUSTOMER: CallerKind.CUSTOMER,
    principal_pb2.PRINCIPAL_KIND_OPERATOR: CallerKind.OPERATOR,
    principal_pb2.PRINCIPAL_KIND_SERVICE: CallerKind.SERVICE,
}


class IdentityKeys:
    """Verifies keys at identity."""

    def __init__(self, peer: Peer) -> None:
        stub = api_key_pb2_grpc.ApiKeyServiceStub(peer.channel)
        self._questions: Coalescer[api_key_pb2.VerifyRequest, api_key_pb2.VerifyResponse] = Coalescer(
            peer,
            stub.BatchVerify,
            merge=lambda items: api_key_pb2.BatchVerifyRequest(items=items),
            name="verify",
            tenant=lambda item: item.credential,
        )
        self._services = RememberedServices()

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        """What is true of the key now, or was within the last second for a service's own key."""
        remembered = self._services.find(credential)
        if remembered is not None:
            return remembered
        asked = asyncio.get_running_loop().time()
        response = await self._questions.submit(
            api_key_pb2.VerifyRequest(
                credential=credential, peer_network=peer_network, want_passport=want_passport
            )
        )
        verified = verified_from(response)
        self._services.keep(credential, verified, asked)
        return verified

    async def aclose(self) -> None:
        """Answer what waits."""
        await self._questions.aclose()


class IdentityPassports:
    """Reads passports with identity's signing keys."""

    def __init__(self, peer: Peer, clock: Clock) -> None:
        self._peer = peer
        self._stub = api_key_pb2_grpc.ApiKeyServiceStub(peer.channel)
        self._verifier = Verifier(clock)
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether any signing key is known."""
        return self._verifier.ready

    async def learn(self) -> None:
        """Ask identity for its signing keys. Raises Unavailable where it cannot be asked."""
        response = await self._peer.call(self._stub.GetSigningKeys, api_key_pb2.GetSigningKeysRequest())
        self._verifier.learn({key.kid: key.public_key for key in response.keys})

    async def read(self, token: str) -> Passport:
        """The passport in a token; an unknown key is asked for, at most once a second."""
        try:
            return self._verifier.verify(token)
        except UnknownKeyError:
            await self._learn_again()
        try:
            return self._verifier.verify(token)
        except UnknownKeyError:
            raise Unauthenticated("PASSPORT_INVALID", "the passport is not valid here and now") from None

    async def _learn_again(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._asking:
            if loop.time() - self._asked_at < _ASK_AGAIN_SECONDS and self.ready:
                return
            await self.learn()
            self._asked_at = loop.time()


def verified_from(response: api_key_pb2.VerifyResponse) -> Verified:
    """What a VerifyResponse says, in the words of the access layer."""
    state = api_key_pb2.KeyState.Name(response.state).removeprefix("KEY_STATE_")
    caller = caller_from(response.principal) if response.HasField("principal") else None
    return Verified(state, caller, response.passport)


def caller_from(principal: principal_pb2.Principal) -> Caller:
    """The caller that a Principal describes."""
    return Caller(
        kind=_KINDS.get(principal.kind, CallerKind.PUBLIC),
        key_id=principal.key_id,
        name=principal.name,
        organization_id=principal.organization_id,
        workspace_id=principal.workspace_id,
        member_id=principal.member_id,
        organization_role=roles_pb2.OrganizationRole.Name(principal.organization_role).removeprefix(
            "ORGANIZATION_ROLE_"
        ),
        workspace_role=roles_pb2.WorkspaceRole.Name(principal.workspace_role).removeprefix("WORKSPACE_ROLE_"),
        operator_roles=_short(
            [roles_pb2.OperatorRole.Name(role) for role in principal.operator_roles], "OPERATOR_ROLE_"
        ),
        scopes=_short([roles_pb2.Scope.Name(scope) for scope in principal.scopes], "SCOPE_"),
    )


def _short(names: Sequence[str], prefix: str) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in names)
