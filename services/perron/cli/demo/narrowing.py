"""Steps 3 to 5 of the chapter on agents: restricted, disabled, narrowed by a plan, restored, deleted."""

import uuid
from functools import partial

from perron.api.admission.v1 import admission_service_pb2
from perron.api.agents.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc, configuration_pb2
from perron.api.common.v1 import roles_pb2
from perron.cli.connection import RefusedError
from perron.cli.demo.building import ALIAS, ASKED
from perron.cli.demo.customer import refusal
from perron.cli.demo.stage import Stage
from perron.cli.demo.team import Member, Team

PLAN_WITHOUT_SHARING = "solo"
_PLAN = "scale-1"
_NOBODY = "agt_" + 26 * "0"
_REASON = "It passes itself off as a bank."


def restrict(stage: Stage, team: Team, agent: agent_pb2.Agent) -> None:
    """Restricts the agent to its author, and lets an operator disable it."""
    stage.step(3, "It is restricted, and disabled by an operator")
    author, colleague = team.author, team.colleague
    author.share(agent.agent_id, agent_pb2.SHARING_MODE_RESTRICTED)
    hidden = [_refused(team, colleague, agent.agent_id), refusal(partial(colleague.get, agent.agent_id))]
    unknown = [_refused(team, colleague, _NOBODY), refusal(partial(colleague.get, _NOBODY))]
    stage.find(
        "2-share",
        "restricted to its author: at the next call it does not exist for the colleague, word for word",
        ok=[str(one) for one in hidden] == [str(one) for one in unknown]
        and all(one is not None and one.error.code == "NOT_FOUND" for one in hidden)
        and _refused(team, author, agent.agent_id) is None,
    )
    operator = team.customer.operator
    stub = operator.stub(agent_service_pb2_grpc.AgentServiceStub)
    ids = {"organization_id": agent.organization_id, "agent_id": agent.agent_id}
    reading = agent_service_pb2.GetAgentVersionRequest(
        organization_id=agent.organization_id, agent_id=agent.agent_id
    )
    curious = refusal(lambda: operator.ask(stub.GetAgentVersion, reading))
    stage.find(
        "2-conf",
        "an operator does not read it without the reference of a case",
        ok=curious is not None and curious.error.reason == "CASE_REFERENCE_MISSING",
    )
    operator.ask(
        stub.DisableAgent,
        agent_service_pb2.DisableAgentRequest(request_id=str(uuid.uuid4()), reason=_REASON, **ids),
    )
    disabled = _refused(team, author, agent.agent_id)
    seen = author.get(agent.agent_id)
    operator.ask(stub.EnableAgent, agent_service_pb2.EnableAgentRequest(request_id=str(uuid.uuid4()), **ids))
    stage.find(
        "2-conf",
        "an operator disables it: nobody is admitted, its owner reads why, and enabled again it answers",
        ok=disabled is not None
        and disabled.error.reason == "AGENT_DISABLED"
        and (seen.state, seen.disable_reason) == (agent_pb2.Agent.STATE_DISABLED, _REASON)
        and _refused(team, author, agent.agent_id) is None,
    )


def change_plan(stage: Stage, team: Team, agent: agent_pb2.Agent) -> None:
    """Changes the plan down and up: what is stored stays, and what it gives changes with the plan."""
    stage.step(4, "A plan without sharing narrows it, and an upgrade restores it")
    author, colleague, customer = team.author, team.colleague, team.customer
    author.share(agent.agent_id, agent_pb2.SHARING_MODE_WORKSPACE)
    both = {int(roles_pb2.CHANNEL_API), int(roles_pb2.CHANNEL_CHAT)}
    shown = []
    for plan in (_PLAN, PLAN_WITHOUT_SHARING, _PLAN):
        customer.change_plan(plan)
        now = author.get(agent.agent_id)
        stored = now.sharing_mode == agent_pb2.SHARING_MODE_WORKSPACE and set(now.channels) == both
        by_colleague, by_author = (_refused(team, one, agent.agent_id) for one in (colleague, author))
        shown.append((now, stored, by_colleague, by_author is None))
    wide, narrow, again = shown
    stage.find(
        "2-share",
        f"on {PLAN_WITHOUT_SHARING} its owner alone uses it and chat is gone, while it is stored as it was",
        ok=wide[2] is None
        and set(wide[0].effective_channels) == both
        and narrow[2] is not None
        and narrow[2].error.code == "NOT_FOUND"
        and narrow[0].effective_sharing_mode == agent_pb2.SHARING_MODE_RESTRICTED
        and set(narrow[0].effective_channels) == {roles_pb2.CHANNEL_API}
        and all(stored and owner for _, stored, _, owner in shown),
    )
    stage.find(
        "2-share",
        f"back on {_PLAN} the very next call of the colleague is admitted",
        ok=again[2] is None and again[0] == wide[0],
    )


def end(stage: Stage, team: Team, agent: agent_pb2.Agent) -> None:
    """Deletes the agent."""
    stage.step(5, "It is deleted")
    author = team.author
    request = agent_service_pb2.DeleteAgentRequest(request_id=str(uuid.uuid4()), agent_id=agent.agent_id)
    deleted = author.connection.ask(author.agents.DeleteAgent, request)
    gone = [_refused(team, author, name) for name in (agent.agent_id, f"agent:{ALIAS}")]
    read = refusal(partial(author.version, agent.agent_id, 1))
    free = author.create(agent.display_name, configuration_pb2.AgentConfiguration(model="small-1"))
    stage.find(
        "2-del",
        "deleted: used, read and named no more at the next call, its keys dropped, its name free again",
        ok=deleted.erasure == agent_service_pb2.DeleteAgentResponse.ERASURE_ERASED
        and all(one is not None and one.error.code == "NOT_FOUND" for one in (*gone, read))
        and free.agent_id != agent.agent_id,
    )


def _admit(team: Team, member: Member, agent: str) -> admission_service_pb2.AdmitResponse:
    return team.customer.admit(ASKED, member.secret, model=agent)


def _refused(team: Team, member: Member, agent: str) -> RefusedError | None:
    """What a member's exchange with an agent is refused with; None where it is admitted."""
    return refusal(partial(_admit, team, member, agent))
