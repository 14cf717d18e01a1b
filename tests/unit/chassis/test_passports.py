"""A passport is good for one moment, one installation and one set of claims."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perron.chassis.errors import Unauthenticated
from perron.chassis.passports import (
    AUDIENCE,
    LIFETIME_SECONDS,
    Passport,
    Signer,
    SigningKey,
    UnknownKeyError,
    Verifier,
)
from perron.chassis.testing import FakeClock

PASSPORT = Passport(
    organization_id="org_1",
    workspace_id="ws_1",
    member_id="mem_1",
    key_id="key_1",
    organization_role="ADMIN",
    workspace_role="ADMIN",
    scopes=frozenset({"INFERENCE", "DATA_READ"}),
    plan="free",
    terms_class="FREE",
    tier="free",
    entitlements={"sharing": "true"},
    subscription_id="",
    documents={"terms": "1"},
    allowed_models=("small",),
    as_of_us=1,
)


class Identity:
    """A signer, and a verifier that knows its keys."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.private = Ed25519PrivateKey.generate()
        self.signer = Signer([SigningKey("k1", self.private, 0)], clock)
        self.verifier = Verifier(clock)
        self.verifier.learn({"k1": self.private.public_key().public_bytes_raw()})

    def forged(
        self, *, kid: str = "k1", algorithm: str = "EdDSA", key: object = None, **claims: object
    ) -> str:
        issued = self.clock.now_us() // 1_000_000
        body = {
            **PASSPORT.claims(),
            "as_of": 1,
            "iss": "perron.identity",
            "aud": AUDIENCE,
            "iat": issued,
            "exp": issued + LIFETIME_SECONDS,
            **claims,
        }
        return jwt.encode(body, key or self.private, algorithm=algorithm, headers={"kid": kid})  # type: ignore[arg-type]


@pytest.fixture
def identity(clock: FakeClock) -> Identity:
    return Identity(clock)


def test_a_passport_says_what_was_signed(identity: Identity) -> None:
    assert identity.verifier.verify(identity.signer.sign(PASSPORT)) == PASSPORT


def test_the_same_claims_are_signed_once_until_half_of_their_life(identity: Identity) -> None:
    first = identity.signer.sign(PASSPORT)
    assert identity.signer.sign(replace(PASSPORT, as_of_us=2)) == first
    identity.clock.advance(timedelta(seconds=LIFETIME_SECONDS / 2))
    later = identity.signer.sign(replace(PASSPORT, as_of_us=3))
    assert later != first
    assert identity.verifier.verify(later).as_of_us == 3


def test_a_clock_that_is_set_back_neither_prolongs_nor_spoils_a_passport(identity: Identity) -> None:
    early = identity.signer.sign(PASSPORT)
    identity.verifier.verify(early)
    identity.clock.advance(timedelta(hours=-1))
    with pytest.raises(Unauthenticated):
        identity.verifier.verify(early)
    assert identity.verifier.verify(identity.signer.sign(PASSPORT)) == PASSPORT


@pytest.mark.parametrize(
    "change",
    [
        {"plan": "scale"},
        {"scopes": frozenset()},
        {"subscription_id": "sub_1"},
        {"documents": {"terms": "2"}},
        {"key_id": "key_2"},
    ],
)
def test_other_claims_never_share_a_signature(identity: Identity, change: dict[str, object]) -> None:
    identity.signer.sign(PASSPORT)
    changed = replace(PASSPORT, **change)  # type: ignore[arg-type]
    assert identity.verifier.verify(identity.signer.sign(changed)) == changed


def test_a_passport_ends(identity: Identity) -> None:
    token = identity.signer.sign(PASSPORT)
    identity.verifier.verify(token)
    identity.clock.advance(timedelta(seconds=LIFETIME_SECONDS))
    with pytest.raises(Unauthenticated):
        identity.verifier.verify(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "somebody"},
        {"exp": 1},
        {"iat": 1 << 40},
        {"nbf": 1 << 40},
        {"exp": None},
        {"exp": 1 << 80},
        {"org": None, "scopes": 7},
    ],
)
def test_a_passport_of_another_time_place_or_form_is_refused(
    identity: Identity, claims: dict[str, object]
) -> None:
    with pytest.raises(Unauthenticated):
        identity.verifier.verify(identity.forged(**claims))


def test_another_key_under_a_known_name_is_refused(identity: Identity) -> None:
    with pytest.raises(Unauthenticated):
        identity.verifier.verify(identity.forged(key=Ed25519PrivateKey.generate()))


def test_an_unknown_key_is_asked_for(identity: Identity) -> None:
    with pytest.raises(UnknownKeyError):
        identity.verifier.verify(identity.forged(kid="k2"))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_unsigned_passport_is_refused(identity: Identity, algorithm: str) -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    _, body, signature = identity.forged().split(".")
    for end in ("", signature):
        with pytest.raises(Unauthenticated):
            identity.verifier.verify(f"{part({'alg': algorithm, 'kid': 'k1'})}.{body}.{end}")


def test_a_new_key_signs_only_from_its_time_on(clock: FakeClock) -> None:
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    turn_us = clock.now_us() + LIFETIME_SECONDS * 1_000_000
    signer = Signer([SigningKey("new", new, turn_us), SigningKey("old", old, 0)], clock)
    assert jwt.get_unverified_header(signer.sign(PASSPORT))["kid"] == "old"
    clock.advance(timedelta(seconds=LIFETIME_SECONDS))
    assert jwt.get_unverified_header(signer.sign(PASSPORT))["kid"] == "new"
