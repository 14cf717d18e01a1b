"""Steps 1 and 2 of the chapter on agents: one is written and versioned, and a colleague is answered by it."""

import time
import uuid
from functools import partial

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, configuration_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc
from perron.cli import differences
from perron.cli.demo import search
from perron.cli.demo.customer import purposes, refusal
from perron.cli.demo.stage import Stage
from perron.cli.demo.team import Team
from perron.cli.samples import Exchange

NAME = "Reading desk"
ALIAS = "desk"
ASKED = Exchange("opening hours", "When does the desk open?", "At nine, from Monday to Friday.")

_LOOK_ALIKE = "Re\u0430ding desk"
"""Its third letter is a Cyrillic one."""
_FLUSH_SECONDS = 1.5


def write(stage: Stage, team: Team) -> tuple[agent_pb2.Agent, str]:
    """Makes an agent and its second version; returns it with a text that only its instructions hold."""
    stage.step(1, "An agent is written, versioned and compared")
    marker, author = search.marker(), team.author
    first = configuration_pb2.AgentConfiguration(
        model="small-1", instructions=f"You answer at the help desk.\nNever say {marker}.\n"
    )
    first.examples.add(input="Are you open on Sunday?", output="No.")
    first.completion_arguments.temperature = 0.5
    early = refusal(partial(author.create, NAME, first, attested=False))
    agent = author.create(NAME, first)
    attested = agent.name_attestation
    stage.find(
        "2-create",
        "written in the builder: the server stamps where it comes from, and who owns it",
        ok=agent.source.kind == agent_pb2.AgentSource.KIND_BUILDER
        and agent.owner_member_id == author.member_id
        and agent.latest_version == 1
        and author.version(agent.agent_id, 1).configuration == first,
    )
    look_alike = refusal(partial(author.create, _LOOK_ALIKE, first))
    stage.find(
        "2-name",
        "no name without the member's word for it, kept with who and when; no second one that looks like it",
        ok=early is not None
        and early.error.reason == "NAME_NOT_ATTESTED"
        and attested.member_id == author.member_id
        and bool(attested.attest_time.seconds)
        and look_alike is not None
        and look_alike.error.reason == "NAME_TAKEN",
    )
    second = configuration_pb2.AgentConfiguration()
    second.CopyFrom(first)
    second.instructions = f"You answer at the help desk.\nBe brief.\nNever say {marker}.\n"
    second.completion_arguments.temperature = 0.2
    second.tools.add().function.name = "opening_hours"
    changed = author.write(agent.agent_id, second, agent.etag)
    stale = refusal(partial(author.write, agent.agent_id, first, agent.etag))
    found = differences.changes(first, second)
    stage.tell(differences.drawn(found, "version 1", "version 2"))
    stage.find(
        "2-create",
        f"version 2 differs in {len(found)} things, version 1 reads as it was written, "
        "and who knew only that one is told: ABORTED",
        ok=changed.latest_version == 2
        and author.version(agent.agent_id, 1).configuration == first
        and author.version(agent.agent_id, 2).configuration == second
        and {one.field for one in found}
        == {"instructions", "completion_arguments.temperature", "tools.opening_hours"}
        and stale is not None
        and (stale.error.code, stale.error.reason) == ("ABORTED", "ETAG_STALE"),
    )
    return changed, marker


def answer(stage: Stage, team: Team, agent: agent_pb2.Agent, marker: str) -> None:
    """A colleague is admitted through an alias, and what is kept of it holds nothing of the instructions."""
    stage.step(2, "A colleague asks it, through an alias that moves")
    author, customer = team.author, team.customer
    ask = partial(customer.admit, ASKED, team.colleague.secret, model=f"agent:{ALIAS}")
    author.connection.ask(
        author.agents.CreateAlias,
        agent_service_pb2.CreateAliasRequest(
            request_id=str(uuid.uuid4()), alias=ALIAS, name_attested=True, agent_id=agent.agent_id, version=1
        ),
    )
    before = ask()
    author.connection.ask(
        author.agents.MoveAlias,
        agent_service_pb2.MoveAliasRequest(
            request_id=str(uuid.uuid4()), alias=ALIAS, agent_id=agent.agent_id, version=2
        ),
    )
    admitted = ask()
    stage.tell(f"  agent:{ALIAS} was version {before.agent.version}, and is version {admitted.agent.version}")
    stage.find(
        "2-share",
        "shared with the workspace by default; the gateway gets the version that the alias names, whole",
        ok=agent.sharing_mode == agent.effective_sharing_mode == agent_pb2.SHARING_MODE_WORKSPACE
        and (before.agent.agent_id, before.agent.version) == (agent.agent_id, 1)
        and (admitted.agent.agent_id, admitted.agent.version) == (agent.agent_id, 2)
        and before.agent.configuration == author.version(agent.agent_id, 1).configuration
        and admitted.agent.configuration == author.version(agent.agent_id, 2).configuration
        and admitted.effective_model == "small-1",
    )
    completed = customer.complete(ASKED, admitted)
    record = next((one for one in customer.records() if one.record_id == completed.record_id), None)
    stage.find(
        "2-conf",
        "the record of the exchange names the agent and its version, and holds question and answer alone",
        ok=record is not None
        and (record.agent_id, record.agent_version) == (agent.agent_id, 2)
        and record.training_eligible
        and customer.read(record.record_id) == (ASKED.question.encode(), ASKED.answer.encode()),
    )
    decision = _decision(team, author.version(agent.agent_id, 2).decision_id)
    stage.find(
        "2-conf",
        "the configuration itself is kept to provide it and for nothing else, on a free plan too",
        ok=decision.data_kind == decision_pb2.DATA_KIND_AGENT
        and decision.terms_class == roles_pb2.TERMS_CLASS_FREE
        and not decision.training_eligible
        and purposes(decision) == {decision_pb2.PURPOSE_PROVIDE_SERVICES},
    )
    _search(stage, marker)


def _decision(team: Team, decision_id: str) -> decision_pb2.Decision:
    admin = team.customer.admin
    request = decision_service_pb2.GetDecisionRequest(decision_id=decision_id)
    stub = admin.stub(decision_service_pb2_grpc.DecisionServiceStub)
    return admin.ask(stub.GetDecision, request).decision


def _search(stage: Stage, marker: str) -> None:
    """Looks for the instructions in every file, now and after the end of the suite."""
    folder = stage.suite.folder
    time.sleep(_FLUSH_SECONDS)  # what was still in a buffer is in a file by then
    running = search.find(folder, marker)
    planted = search.plant(folder, marker)
    able = {finding.path for finding in search.find(folder, marker)} == set(planted)
    for path in planted:
        path.unlink()

    def once_stopped() -> None:
        stage.find(
            "2-conf",
            "no byte of the instructions stands in any file of the suite, neither running nor ended",
            ok=able and not running and not search.find(folder, marker),
        )

    stage.after_stop(once_stopped)
