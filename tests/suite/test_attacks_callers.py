"""Nobody unknown, and nobody of another tenant, gets further than the door of any RPC."""

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perron.api.identity.v1 import api_key_pb2
from perron.chassis import credentials
from tests.attacks.requests import Requests, made_up_id
from tests.attacks.wire import ANSWERS, assert_refused_properly, first, named
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc, fields_of

DOOR = {"CALLER_NOT_ALLOWED", "SCOPE_MISSING"}
"""Reasons with which only the contract's own access rule refuses."""

UNFINISHED = {"WriteArtifact": "of a stream the first message is sent, which announces bytes"}
"""RPCs that one message cannot satisfy, and why; how they end is for their own tests."""

SCOPED_APART = {"CreateJob": "agent"}
"""Parts of a request that need another scope than the call."""

WITHOUT_TENANT = {
    "BatchGetStanding": "asked about any workspace",
    "BatchGetDirectives": "asked about any scope",
}
"""RPCs of services that name ids of any tenant, and why."""

NOT_LOOKED_UP = {
    ("Put", "agent_id"): "what admission says was asked",
    ("BatchPut", "agent_id"): "what admission says was asked",
    ("CreateAgentForJob", "owner_member_id"): "the admins own what a stranger would",
    ("CreateAgentForJob", "job_id"): "finetuning says of which job",
    ("CreateAgentForJob", "model_id"): "finetuning says of which model",
    ("CreateJob", "agent"): "what it is to be, no id",
    ("ListModels", "job_id"): "of a stranger there are none",
    ("CreateAlias", "alias"): "a new name",
    ("AcknowledgeThirdParty", "third_party"): "a new one",
    ("ListAgents", "owner_member_id"): "of a stranger there are none",
    ("UpdateAgent", "owner_member_id"): "read where the mask names it",
}
"""Fields that may name what does not exist, and why."""

NAMES_OF_TENANTS = {
    "admission_id",
    "agent",
    "agent_id",
    "alias",
    "decision_id",
    "file_id",
    "holding_id",
    "job_id",
    "key_id",
    "member_id",
    "model_id",
    "organization_id",
    "owner_member_id",
    "record_id",
    "reservation_id",
    "suspension_id",
    "third_party",
    "transfer_id",
    "upload_id",
    "workspace_id",
    "zero_retention_request_id",
}

PASSPORT_RPCS = [rpc for rpc in RPCS if rpc.access.service.passport]

each_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)


@each_rpc
def test_an_rpc_answers_a_caller_that_its_contract_names(rpc: Rpc, world: World, requests: Requests) -> None:
    caller = None if rpc.access.public else world.caller(rpc.access)

    answer = world.wire.call(rpc, requests.valid(rpc), caller.secret if caller else None)

    if rpc.name in UNFINISHED:
        assert answer.reason == "DIGEST_MISMATCH", str(answer)
        return
    assert answer.code in ANSWERS - {"UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT"}, str(answer)


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if not rpc.access.public], ids=str)
def test_nobody_without_exactly_one_good_key_is_served(rpc: Rpc, world: World, requests: Requests) -> None:
    request = requests.valid(rpc)
    good = world.caller(rpc.access).secret
    two = [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")]

    for key in (None, *bad_keys(good)):
        assert_refused_properly(world.wire.call(rpc, request, key), "UNAUTHENTICATED")
    assert_refused_properly(world.wire.call(rpc, request, metadata=two), "UNAUTHENTICATED")
    for scheme in ("", "bearer ", "Basic ", "Bearer  "):
        sent = [("authorization", scheme + good)]
        assert_refused_properly(world.wire.call(rpc, request, metadata=sent), "UNAUTHENTICATED")


@each_rpc
def test_every_caller_is_let_in_exactly_where_the_contract_says_so(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    request = requests.valid(rpc)
    if rpc.name in SCOPED_APART:
        request.ClearField(SCOPED_APART[rpc.name])
    wrong = []
    for person in world.callers:
        answer = world.wire.call(rpc, request, person.secret)
        if person.may_call(rpc.access):
            let_in = answer.code in ANSWERS - {"UNAUTHENTICATED"} and answer.reason not in DOOR
        else:
            let_in = answer.code == "PERMISSION_DENIED" and answer.reason in DOOR | {"ROLE_MISSING"}
        if not let_in:
            wrong.append(f"{person} ({'may' if person.may_call(rpc.access) else 'may not'}): {answer}")

    assert wrong == []


def ids_of(rpc: Rpc) -> Iterator[str]:
    """The fields of a request, or of its item, that name something of one tenant; operators see them all."""
    names = set((rpc.batch_item or rpc.input).fields_by_name)
    asked_for_one = rpc.access.HasField("service") and names & {"organization_id", "admission_id", "agent"}
    if rpc.name not in WITHOUT_TENANT and (rpc.access.HasField("customer") or asked_for_one):
        yield from sorted(name for name in names & NAMES_OF_TENANTS if (rpc.name, name) not in NOT_LOOKED_UP)


ID_CASES = [(rpc, name) for rpc in RPCS for name in ids_of(rpc)]


def test_every_id_that_can_be_asked_for_is_tried_with_the_neighbours() -> None:
    names = {field.name for rpc in RPCS for field in fields_of(rpc.input) if field.name.endswith("_id")}

    # Workers are nobody's: by a lease and its blobs they reach the tenant whose job they were lent.
    assert names - NAMES_OF_TENANTS == {"request_id", "resource_id", "lease_id", "blob_id"}


@pytest.mark.parametrize(("rpc", "name"), ID_CASES, ids=str)
def test_another_tenants_id_looks_like_one_that_does_not_exist(
    rpc: Rpc, name: str, world: World, requests: Requests
) -> None:
    theirs = id_of_the_neighbour(world, name)
    caller = world.caller(rpc.access) if name != "admission_id" else world.services["stranger"]

    answers = []
    for value in (theirs, made_up_id(name)):
        answer = first(rpc, world.wire.call(rpc, requests.valid(rpc, **{name: value}), caller.secret))
        # A key's owner is looked for among the workspace's members only, and nowhere else.
        assert answer.code == "NOT_FOUND" or answer.reason == "OWNER_NOT_MEMBER", str(answer)
        assert answer.error is not None
        answers.append(
            (answer.reason, answer.message.replace(value, "…"), masked(answer.error.metadata, value))
        )

    assert answers[0] == answers[1]


def test_a_neighbour_among_others_looks_like_one_that_does_not_exist(
    world: World, requests: Requests
) -> None:
    """Lists of ids: agents to hand over to, members to share with, files to train on."""
    handing, sharing = named("AgentService.CreateAgent"), named("SharingService.SetSharing")
    training = named("JobService.CreateJob")
    world.refill(world.tenant)
    refused = []
    for agent, member, file in (
        (world.other.ids["agent_id"], world.other.admin.member_id, world.other.ids["file_id"]),
        (made_up_id("agent_id"), made_up_id("member_id"), made_up_id("file_id")),
    ):
        request = requests.valid(handing)
        request.configuration.handoff_agent_ids.extend([world.tenant.ids["agent_id"], agent])
        among = requests.valid(sharing)
        among.member_ids.append(member)
        job = requests.valid(training)
        job.training_file_ids.append(file)
        key = world.tenant.admin.secret
        asked = ((handing, request), (sharing, among), (training, job))
        answers = [world.wire.call(rpc, message, key) for rpc, message in asked]
        refused.append([(answer.reason, answer.message) for answer in answers])

    assert refused[0] == refused[1]
    expected = ["HANDOFF_UNKNOWN", "MEMBER_UNKNOWN", "RESOURCE_NOT_FOUND"]
    assert [reason for reason, _ in refused[0]] == expected


@pytest.mark.parametrize("rpc", PASSPORT_RPCS, ids=str)
def test_a_forged_passport_opens_nothing(rpc: Rpc, world: World, requests: Requests) -> None:
    caller = world.caller(rpc.access)
    genuine = world.passport(world.tenant)

    for name, forged in forgeries(genuine, world.suite.folder / "keys" / "signing").items():
        request = requests.valid(rpc)
        if rpc.batch_item is not None:
            del request.passports[:]
            request.passports.append(forged)
        else:
            request.passport = forged
        answer = first(rpc, world.wire.call(rpc, request, caller.secret))
        assert (answer.code, answer.reason) == ("UNAUTHENTICATED", "PASSPORT_INVALID"), f"{name}: {answer}"


@pytest.mark.parametrize("rpc", PASSPORT_RPCS, ids=str)
def test_a_passport_is_no_credential(rpc: Rpc, world: World, requests: Requests) -> None:
    answer = world.wire.call(rpc, requests.valid(rpc), world.passport(world.tenant))

    assert_refused_properly(answer, "UNAUTHENTICATED")


def test_a_revoked_key_is_refused_by_every_service_at_the_next_call(world: World, requests: Requests) -> None:
    rpcs = [
        named(name)
        for name in (
            "ApiKeyService.ListApiKeys",
            "LimitService.ListLimits",
            "DecisionService.ListDecisions",
            "AgentService.ListAgents",
            "FileService.ListFiles",
        )
    ]
    for rpc in rpcs:
        made = world.new_key(world.tenant)
        assert world.wire.call(rpc, requests.valid(rpc), made.secret).code == "OK"
        revoke = api_key_pb2.RevokeApiKeyRequest(key_id=made.key.key_id)
        world.wire.ask("ApiKeyService.RevokeApiKey", revoke, world.tenant.admin.secret)

        refused = world.wire.call(rpc, requests.valid(rpc), made.secret)

        assert_refused_properly(refused, "UNAUTHENTICATED")
        assert refused.error is not None
        assert refused.error.metadata["state"] == "REVOKED"


def test_an_expired_key_is_refused_one_millisecond_later(world: World, requests: Requests) -> None:
    rpc = named("LimitService.ListLimits")
    expires = datetime.now(UTC) + timedelta(seconds=1.5)
    made = world.new_key(world.tenant, expire_time=expires)
    codes = set()
    while datetime.now(UTC) <= expires + timedelta(milliseconds=1):
        codes.add(world.wire.call(rpc, requests.valid(rpc), made.secret).code)

    assert "OK" in codes
    assert_refused_properly(world.wire.call(rpc, requests.valid(rpc), made.secret), "UNAUTHENTICATED")


def test_a_malformed_key_is_refused_without_asking_identity(world: World, requests: Requests) -> None:
    rpc = named("LimitService.ListLimits")
    identity = world.suite.pids["identity"]
    os.kill(identity, signal.SIGSTOP)
    try:
        for key in bad_keys(world.tenant.admin.secret):
            assert_refused_properly(
                world.wire.call(rpc, requests.valid(rpc), key, timeout=1), "UNAUTHENTICATED"
            )
    finally:
        os.kill(identity, signal.SIGCONT)


def test_a_key_that_was_never_given_out_is_unknown(world: World, requests: Requests) -> None:
    rpc = named("LimitService.ListLimits")
    stranger = credentials.with_checksum(world.tenant.admin.secret.split("_")[1], "A" * 43)

    refused = world.wire.call(rpc, requests.valid(rpc), stranger)

    assert_refused_properly(refused, "UNAUTHENTICATED")
    assert refused.error is not None
    assert refused.error.metadata["state"] == "UNKNOWN"


def bad_keys(good: str) -> list[str]:
    """What looks like a good key and is none."""
    flipped = good[:-1] + ("0" if good[-1] != "0" else "1")
    return [
        "",
        "x" * 8192,
        flipped,
        good + ".",
        good.swapcase(),
        good[:20],
        good + good,
        good.replace("_", "-"),
        "prn__" + good[9:],
        good.replace("prn", "prm"),
    ]


def id_of_the_neighbour(world: World, name: str) -> str:
    """The neighbour's own thing that a field of that name could mean."""
    other = world.other
    match name:
        case "organization_id" | "workspace_id":
            return str(getattr(other, name))
        case "key_id":
            return other.admin.key_id
        case "member_id" | "owner_member_id":
            return other.admin.member_id
        case _:
            return other.ids[name]


def masked(metadata: dict[str, str], value: str) -> dict[str, str]:
    """Metadata of an error without the id that was asked for."""
    return {key: text.replace(value, "…") for key, text in metadata.items()}


def forgeries(genuine: str, signing_file: Path) -> dict[str, str]:
    """Passports that must not be believed, the last ones signed by the true key."""
    header = json.loads(base64.urlsafe_b64decode(genuine.split(".", maxsplit=1)[0] + "=="))
    claims = jwt.decode(genuine, options={"verify_signature": False})
    body, _, signature = genuine.rpartition(".")
    richer = encode({**claims, "plan": "enterprise"})
    true_key = true_signing_key(signing_file)

    def signed(**changes: object) -> str:
        return jwt.encode({**claims, **changes}, true_key, algorithm="EdDSA", headers={"kid": header["kid"]})

    now = int(time.time())
    return {
        "garbage": "x.y.z",
        "no signature": f"{body}.",
        "half a signature": f"{body}.{signature[:20]}",
        "alg none": f"{encode({**header, 'alg': 'none'})}.{encode(claims)}.",
        "alg none with signature": f"{encode({**header, 'alg': 'none'})}.{encode(claims)}.{signature}",
        "HMAC with the key's id": jwt.encode(
            claims, header["kid"].ljust(32, "0"), algorithm="HS256", headers={"kid": header["kid"]}
        ),
        "another key": jwt.encode(
            claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": header["kid"]}
        ),
        "unknown key": jwt.encode(
            claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": "k0"}
        ),
        "richer claims under the old signature": f"{body.split('.')[0]}.{richer}.{signature}",
        "expired": signed(exp=now - 1, iat=now - 31),
        "for another audience": signed(aud="somebody"),
        "not yet valid": signed(nbf=now + 3600),
        "of another issuer": signed(iss="somebody"),
        "without an end": jwt.encode(
            {key: value for key, value in claims.items() if key != "exp"},
            true_key,
            algorithm="EdDSA",
            headers={"kid": header["kid"]},
        ),
    }


def encode(part: dict[str, Any]) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def true_signing_key(path: Path) -> Ed25519PrivateKey:
    """The key that identity signs with: the second word of the file's first line."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text("ascii").split()[1]))
