"""Versions, aliases and restoring behave like lists and a dictionary, whatever is done in whatever order."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc, configuration_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.chassis.status import from_status
from perron.cli.connection import Connection
from perron.cli.demo.customer import Customer, refusal
from perron.cli.demo.team import Member
from perron.cli.suite import Suite
from tests import scale
from tests.suite.builders import alias, configuration, delete, joined
from tests.suite.customers import Customers, customers

NAMES = ("a1", "a2", "a3", "a4")
TEXTS = st.text("abc \n", min_size=1, max_size=12)
ANY = st.integers(0, 10_000)
"""Picks something out of what there is, by its place modulo their number."""


@dataclass(slots=True)
class Kept:
    """What an agent should be: its configurations by version, and every etag that it had."""

    configurations: list[configuration_pb2.AgentConfiguration]
    restored: list[int]
    etags: list[str] = field(default_factory=list)


class Agents(RuleBasedStateMachine):
    """Does to a workspace and to a model of it the same things, and compares."""

    made: Customers
    admission: Connection

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Kept] = {}
        self.aliases: dict[str, tuple[str, int]] = {}
        self.gone: list[str] = []
        self.numbers = 0

    @initialize()
    def arrive(self) -> None:
        self.customer: Customer = self.made.new()
        self.bo: Member = joined(self.made, self.customer, "bo")

    def agent(self, pick: int) -> str:
        return sorted(self.kept)[pick % len(self.kept)]

    def noted(self, agent: agent_pb2.Agent) -> None:
        kept = self.kept[agent.agent_id]
        assert agent.latest_version == len(kept.configurations)
        assert agent.etag not in kept.etags
        kept.etags.append(agent.etag)

    @rule(text=TEXTS)
    def create(self, text: str) -> None:
        self.numbers += 1
        agent = self.bo.create(f"agent {self.numbers}", configuration(text))
        self.kept[agent.agent_id] = Kept([configuration(text)], [0])
        self.noted(agent)

    @precondition(lambda self: self.kept)
    @rule(pick=ANY, text=TEXTS)
    def update(self, pick: int, text: str) -> None:
        agent_id = self.agent(pick)
        kept = self.kept[agent_id]
        agent = self.bo.write(agent_id, configuration(text), kept.etags[-1])
        kept.configurations.append(configuration(text))
        kept.restored.append(0)
        self.noted(agent)

    @precondition(lambda self: any(len(kept.etags) > 1 for kept in self.kept.values()))
    @rule(pick=ANY, text=TEXTS)
    def update_what_is_past(self, pick: int, text: str) -> None:
        agent_id = self.agent(pick)
        for stale in self.kept[agent_id].etags[:-1][-2:]:
            refused = refusal(lambda: self.bo.write(agent_id, configuration(text), stale))  # noqa: B023 (called at once)
            assert refused is not None
            assert (refused.error.code, refused.error.reason) == ("ABORTED", "ETAG_STALE")

    @precondition(lambda self: self.kept)
    @rule(pick=ANY, version=ANY)
    def restore(self, pick: int, version: int) -> None:
        agent_id = self.agent(pick)
        kept = self.kept[agent_id]
        wanted = version % len(kept.configurations) + 1
        request = agent_service_pb2.RestoreAgentVersionRequest(
            agent_id=agent_id, version=wanted, name_attested=True
        )
        agent = self.bo.connection.ask(self.bo.agents.RestoreAgentVersion, request).agent
        kept.configurations.append(kept.configurations[wanted - 1])
        kept.restored.append(wanted)
        self.noted(agent)

    @precondition(lambda self: self.kept)
    @rule(name=st.sampled_from(NAMES), pick=ANY, version=ANY)
    def name(self, name: str, pick: int, version: int) -> None:
        """Makes the alias, or moves it where there is one."""
        agent_id = self.agent(pick)
        wanted = version % (len(self.kept[agent_id].configurations) + 1)
        if name in self.aliases:
            refused = refusal(lambda: alias(self.bo, name, agent_id, wanted))
            assert refused is not None
            assert refused.error.reason == "NAME_TAKEN"
            request = agent_service_pb2.MoveAliasRequest(alias=name, agent_id=agent_id, version=wanted)
            self.bo.connection.ask(self.bo.agents.MoveAlias, request)
        else:
            alias(self.bo, name, agent_id, wanted)
        self.aliases[name] = (agent_id, wanted)

    @precondition(lambda self: self.kept)
    @rule(name=st.sampled_from(NAMES), pick=ANY)
    def name_a_version_that_is_not_there(self, name: str, pick: int) -> None:
        agent_id = self.agent(pick)
        beyond = len(self.kept[agent_id].configurations) + 1
        request = agent_service_pb2.MoveAliasRequest(alias=name, agent_id=agent_id, version=beyond)
        refused = refusal(lambda: self.bo.connection.ask(self.bo.agents.MoveAlias, request))
        assert refused is not None
        assert refused.error.reason == "RESOURCE_NOT_FOUND"

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        request = agent_service_pb2.DeleteAliasRequest(alias=name)
        refused = refusal(lambda: self.bo.connection.ask(self.bo.agents.DeleteAlias, request))
        assert (refused is None) is (self.aliases.pop(name, None) is not None)

    @precondition(lambda self: len(self.kept) > 1)
    @rule(pick=ANY)
    def delete(self, pick: int) -> None:
        agent_id = self.agent(pick)
        delete(self.bo, agent_id)
        del self.kept[agent_id]
        self.gone.append(agent_id)
        self.aliases = {name: to for name, to in self.aliases.items() if to[0] != agent_id}

    @invariant()
    def the_lists_say_what_the_model_says(self) -> None:
        ask, stub = self.bo.connection.ask, self.bo.agents
        agents = ask(stub.ListAgents, agent_service_pb2.ListAgentsRequest()).agents
        assert [agent.agent_id for agent in agents] == list(self.kept)
        found = ask(stub.ListAliases, agent_service_pb2.ListAliasesRequest()).aliases
        assert {one.alias: (one.agent_id, one.version) for one in found} == self.aliases
        assert [one.alias for one in found] == sorted(self.aliases)
        for agent in agents:
            kept = self.kept[agent.agent_id]
            assert (agent.latest_version, agent.etag) == (len(kept.configurations), kept.etags[-1])
            request = agent_service_pb2.ListAgentVersionsRequest(agent_id=agent.agent_id)
            versions = ask(stub.ListAgentVersions, request).versions[::-1]
            assert [one.version for one in versions] == list(range(1, len(kept.configurations) + 1))
            assert [one.restored_version for one in versions] == kept.restored

    @invariant()
    def every_version_reads_as_it_was_written(self) -> None:
        for agent_id, kept in self.kept.items():
            for version, written in enumerate(kept.configurations, 1):
                assert self.bo.version(agent_id, version).configuration == written

    @invariant()
    def resolving_answers_what_an_alias_names_now(self) -> None:
        latest = {one: (one, len(kept.configurations)) for one, kept in self.kept.items()}
        named = {f"agent:{name}": to for name, to in self.aliases.items()}
        expected = latest | {name: (to, version or latest[to][1]) for name, (to, version) in named.items()}
        missing = [*self.gone[-2:], *(f"agent:{name}" for name in NAMES if name not in self.aliases)]
        request = agent_service_pb2.BatchResolveRequest(passports=[self.passport()])
        for agent in (*expected, *missing):
            request.items.add(agent=agent, channel=roles_pb2.CHANNEL_API)
        if not request.items:
            return
        stub = self.admission.stub(agent_service_pb2_grpc.AgentServiceStub)
        results = self.admission.ask(stub.BatchResolve, request).results
        answers = [(one.response.agent_id, one.response.version) for one in results[: len(expected)]]
        assert answers == list(expected.values())
        for one in results:
            if one.response.HasField("configuration"):
                kept = self.kept[one.response.agent_id]
                assert one.response.configuration == kept.configurations[one.response.version - 1]
        assert {from_status(one.error).reason for one in results[len(expected) :]} <= {"RESOURCE_NOT_FOUND"}

    def passport(self) -> str:
        stub = self.admission.stub(api_key_pb2_grpc.ApiKeyServiceStub)
        request = api_key_pb2.VerifyRequest(credential=self.bo.secret, want_passport=True)
        return self.admission.ask(stub.Verify, request).passport


def test_versions_aliases_and_restoring_do_what_a_model_of_them_does(suite: Suite) -> None:
    with customers(suite) as made:
        Agents.made = made
        Agents.admission = made.connect((suite.folder / "keys" / "admission.key").read_text("utf-8").strip())
        examples = scale.times(6, 150)
        run_state_machine_as_test(
            Agents,
            settings=settings(
                max_examples=examples,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    scale.record("versions, aliases and restoring do what a model of them does", runs=examples)
