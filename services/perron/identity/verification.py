"""Verification: who stands behind a key, computed from the rows at every call.

A key may do what it was given, narrowed by everything that its ancestors and their owners may do now. So
revoking, expiring or narrowing a key, or removing or demoting a member, reaches every key below at the next
call, and no row but one changes.

A newcomer's trap: nothing here may be remembered across calls but pure functions of what was read in this
one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from perron.chassis.credentials import is_well_formed
from perron.chassis.passports import Passport
from perron.identity import errors
from perron.identity.documents import Documents
from perron.identity.grants import Grant
from perron.identity.hot_store import HotStore
from perron.identity.model import (
    KeyFacts,
    KeyKind,
    KeyState,
    OrganizationRole,
    OrganizationState,
    Principal,
    Verdict,
    VerifyItem,
    WorkspaceRole,
)
from perron.identity.plans import Plans
from perron.identity.secrets import Pepper

NO_MODEL: Final = "!"
"""Stands alone in a list of models where none is allowed; no model has this name."""

MALFORMED: Final = Verdict(KeyState.MALFORMED)
_REFUSED: Final = {state: Verdict(state) for state in KeyState}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows say of a key whatever the hour: a pure function of them, and so remembered by them."""

    refusal: Verdict | None
    valid: Verdict
    grant: Grant
    expire_us: int | None
    overdue_from_us: int | None


class Verification:
    """Judges keys for whole batches."""

    def __init__(self, peppers: Sequence[Pepper], plans: Plans, documents: Documents) -> None:
        self._digest = peppers[0].digest
        self._older_digest = peppers[1].digest if len(peppers) > 1 else None
        self._plans = plans
        self._documents = documents
        self._reading: Callable[[KeyFacts, tuple[KeyFacts, ...]], Reading] = lru_cache(maxsize=16_384)(
            self._read
        )

    def verify(self, store: HotStore, items: Sequence[VerifyItem]) -> list[Verdict]:
        """Answers each item from one snapshot, in their order; malformed keys are told without a query."""
        wanted = [self._digests(item.credential) for item in items]
        digests = list({digest for candidates in wanted for digest in candidates})
        if not digests:
            return [MALFORMED] * len(items)
        now_us = store.began_us()
        found = store.facts_by_digest(digests)
        elders = self._ancestors(store, found.values())
        verdicts: list[Verdict] = []
        for item, candidates in zip(items, wanted, strict=True):
            verdict = MALFORMED
            for digest in candidates:
                facts = found.get(digest)
                if facts is not None:
                    verdict = self._judge(item, facts, elders, now_us)
                    break
                verdict = _REFUSED[KeyState.UNKNOWN]
            verdicts.append(verdict)
        return verdicts

    def effective_grant(self, store: HotStore, key_id: str) -> tuple[Grant, tuple[str, ...]]:
        """Returns what a key may do now, and its ancestors. Raises NotFound."""
        facts = store.facts_by_id([key_id]).get(key_id)
        if facts is None:
            raise errors.not_found("key")
        elders = self._ancestors(store, [facts])
        return self._reading(facts, _line(facts, elders)).grant, facts.ancestors

    def passport(self, principal: Principal, as_of_us: int) -> Passport:
        """Returns what a passport says of a customer; `as_of_us` is the instant at which it was true."""
        return Passport(
            organization_id=principal.organization_id,
            workspace_id=principal.workspace_id,
            member_id=principal.member_id,
            key_id=principal.key_id,
            organization_role=str(principal.organization_role or ""),
            workspace_role=str(principal.workspace_role or ""),
            scopes=principal.grant.scopes,
            plan=principal.plan,
            terms_class=str(principal.terms_class),
            tier=principal.tier,
            entitlements=self._plans.find(principal.plan).entitlements,
            subscription_id=principal.subscription_id,
            documents=principal.accepted,
            allowed_models=models_on_the_wire(principal.grant),
            as_of_us=as_of_us,
        )

    def _digests(self, credential: str) -> tuple[bytes, ...]:
        if not is_well_formed(credential):
            return ()
        if self._older_digest is None:
            return (self._digest(credential),)
        return (self._digest(credential), self._older_digest(credential))

    def _ancestors(self, store: HotStore, keys: Iterable[KeyFacts]) -> dict[str, KeyFacts]:
        wanted = {ancestor for facts in keys if facts.ancestors for ancestor in facts.ancestors}
        return store.facts_by_id(sorted(wanted)) if wanted else {}

    def _judge(self, item: VerifyItem, facts: KeyFacts, elders: dict[str, KeyFacts], now_us: int) -> Verdict:
        reading = self._reading(facts, _line(facts, elders) if facts.ancestors else ())
        if reading.refusal is not None:
            return reading.refusal
        if reading.expire_us is not None and reading.expire_us <= now_us:
            return _REFUSED[KeyState.EXPIRED]
        grant = reading.grant
        if grant.networks is not None and not grant.admits_peer(item.peer):
            return _REFUSED[KeyState.NETWORK_NOT_ALLOWED]
        verdict = reading.valid
        if item.required_scopes and not item.required_scopes <= grant.scopes:
            verdict = Verdict(KeyState.SCOPE_MISSING, verdict.principal)
        elif reading.overdue_from_us is not None and reading.overdue_from_us <= now_us:
            verdict = Verdict(KeyState.TERMS_NOT_ACCEPTED, verdict.principal)
        return replace(verdict, as_of_us=now_us) if item.want_passport else verdict

    def _read(self, facts: KeyFacts, line: tuple[KeyFacts, ...]) -> Reading:
        refusal = _refusal(facts, line)
        principal = self._principal(facts, line)
        is_customer = facts.kind is KeyKind.CUSTOMER
        return Reading(
            refusal=None if refusal is None else _REFUSED[refusal],
            valid=Verdict(KeyState.VALID, principal),
            grant=principal.grant,
            expire_us=principal.grant.expire_us,
            overdue_from_us=self._documents.overdue_from_us(facts.accepted) if is_customer else None,
        )

    def _principal(self, facts: KeyFacts, line: tuple[KeyFacts, ...]) -> Principal:
        grant = facts.grant
        for elder in line:
            grant = grant.meet(elder.grant)
        if facts.kind is not KeyKind.CUSTOMER:
            return Principal(
                facts.kind,
                facts.key_id,
                name=facts.service_name,
                operator_roles=facts.operator_roles,
                grant=grant,
            )
        plan = self._plans.find(facts.plan)
        organization_role, workspace_role = _effective_roles(facts, line)
        return Principal(
            facts.kind,
            facts.key_id,
            organization_id=facts.organization_id,
            workspace_id=facts.workspace_id,
            member_id=facts.owner_member_id,
            organization_role=organization_role,
            workspace_role=workspace_role,
            grant=grant,
            plan=facts.plan,
            terms_class=plan.terms_class,
            tier=plan.tier,
            subscription_id=facts.subscription_id,
            accepted=facts.accepted,
        )


def models_on_the_wire(grant: Grant) -> tuple[str, ...]:
    """Returns the models of a grant as messages hold them: none listed is any, `!` alone is none."""
    if grant.models is None:
        return ()
    return tuple(sorted(grant.models)) or (NO_MODEL,)


def _line(facts: KeyFacts, elders: dict[str, KeyFacts]) -> tuple[KeyFacts, ...]:
    # An ancestor that is missing makes the line shorter than the key says; `_refusal` notices.
    return tuple(filter(None, map(elders.get, facts.ancestors)))


def _refusal(facts: KeyFacts, line: tuple[KeyFacts, ...]) -> KeyState | None:
    revoked = facts.revoked or len(line) != len(facts.ancestors) or any(elder.revoked for elder in line)
    if facts.kind is KeyKind.CUSTOMER:
        if not facts.workspace_exists:
            return KeyState.REVOKED
        if facts.organization_state is not OrganizationState.ACTIVE:
            return KeyState.TERMINATED
        # The keys of a member who leaves are revoked too; that the member has left says more.
        if not facts.owner_belongs or not all(elder.owner_belongs for elder in line):
            return KeyState.OWNER_REMOVED
    return KeyState.REVOKED if revoked else None


def _effective_roles(
    facts: KeyFacts, line: tuple[KeyFacts, ...]
) -> tuple[OrganizationRole | None, WorkspaceRole | None]:
    """The owner's roles, narrowed by the ancestors' owners': minting for another gains nobody a role."""
    role = facts.organization_role
    for elder in line:
        role = _lesser(role, elder.organization_role)
    workspace_role = facts.workspace_role
    if facts.organization_role is OrganizationRole.ADMIN:
        workspace_role = WorkspaceRole.ADMIN
    for elder in line:
        manages = elder.organization_role is OrganizationRole.ADMIN or (
            elder.workspace_id == facts.workspace_id and elder.workspace_role is WorkspaceRole.ADMIN
        )
        if not manages:
            workspace_role = WorkspaceRole.MEMBER if workspace_role is not None else None
    return role, workspace_role


def _lesser(one: OrganizationRole | None, other: OrganizationRole | None) -> OrganizationRole | None:
    if one is other or other is OrganizationRole.ADMIN:
        return one
    return other if one is OrganizationRole.ADMIN else OrganizationRole.MEMBER
