"""Answers of Verify, batched over all who ask: other services by gRPC, this one about its own callers.

Concurrent questions share one read. Nothing is remembered but the answer for a service's own key, for at
most one second.
"""

import asyncio
from collections.abc import Sequence

from perron.chassis.batcher import Batcher
from perron.chassis.credentials import is_well_formed
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import Caller, CallerKind, Verified
from perron.chassis.passports import Signer
from perron.chassis.remembered import RememberedServices
from perron.identity.hot_store import HotStore
from perron.identity.model import KeyKind, KeyState, Principal, Verdict, VerifyItem
from perron.identity.verification import MALFORMED, Verification


class Answers:
    """Asks the store who stands behind keys, a batch at a time."""

    def __init__(self, database: Database, verification: Verification, signer: Signer) -> None:
        self._database = database
        self._verification = verification
        self._signer = signer
        self._batcher: Batcher[VerifyItem, Verdict] = Batcher(
            self._run, name="verify", trace_parent=lambda item: item.trace_parent
        )

    async def one(self, item: VerifyItem) -> Verdict:
        """Answers one question; a malformed key without asking the store."""
        if not is_well_formed(item.credential):
            return MALFORMED
        return await self._batcher.submit(item)

    async def many(self, items: Sequence[VerifyItem]) -> list[Verdict | PerronError]:
        """Answers questions in their order."""
        return await self._batcher.submit_many(items)

    def passport(self, item: VerifyItem, verdict: Verdict) -> str:
        """Signs the passport that goes with an answer; empty where none is wanted or due."""
        principal = verdict.principal
        if (
            not item.want_passport
            or principal is None
            or principal.kind is not KeyKind.CUSTOMER
            or verdict.state is KeyState.SCOPE_MISSING
        ):
            return ""
        return self._signer.sign(self._verification.passport(principal, verdict.as_of_us))

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._batcher.aclose()

    async def _run(self, items: Sequence[VerifyItem]) -> Sequence[Verdict | PerronError]:
        if not any(is_well_formed(item.credential) for item in items):
            return [MALFORMED] * len(items)
        return await self._database.read(lambda tx: self._verification.verify(HotStore(tx), items))


class OwnCallers:
    """Verifies the callers of identity itself, as other services do over gRPC."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._services = RememberedServices()

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:  # noqa: ARG002
        """What is true of the key now, or was within the last second for a service's own key.

        Nobody here reads a passport, so none is signed.
        """
        remembered = self._services.find(credential)
        if remembered is not None:
            return remembered
        asked = asyncio.get_running_loop().time()
        verdict = await self._answers.one(VerifyItem(credential, peer=peer_network))
        verified = Verified(
            str(verdict.state), None if verdict.principal is None else _caller(verdict.principal)
        )
        self._services.keep(credential, verified, asked)
        return verified


def _caller(principal: Principal) -> Caller:
    return Caller(
        kind=CallerKind(str(principal.kind)),
        key_id=principal.key_id,
        name=principal.name,
        organization_id=principal.organization_id,
        workspace_id=principal.workspace_id,
        member_id=principal.member_id,
        organization_role=str(principal.organization_role or ""),
        workspace_role=str(principal.workspace_role or ""),
        operator_roles=principal.operator_roles,
        scopes=principal.grant.scopes,
    )
