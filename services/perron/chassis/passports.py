"""Passports: what Verify knew of a person, signed, for the services that one request passes through.

A passport is an EdDSA JWT of 30 seconds. It is accepted only beside a service's own credential, is never
returned to a caller, and names the instant `as_of` at which it was true. Signing costs more than the rest
of Verify together, so a signature is used again for the same claims until half its life is over; it then
names an earlier instant than the truth, never a later one. Claims are computed from the rows every time;
only the signature is remembered.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.utils import base64url_decode

from perron.chassis.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from perron.chassis.clock import Clock

__all__ = ["AUDIENCE", "LIFETIME_SECONDS", "Passport", "Signer", "SigningKey", "UnknownKeyError", "Verifier"]

AUDIENCE: Final = "perron"
ISSUER: Final = "perron.identity"
LIFETIME_SECONDS: Final = 30
_ALGORITHM: Final = "EdDSA"
_signed: Final = jwt.PyJWS(algorithms=[_ALGORITHM])
_LEEWAY_SECONDS: Final = 2
_REMEMBERED_MAX: Final = 20_000
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Passport:
    """A person in one request, as of one instant; roles and scopes are enum names without prefix."""

    organization_id: str
    workspace_id: str
    member_id: str
    key_id: str
    organization_role: str
    workspace_role: str
    scopes: frozenset[str]
    plan: str
    terms_class: str
    tier: str
    entitlements: Mapping[str, str]
    subscription_id: str  # empty on free plans
    documents: Mapping[str, str]  # accepted documents: name → newest accepted version
    allowed_models: tuple[str, ...]  # empty: every model
    as_of_us: int

    def claims(self) -> dict[str, Any]:
        """Everything but the instant, in one canonical order."""
        return {
            "org": self.organization_id,
            "ws": self.workspace_id,
            "mem": self.member_id,
            "key": self.key_id,
            "org_role": self.organization_role,
            "ws_role": self.workspace_role,
            "scopes": sorted(self.scopes),
            "plan": self.plan,
            "class": self.terms_class,
            "tier": self.tier,
            "ent": dict(sorted(self.entitlements.items())),
            "sub": self.subscription_id,
            "docs": dict(sorted(self.documents.items())),
            "models": list(self.allowed_models),
        }


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of identity: it is published from the first day and signs from `signs_from_us` on."""

    kid: str
    private: Ed25519PrivateKey
    signs_from_us: int


class _Header(msgspec.Struct):
    """What is read of a token's header; whoever checks the signature reads the rest."""

    kid: str


class UnknownKeyError(Exception):
    """The passport names a key that this verifier has not seen yet; ask identity for its keys."""


class Signer:
    """Signs passports with the newest key whose time has come. `keys` must hold one that may sign now."""

    def __init__(self, keys: Sequence[SigningKey], clock: Clock) -> None:
        self.keys = tuple(sorted(keys, key=lambda key: key.signs_from_us))
        self._clock = clock
        self._signed: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def sign(self, passport: Passport) -> str:
        """The passport as a token that is valid for at least half its lifetime."""
        now_us = self._clock.now_us()
        key = self._active(now_us)
        claims = passport.claims()
        memo = key.kid.encode() + msgspec.json.encode(claims)
        found = self._signed.get(memo)
        half_us = LIFETIME_SECONDS * _SECOND_US // 2
        if found is not None and found[1] - half_us <= now_us < found[1]:  # a clock may be set back
            return found[0]
        issued = now_us // _SECOND_US
        token = jwt.encode(
            {
                **claims,
                "iss": ISSUER,
                "aud": AUDIENCE,
                "as_of": passport.as_of_us,
                "iat": issued,
                "exp": issued + LIFETIME_SECONDS,
                "jti": uuid.uuid4().hex,
            },
            key.private,
            algorithm=_ALGORITHM,
            headers={"kid": key.kid},
        )
        self._signed[memo] = (token, now_us + half_us)
        self._signed.move_to_end(memo)
        if len(self._signed) > _REMEMBERED_MAX:
            self._signed.popitem(last=False)
        return token

    def _active(self, now_us: int) -> SigningKey:
        begun = [key for key in self.keys if key.signs_from_us <= now_us]
        return begun[-1] if begun else self.keys[0]  # a clock that was set back must not silence Verify


class Verifier:
    """Checks passports against identity's public keys, given by `kid` as raw 32 bytes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._seen: OrderedDict[bytes, tuple[Passport, int]] = OrderedDict()

    def learn(self, keys: Mapping[str, bytes]) -> None:
        """Replace the known keys; passports of a key that is gone are refused from now on."""
        self._keys = {kid: Ed25519PublicKey.from_public_bytes(raw) for kid, raw in keys.items()}
        self._seen.clear()

    @property
    def ready(self) -> bool:
        """Whether any key is known."""
        return bool(self._keys)

    def verify(self, token: str) -> Passport:
        """The passport in a token.

        Raises Unauthenticated (PASSPORT_INVALID) unless identity signed it for this installation and it is
        of this moment, UnknownKeyError where its key has not been seen.
        """
        now_us = self._clock.now_us()
        digest = hashlib.blake2b(token.encode(), digest_size=16).digest()
        seen = self._seen.get(digest)
        longest_us = (LIFETIME_SECONDS + _LEEWAY_SECONDS) * _SECOND_US
        if seen is not None and seen[1] - longest_us <= now_us < seen[1]:  # a clock may be set back
            return seen[0]
        passport, expires_us = self._open(token, now_us)
        self._seen[digest] = (passport, expires_us)
        if len(self._seen) > _REMEMBERED_MAX:
            self._seen.popitem(last=False)
        return passport

    def _open(self, token: str, now_us: int) -> tuple[Passport, int]:
        try:
            key = self._keys.get(_kid(token))
            if key is None:
                raise UnknownKeyError
            claims = _claims(token, key)
            return _passport(claims), _expiry_us(claims, now_us)
        except (jwt.PyJWTError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
            raise _invalid() from None


def _kid(token: str) -> str:
    """Which key a token says it was signed with; nothing else is believed before that key confirms it."""
    header = base64url_decode(token.partition(".")[0])
    return msgspec.json.decode(header, type=_Header).kid


def _claims(token: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """What identity signed, for this installation; whether it is of this moment is not looked at."""
    claims: dict[str, Any] = msgspec.json.decode(_signed.decode(token, key, algorithms=[_ALGORITHM]))
    if claims["aud"] != AUDIENCE or claims["iss"] != ISSUER:
        raise ValueError
    return claims


def _expiry_us(claims: Mapping[str, Any], now_us: int) -> int:
    """When a token ends; machines may differ by the leeway about when it began."""
    leeway_us = _LEEWAY_SECONDS * _SECOND_US
    begins_us = max(int(claims["iat"]), int(claims.get("nbf", 0))) * _SECOND_US
    expires_us = int(claims["exp"]) * _SECOND_US
    outlives = expires_us - begins_us > LIFETIME_SECONDS * _SECOND_US
    if outlives or not begins_us - leeway_us <= now_us < expires_us:
        raise ValueError
    return expires_us


def _passport(claims: Mapping[str, Any]) -> Passport:
    return Passport(
        organization_id=str(claims["org"]),
        workspace_id=str(claims["ws"]),
        member_id=str(claims["mem"]),
        key_id=str(claims["key"]),
        organization_role=str(claims["org_role"]),
        workspace_role=str(claims["ws_role"]),
        scopes=frozenset(claims["scopes"]),
        plan=str(claims["plan"]),
        terms_class=str(claims["class"]),
        tier=str(claims["tier"]),
        entitlements=dict(claims["ent"]),
        subscription_id=str(claims["sub"]),
        documents=dict(claims["docs"]),
        allowed_models=tuple(claims["models"]),
        as_of_us=int(claims["as_of"]),
    )


def _invalid() -> Unauthenticated:
    return Unauthenticated("PASSPORT_INVALID", "the passport is not valid here and now")
