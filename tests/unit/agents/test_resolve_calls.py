"""What surrounds the reading of a batch: keys that are exchanged meanwhile, and services that do not run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perron.agents.model import Agent
from perron.agents.peers import Governance, Models
from perron.agents.resolve_calls import ResolveCalls, read_content
from perron.agents.resolving import Resolving
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.common.v1 import roles_pb2
from perron.chassis import status
from perron.chassis.channels import Peer
from perron.chassis.database import Database
from perron.chassis.interceptors.access import Caller, CallerKind
from perron.chassis.passports import Passport
from tests.unit.agents.workshop import ELSEWHERE, ORGANIZATION, OTHER, WORKSPACE, Workshop


@pytest.fixture
def workshop(database: Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


@pytest.fixture
async def calls(workshop: Workshop) -> AsyncIterator[ResolveCalls]:
    nobody = Peer("governance", "127.0.0.1:1", "")
    resolving = Resolving(workshop.seals, read_content)
    opened = ResolveCalls(workshop.database, resolving, Governance(nobody), Models(None))
    yield opened
    await opened.aclose()
    await nobody.aclose()


def passport(workspace_id: str) -> Passport:
    return Passport(
        organization_id=ORGANIZATION,
        workspace_id=workspace_id,
        member_id=OTHER,
        key_id="key_1",
        organization_role="MEMBER",
        workspace_role="MEMBER",
        scopes=frozenset(),
        plan="free",
        terms_class="FREE",
        tier="free",
        entitlements={"agent_sharing": "workspace", "agent_channels": "api"},
        subscription_id="",
        documents={},
        allowed_models=(),
        as_of_us=1,
    )


async def reasons(calls: ResolveCalls, *made: Agent) -> list[str]:
    places = (WORKSPACE, ELSEWHERE)
    caller = Caller(CallerKind.SERVICE, name="admission", passports=tuple(map(passport, places)))
    request = pb.BatchResolveRequest(
        passports=places,
        items=[
            pb.ResolveItem(
                passport_index=places.index(one.workspace_id),
                agent=one.agent_id,
                channel=roles_pb2.CHANNEL_API,
            )
            for one in made
        ],
    )
    response = await calls.many(request, caller)
    return [status.from_status(one.error).reason if one.HasField("error") else "" for one in response.results]


async def test_what_a_key_opened_before_it_was_exchanged_is_read_again_and_the_rest_is_not(
    workshop: Workshop, calls: ResolveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await workshop.make(), await workshop.make(workspace_id=ELSEWHERE)]
    read_key = workshop.vault.read
    read: list[str] = []

    def first_gone(key_id: str) -> bytes | None:
        read.append(key_id)
        return None if len(read) == 1 else read_key(key_id)

    monkeypatch.setattr(workshop.vault, "read", first_gone)
    assert await reasons(calls, *made) == ["", ""]
    assert len(read) == len(made) + 1


async def test_a_key_that_stays_lost_is_said_to_be_not_at_hand(
    workshop: Workshop, calls: ResolveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await workshop.make()
    monkeypatch.setattr(workshop.vault, "read", lambda _key_id: None)
    assert await reasons(calls, agent) == ["STORE_UNAVAILABLE"]


async def test_where_finetuning_does_not_run_only_fine_tuned_models_are_unavailable(
    workshop: Workshop, calls: ResolveCalls
) -> None:
    made = [await workshop.make(model="ft:small:mine"), await workshop.make()]
    assert await reasons(calls, *made) == ["PEER_UNAVAILABLE", ""]


async def test_where_governance_does_not_answer_only_third_parties_are_unavailable(
    workshop: Workshop, calls: ResolveCalls
) -> None:
    made = [await workshop.make(third_parties=("web_search",)), await workshop.make()]
    assert await reasons(calls, *made) == ["PEER_UNAVAILABLE", ""]
