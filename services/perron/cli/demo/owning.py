"""Steps 4 to 7 of the chapter on fine-tuning: the model serves its owner, becomes an agent, and is erased."""

from functools import partial
from pathlib import Path

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, workspace_pb2, workspace_pb2_grpc
from perron.cli import decisions, output
from perron.cli.connection import RefusedError
from perron.cli.demo import learning, tuning_rows
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.demo.stage import Stage
from perron.cli.demo.workshop import BASE, Files, Workshop, awaited
from perron.cli.samples import Exchange

_ASKED = Exchange("json.dumps", "What does json.dumps do in Python?", "It serializes an object to JSON.")
_FREE = "free"
_ID_LENGTH = 26


def use(stage: Stage, workshop: Workshop, model: model_pb2.Model) -> None:
    """The owner is admitted; a neighbour in the same organization learns nothing."""
    stage.step(4, "It serves its owner, and nobody else")
    customer = workshop.customer
    admitted = [customer.admit(_ASKED, model=name) for name in (model.name, model.model_id)]
    stage.find(*tuning_rows.USABLE, ok=all(one.effective_model == model.name for one in admitted))
    secret = _neighbour(customer)
    made_up = _made_up(model)
    with stage.connect(secret, "the neighbour") as neighbour:
        real, unreal = (
            [
                refusal(partial(customer.admit, _ASKED, secret, model=one.name)),
                refusal(partial(customer.admit, _ASKED, secret, model=one.model_id)),
                refusal(partial(workshop.model, one.model_id, neighbour)),
            ]
            for one in (model, made_up)
        )
    stage.find(
        *tuning_rows.HIDDEN,
        ok=[_told(one) for one in real] == [_told(one) for one in unreal]
        and all(one is not None and one.error.code == "NOT_FOUND" for one in real),
    )


def become_agent(stage: Stage, workshop: Workshop, job: job_pb2.Job, model: model_pb2.Model) -> str:
    """Waits for the agent that the job promised, and asks it; returns its id."""
    stage.step(5, "It becomes an agent")
    customer = workshop.customer
    done = awaited(partial(workshop.job, job.job_id), lambda found: bool(found.agent_id))
    stub = customer.admin.stub(agent_service_pb2_grpc.AgentServiceStub)
    request = agent_service_pb2.GetAgentRequest(agent_id=done.agent_id)
    agent = customer.admin.ask(stub.GetAgent, request).agent
    source = agent_pb2.AgentSource(
        kind=agent_pb2.AgentSource.KIND_FINE_TUNING_JOB, model_id=model.model_id, job_id=job.job_id
    )
    admitted = customer.admit(_ASKED, model=agent.agent_id)
    stage.find(
        *tuning_rows.AGENT,
        ok=agent.display_name == learning.AGENT_NAME
        and agent.source == source
        and agent.owner_member_id == job.member_id
        and admitted.agent.agent_id == agent.agent_id
        and admitted.effective_model == model.name,
    )
    return agent.agent_id


def downgrade(stage: Stage, workshop: Workshop, files: Files, model: model_pb2.Model, agent_id: str) -> None:
    """Puts the organization on the free plan, where what other models answer is eligible for training."""
    stage.step(6, "The same exchange on the free plan, with the base model and with this one")
    customer = workshop.customer
    customer.change_plan(_FREE)
    job = refusal(partial(workshop.create_job, learning.asked(files)))
    of_base, of_model, of_agent = (
        customer.admit(_ASKED, model=name) for name in (BASE, model.name, agent_id)
    )
    stage.find(
        *tuning_rows.DOWNGRADED,
        ok=job is not None
        and job.error.reason == "ENTITLEMENT_MISSING"
        and of_model.effective_model == of_agent.effective_model == model.name,
    )
    decision_id = of_model.decision.decision_id
    stage.tell(decisions.words(decisions.explain_decision(customer.admin, decision_id)))
    kept = [customer.complete(_ASKED, one).record_id for one in (of_base, of_model, of_agent)]
    eligible = {one.record_id: one.training_eligible for one in customer.records()}
    stage.find(
        *tuning_rows.UNTRAINED,
        ok=of_base.decision.training_eligible
        and all(is_of_a_model(one.decision) for one in (of_model, of_agent))
        and [eligible.get(record_id) for record_id in kept] == [True, False, False],
    )


def delete(stage: Stage, workshop: Workshop, model: model_pb2.Model, agent_id: str) -> None:
    """Deletes the model; what becomes of its weights is awaited."""
    stage.step(7, "It is deleted")
    customer = workshop.customer
    before = _stored(stage.suite.folder, model)
    answered = workshop.delete(model.model_id)
    gone = [
        refusal(partial(customer.admit, _ASKED, model=one)) for one in (model.name, model.model_id, agent_id)
    ]
    stage.find(
        *tuning_rows.DELETED,
        ok=all(one is not None and one.error.reason == "MODEL_DELETED" for one in gone),
    )
    erased = awaited(
        lambda: workshop.model(model.model_id).erasure,
        lambda erasure: erasure.state == model_pb2.Erasure.STATE_ERASED,
    )
    stage.tell(f"  {_state(answered)} when it was deleted, {_state(erased)} now")
    stage.find(
        *tuning_rows.ERASED,
        ok=erased.state == model_pb2.Erasure.STATE_ERASED
        and bool(erased.time.seconds)
        and before == len(model.artifacts) > 0
        and not _stored(stage.suite.folder, model),
    )


def is_of_a_model(decision: decision_pb2.Decision) -> bool:
    """Whether a decision on the free plan is that of an exchange through a fine-tuned model."""
    return (
        decision.terms_class == roles_pb2.TERMS_CLASS_FREE
        and not decision.training_eligible
        and decision_pb2.PURPOSE_IMPROVE_SERVICES not in purposes(decision)
        and any(
            (one.clause, one.reason) == ("1.2-conf", decision_pb2.CLAUSE_REASON_FINE_TUNED_MODEL)
            for one in decision.clauses
        )
    )


def _neighbour(customer: Customer) -> str:
    """The secret of a key of another workspace of the same organization."""
    admin = customer.admin
    other = admin.ask(
        admin.stub(workspace_pb2_grpc.WorkspaceServiceStub).CreateWorkspace,
        workspace_pb2.CreateWorkspaceRequest(display_name="next door"),
    ).workspace
    request = api_key_pb2.CreateApiKeyRequest(
        display_name="next door",
        workspace_id=other.workspace_id,
        scopes=[roles_pb2.SCOPE_INFERENCE, roles_pb2.SCOPE_FINE_TUNING_READ],
    )
    return admin.ask(admin.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreateApiKey, request).secret


def _made_up(model: model_pb2.Model) -> model_pb2.Model:
    """A model that looks like another and was never there."""
    place, _, last = model.name.rpartition(":")
    return model_pb2.Model(name=f"{place}:{len(last) * '0'}", model_id="mdl_" + _ID_LENGTH * "0")


def _told(refused: RefusedError | None) -> object:
    return refused and output.error_fields(refused.error)


def _stored(folder: Path, model: model_pb2.Model) -> int:
    """How many files of a model storage has objects of."""
    blobs = folder / "storage" / "blobs"
    return sum(any((blobs / artifact.blob_id).glob("*")) for artifact in model.artifacts)


def _state(erasure: model_pb2.Erasure) -> str:
    return output.enum_word(model_pb2.Erasure.State.DESCRIPTOR, erasure.state)
