"""Cases 11, 28, 31, 32 and 34 of the terms, from the gateway's call to the store, over real sockets."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from perron.api.agents.v1 import agent_pb2, agent_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, workspace_pb2, workspace_pb2_grpc
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, limit_service_pb2_grpc
from perron.cli.connection import RefusedError
from perron.cli.demo import agents as chapter
from perron.cli.demo import search
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.demo.narrowing import PLAN_WITHOUT_SHARING
from perron.cli.demo.team import Member
from perron.cli.suite import Suite
from tests.suite.builders import admin_of, alias, configuration, delete, joined, listed
from tests.suite.customers import FREE, PAID, Customers, customers, exchange
from tests.suite.stand_ins import Holding, Models

TUNED = "ft:small-1:desk:1"
CHAT, API = roles_pb2.CHANNEL_CHAT, roles_pb2.CHANNEL_API
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """A suite with a plan that shares nothing, a finetuning service, and a governance that knows of holds."""

    suite: Suite
    made: Customers
    models: Models
    holds: Holding


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("agents")
    with ExitStack() as opened:
        models = Models()
        tuned = opened.enter_context(models.served())
        holds = Holding(lambda: suite.endpoints["governance"])
        environment = {
            **chapter.settings(folder),
            "PERRON_AGENTS_FINETUNING_TARGET": tuned,
            "PERRON_ADMISSION_FINETUNING_TARGET": tuned,
            "PERRON_AGENTS_GOVERNANCE_TARGET": opened.enter_context(holds.served()),
        }
        suite = Suite(folder, environment=environment)
        opened.enter_context(suite)
        yield Place(suite, opened.enter_context(customers(suite)), models, holds)


@pytest.fixture
def customer(place: Place) -> Customer:
    return place.made.new()


def use(customer: Customer, member: Member, agent: str) -> RefusedError | None:
    """What a member's exchange with an agent is refused with; None where it is admitted."""
    return refusal(partial(customer.admit, exchange(), member.secret, model=agent))


def outcome(refused: RefusedError | None) -> str:
    return f"{refused.error.code} {refused.error.reason}" if refused else "admitted"


GONE = "NOT_FOUND RESOURCE_NOT_FOUND"


def test_an_exchange_with_an_agent_keeps_no_byte_of_what_the_agent_is_told(
    place: Place, customer: Customer
) -> None:
    """Case 11."""
    markers = [search.marker() for _ in range(5)]
    told = configuration(f"Never say {markers[0]}.")
    told.description = markers[1]
    told.examples.add(input=markers[2], output=markers[2])
    told.tools.add().function.MergeFrom(
        type(told.tools.add().function)(name="look_up", description=markers[3])
    )
    del told.tools[1:]
    told.metadata["team"] = markers[4]
    bo = joined(place.made, customer, "bo")
    agent = bo.create("Desk", told)
    asked = exchange("what is on the shelf?")

    admitted = customer.admit(asked, bo.secret, model=agent.agent_id)
    completed = customer.complete(asked, admitted)

    assert admitted.agent.configuration == told
    assert admitted.decision.training_eligible
    (record,) = customer.records()
    assert (record.record_id, record.agent_id, record.agent_version) == (
        completed.record_id,
        agent.agent_id,
        1,
    )
    assert customer.read(record.record_id) == (asked.question.encode(), asked.answer.encode())
    kept = next(one for one in customer.decisions() if one.data_kind == decision_pb2.DATA_KIND_AGENT)
    assert kept.decision_id == bo.version(agent.agent_id, 1).decision_id
    assert purposes(kept) == {decision_pb2.PURPOSE_PROVIDE_SERVICES}
    assert not kept.training_eligible
    for marker in markers:
        assert search.find(place.suite.folder, marker) == []
    planted = search.plant(place.suite.folder, markers[0])
    assert {one.path for one in search.find(place.suite.folder, markers[0])} == set(planted)
    for path in planted:
        path.unlink()


def test_who_is_removed_is_refused_and_what_it_kept_for_itself_stays_with_the_admins(
    place: Place, customer: Customer
) -> None:
    """Case 28."""
    bo, cy = joined(place.made, customer, "bo"), joined(place.made, customer, "cy")
    keys = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    scopes = [roles_pb2.SCOPE_INFERENCE, roles_pb2.SCOPE_KEYS_WRITE]
    request = api_key_pb2.CreateApiKeyRequest(
        display_name="parent",
        workspace_id=customer.workspace_id,
        owner_member_id=bo.member_id,
        scopes=scopes,
    )
    parent = place.made.connect(customer.admin.ask(keys.CreateApiKey, request).secret)
    minted = api_key_pb2.CreateApiKeyRequest(display_name="child", scopes=[roles_pb2.SCOPE_INFERENCE])
    child = parent.ask(parent.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreateApiKey, minted).secret
    agent = bo.create("Mine alone", configuration())
    bo.share(agent.agent_id, agent_pb2.SHARING_MODE_RESTRICTED)
    assert use(customer, bo, agent.agent_id) is None
    assert refusal(partial(customer.admit, exchange(), child, model=agent.agent_id)) is None

    customer.admin.ask(
        customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub).RemoveMember,
        workspace_pb2.RemoveMemberRequest(member_id=bo.member_id, workspace_id=customer.workspace_id),
    )

    for secret in (bo.secret, child):
        refused = refusal(partial(customer.admit, exchange(), secret, model=agent.agent_id))
        assert outcome(refused) == "UNAUTHENTICATED CREDENTIAL_INVALID"
    assert outcome(refusal(partial(bo.get, agent.agent_id))) == "UNAUTHENTICATED CREDENTIAL_INVALID"
    assert outcome(use(customer, cy, agent.agent_id)) == GONE
    assert agent.agent_id not in listed(cy)
    admin = admin_of(customer)
    stays = listed(admin)[agent.agent_id]
    assert stays.sharing_mode == stays.effective_sharing_mode == agent_pb2.SHARING_MODE_RESTRICTED
    assert use(customer, admin, agent.agent_id) is None


def test_a_deleted_model_is_said_to_be_deleted_and_no_other_takes_its_place(
    place: Place, customer: Customer
) -> None:
    """Case 31."""
    bo = joined(place.made, customer, "bo")
    assert outcome(refusal(partial(bo.create, "Early", configuration(model=TUNED)))) == GONE
    place.models.make(customer.workspace_id, TUNED)
    agent = bo.create("Tuned", configuration(model=TUNED))
    assert agent.source.kind == agent_pb2.AgentSource.KIND_FINE_TUNED_MODEL
    assert agent.source.model_id == place.models.ready[customer.workspace_id, TUNED].model_id
    admitted = customer.admit(exchange(), bo.secret, model=agent.agent_id)
    assert admitted.effective_model == TUNED
    assert not admitted.decision.training_eligible

    place.models.deleted.add(TUNED)
    try:
        assert outcome(use(customer, bo, agent.agent_id)) == "FAILED_PRECONDITION MODEL_DELETED"
        again = refusal(partial(bo.write, agent.agent_id, configuration("Again.", TUNED)))
        assert outcome(again) == "FAILED_PRECONDITION MODEL_DELETED"
    finally:
        place.models.deleted.clear()
    assert bo.get(agent.agent_id).latest_version == 1
    decisions = [one for one in customer.decisions() if one.data_kind == decision_pb2.DATA_KIND_INFERENCE]
    assert [one.decision_id for one in decisions] == [admitted.decision.decision_id]


def test_where_finetuning_does_not_answer_that_is_said_and_other_agents_go_on(tmp_path: Path) -> None:
    with Suite(tmp_path) as own, customers(own) as made:
        own.kill("finetuning")
        here = made.new()
        bo = joined(made, here, "bo")
        refused = refusal(partial(bo.create, "Tuned", configuration(model=TUNED)))
        assert refused is not None
        assert (refused.error.code, refused.error.reason) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
        assert refused.error.metadata["peer"] == "finetuning"
        assert use(here, bo, bo.create("Plain", configuration()).agent_id) is None


def suspended(customer: Customer) -> None:
    """Lets the customer reach a cap of its own."""
    request = limit_service_pb2.SetCapRequest(
        organization_id=customer.organization_id,
        metric=limit_pb2.METRIC_REQUESTS,
        window=limit_pb2.WINDOW_DAY,
        amount=1,
    )
    customer.admin.ask(customer.admin.stub(limit_service_pb2_grpc.LimitServiceStub).SetCap, request)
    customer.admit(exchange())
    assert outcome(refusal(partial(customer.admit, exchange()))) == "RESOURCE_EXHAUSTED LIMIT_REACHED"


CIRCUMSTANCES: dict[str, Callable[[Customer], object]] = {
    "nothing special": lambda customer: None,
    "suspended": suspended,
    "downgraded to free": lambda customer: customer.change_plan(FREE),
    "downgraded to a plan without sharing": lambda customer: customer.change_plan(PLAN_WITHOUT_SHARING),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_deleting_ends_use_at_once_whatever_else_holds(
    circumstance: str, *, held: bool, place: Place
) -> None:
    """Case 32."""
    customer = place.made.new(PAID)
    bo = joined(place.made, customer, "bo")
    agent = bo.create("Desk", configuration())
    alias(bo, "desk", agent.agent_id)
    assert use(customer, bo, "agent:desk") is None
    CIRCUMSTANCES[circumstance](customer)
    place.holds.held |= {agent.agent_id} if held else set()

    deleted = delete(bo, agent.agent_id)

    pending = agent_service_pb2.DeleteAgentResponse.ERASURE_PENDING
    erased = agent_service_pb2.DeleteAgentResponse.ERASURE_ERASED
    assert deleted.erasure == (pending if held else erased)
    assert agent.agent_id in place.holds.asked
    for member in (bo, admin_of(customer)):
        assert outcome(use(customer, member, agent.agent_id)) == GONE
        assert outcome(use(customer, member, "agent:desk")) == GONE
        assert_unreadable(member, agent.agent_id)
    lawyer = Member("", "", place.made.operator)
    for ids in ({}, {"case_reference": "case 7"}):
        request = agent_service_pb2.GetAgentVersionRequest(
            organization_id=customer.organization_id, agent_id=agent.agent_id, **ids
        )
        refused = refusal(partial(lawyer.connection.ask, lawyer.agents.GetAgentVersion, request))
        assert outcome(refused) in {GONE, "INVALID_ARGUMENT CASE_REFERENCE_MISSING"}
    assert sealed(place.suite, agent.agent_id) == int(held)


def test_what_a_hold_kept_is_erased_once_it_is_released(place: Place, customer: Customer) -> None:
    bo = joined(place.made, customer, "bo")
    agent = bo.create("Desk", configuration())
    place.holds.held.add(agent.agent_id)
    assert delete(bo, agent.agent_id).erasure == agent_service_pb2.DeleteAgentResponse.ERASURE_PENDING
    assert sealed(place.suite, agent.agent_id) == 1

    place.holds.held.discard(agent.agent_id)

    until(lambda: sealed(place.suite, agent.agent_id) == 0)


def until(is_so: Callable[[], bool]) -> None:
    """Waits for what a service does by and by."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so() and time.monotonic() < end:
        time.sleep(0.2)
    assert is_so()


def assert_unreadable(member: Member, agent_id: str) -> None:
    """Every way to read an agent answers that there is none."""
    stub, ask = member.agents, member.connection.ask
    ways = [
        partial(member.get, agent_id),
        partial(member.version, agent_id, 1),
        partial(ask, stub.ListAgentVersions, agent_service_pb2.ListAgentVersionsRequest(agent_id=agent_id)),
        partial(ask, stub.ExportAgent, agent_service_pb2.ExportAgentRequest(agent_id=agent_id)),
        partial(ask, stub.ListAliases, agent_service_pb2.ListAliasesRequest(agent_id=agent_id)),
        partial(delete, member, agent_id),
    ]
    assert [outcome(refusal(way)) for way in ways] == [GONE] * len(ways)
    assert agent_id not in listed(member)


def sealed(suite: Suite, agent_id: str) -> int:
    """How many versions of an agent the store still holds something of."""
    query = "SELECT version FROM agent_versions WHERE agent_id = ? AND sealed IS NOT NULL"
    return len(stored(suite, query, agent_id))


def stored(suite: Suite, query: str, about: str) -> list[object]:
    """What stands in the store of agents, the first column."""
    with closing(sqlite3.connect(suite.folder / "agents.sqlite", timeout=10)) as store:
        return [row[0] for row in store.execute(query, (about,))]


def test_a_plan_without_sharing_narrows_and_an_upgrade_restores_what_is_stored(place: Place) -> None:
    """Case 34."""
    customer = place.made.new(PLAN_WITHOUT_SHARING)
    bo, cy, admin = (
        joined(place.made, customer, "bo"),
        joined(place.made, customer, "cy"),
        admin_of(customer),
    )
    agent = bo.create("Desk", configuration())
    for plan, shared, channels in (
        (PLAN_WITHOUT_SHARING, False, {API}),
        (PAID, True, {API, CHAT}),
        (PLAN_WITHOUT_SHARING, False, {API}),
        (FREE, True, {API}),
        (PAID, True, {API, CHAT}),
    ):
        customer.change_plan(plan)
        now = bo.get(agent.agent_id)
        assert now.sharing_mode == agent_pb2.SHARING_MODE_WORKSPACE
        assert set(now.channels) == {API, CHAT}
        effective = agent_pb2.SHARING_MODE_WORKSPACE if shared else agent_pb2.SHARING_MODE_RESTRICTED
        assert now.effective_sharing_mode == effective
        assert set(now.effective_channels) == channels
        assert use(customer, bo, agent.agent_id) is None
        assert use(customer, admin, agent.agent_id) is None
        assert outcome(use(customer, cy, agent.agent_id)) == ("admitted" if shared else GONE)
        assert (agent.agent_id in listed(cy)) is shared


def test_what_a_plan_takes_and_gives_back_is_told_to_whoever_follows(place: Place) -> None:
    customer = place.made.new(PAID)
    joined(place.made, customer, "bo").create("Desk", configuration())
    query = "SELECT kind FROM events WHERE organization_id = ? AND kind LIKE 'agents.%' ORDER BY number"
    expected: list[object] = []
    for plan, kind in ((PLAN_WITHOUT_SHARING, "agents.narrowed"), (PAID, "agents.restored")):
        customer.change_plan(plan)
        expected.append(kind)
        until(lambda: stored(place.suite, query, customer.organization_id) == expected)
