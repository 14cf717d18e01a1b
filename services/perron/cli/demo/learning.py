"""Steps 1 to 3 of the chapter on fine-tuning: exchanges become files, files an estimate and then a model."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from perron.api.agents.v1 import configuration_pb2
from perron.api.finetuning.v1 import file_pb2, job_pb2, job_service_pb2, model_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.chassis.errors import SetupError
from perron.cli import job_runs, job_views, samples
from perron.cli.demo import gateway, tuning_rows
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.demo.foundation import EXCHANGES
from perron.cli.demo.stage import Stage, listed
from perron.cli.demo.workshop import BASE, Files, Workshop
from perron.cli.job_runs import JobRun, Point
from perron.cli.samples import Exchange

AGENT_NAME = "Library tutor"
_PLAN = "scale-1"
_VALIDATED_EVERY = 10
_JOB_SECONDS_MAX = 300.0
_INSTRUCTIONS = "You explain Python's standard library.\n"


def gather(stage: Stage, workshop: Workshop) -> Files:
    """Records the exchanges, reads them back as their owner, and uploads them as two files."""
    stage.step(1, f"{EXCHANGES} recorded exchanges become a training file and a validation file")
    customer, recorded = workshop.customer, samples.exchanges(EXCHANGES)
    with stage.progress("Admit and Complete", len(recorded)) as advance:
        target, key = stage.suite.endpoints["admission"], stage.suite.gateway_key
        gateway.play(target, key, customer.secret, recorded, advance)
    kept = list(customer.records())
    read = []
    with stage.progress("read back", len(kept)) as advance:
        for record in kept:
            question, answer = customer.read(record.record_id)
            read.append(Exchange(record.record_id, question.decode(), answer.decode()))
            advance()
    read.sort(key=lambda one: one.question)  # so that every demo trains on the same lines in the same order
    stage.find(
        *tuning_rows.RECORDED,
        ok=len(kept) == EXCHANGES
        and all(record.training_eligible for record in kept)
        and {(one.question, one.answer) for one in read} == {(one.question, one.answer) for one in recorded},
    )
    folder = stage.suite.folder / "customer"
    folder.mkdir()
    validation = _write(folder / "validation.jsonl", read[::_VALIDATED_EVERY])
    training = _write(
        folder / "training.jsonl",
        (one for number, one in enumerate(read) if number % _VALIDATED_EVERY),
    )
    return _upload(stage, workshop, training, validation)


def estimate(stage: Stage, workshop: Workshop, files: Files) -> None:
    """Asks what the job would take, and prints it."""
    stage.step(2, "What it would take")
    request = asked(files)
    request.dry_run = True
    job = workshop.create_job(request)
    stage.tell(listed(job_views.estimate(job)))
    found, price = job.estimate, workshop.base().price_micros
    stage.find(
        *tuning_rows.ESTIMATED,
        ok=not job.job_id
        and not workshop.count_jobs()
        and found.tokens == files.training.statistics.tokens * job.hyperparameters.epochs
        and found.steps > 0
        and found.cost_micros == -(-found.tokens * price // 1_000_000) > 0,
    )


def train(stage: Stage, workshop: Workshop, files: Files) -> tuple[job_pb2.Job, model_pb2.Model]:
    """Runs the job, its curves before everybody's eyes, and returns it with the model that it made."""
    stage.step(3, f"An adapter of the base model {BASE} is trained")
    request = asked(files)
    request.agent.display_name, request.agent.name_attested = AGENT_NAME, True
    request.agent.configuration.CopyFrom(configuration_pb2.AgentConfiguration(instructions=_INSTRUCTIONS))
    job, run = workshop.create_job(request), JobRun()
    with (
        stage.connect(workshop.customer.secret, "the admin") as another,
        workshop.bounded(job.job_id, another, _JOB_SECONDS_MAX),
    ):
        job_views.show_live(job_runs.watch(workshop.connection, job.job_id), run, stage.console)
    if run.job.state != job_pb2.Job.STATE_SUCCEEDED:
        raise SetupError(f"there is no model: {job_views.ended(run.job)}")
    stage.find(*tuning_rows.LEARNED, ok=has_learned(run.validation))
    model = workshop.model(run.job.model_id)
    made_of = {(one.sha256, one.validation) for one in model.provenance.files}
    decided = _decision(workshop.customer, model.decision_id)
    stage.tell(f"  {model.name}")
    stage.find(
        *tuning_rows.STAMPED,
        ok=model.provenance.job_id == job.job_id
        and model.provenance.base_model == BASE
        and model.provenance.hyperparameters == run.job.hyperparameters
        and made_of == {(files.training.sha256, False), (files.validation.sha256, True)}
        and decided.data_kind == decision_pb2.DATA_KIND_FINE_TUNED_MODEL
        and not decided.training_eligible,
    )
    return run.job, model


def has_learned(validation: Sequence[Point]) -> bool:
    """Whether the loss on the validation file has fallen by the stated margin since before the first step."""
    if not validation:
        return False
    (first, before), (last, after) = validation[0], validation[-1]
    return first == 0 < last and before - after >= tuning_rows.LOSS_FALL


def asked(files: Files) -> job_service_pb2.CreateJobRequest:
    """The job as it is asked for, without what it is to become."""
    return job_service_pb2.CreateJobRequest(
        base_model=BASE,
        method=job_pb2.TRAINING_METHOD_LORA,
        hyperparameters=job_pb2.Hyperparameters(
            epochs=1,
            batch_size=4,
            learning_rate=5e-3,
            sequence_tokens_max=512,
            packing=True,
            evaluation_steps=8,
            checkpoint_steps=32,
            seed=7,
        ),
        training_file_ids=[files.training.file_id],
        validation_file_ids=[files.validation.file_id],
        suffix="tutor",
    )


def _upload(stage: Stage, workshop: Workshop, training: Path, validation: Path) -> Files:
    customer = workshop.customer
    early = refusal(partial(workshop.upload, training))
    stage.find(*tuning_rows.PLAN, ok=early is not None and early.error.reason == "ENTITLEMENT_MISSING")
    customer.change_plan(_PLAN)
    unattested = refusal(partial(workshop.upload, training, attested=False))
    files = Files(workshop.upload(training), workshop.upload(validation))
    both = (files.training, files.validation)
    for one in both:
        stage.tell(f"  {one.display_name}  {one.statistics.examples} chats, {one.statistics.tokens:,} tokens")
    member_id = _owner(customer)
    stage.find(
        *tuning_rows.ATTESTED,
        ok=unattested is not None
        and [one.field for one in unattested.error.violations] == ["rights_attested"]
        and all(one.state == file_pb2.File.STATE_VALID for one in both)
        and sum(one.statistics.examples for one in both) == EXCHANGES
        and all(one.attestation.member_id == member_id and one.attestation.time.seconds for one in both),
    )
    decisions = [_decision(customer, one.decision_id) for one in both]
    stage.find(
        *tuning_rows.DECIDED,
        ok=all(
            one.data_kind == decision_pb2.DATA_KIND_FINE_TUNING_DATA
            and not one.training_eligible
            and purposes(one) == {decision_pb2.PURPOSE_PROVIDE_SERVICES, decision_pb2.PURPOSE_MONITOR_ABUSE}
            for one in decisions
        ),
    )
    return files


def _write(path: Path, exchanges: Iterable[Exchange]) -> Path:
    lines = [json.dumps(samples.chat(one), ensure_ascii=False) + "\n" for one in exchanges]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


def _owner(customer: Customer) -> str:
    """The member who asks."""
    stub = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    request = api_key_pb2.GetApiKeyRequest(key_id=customer.key_id)
    return customer.admin.ask(stub.GetApiKey, request).key.owner_member_id


def _decision(customer: Customer, decision_id: str) -> decision_pb2.Decision:
    stub = customer.admin.stub(decision_service_pb2_grpc.DecisionServiceStub)
    request = decision_service_pb2.GetDecisionRequest(decision_id=decision_id)
    return customer.admin.ask(stub.GetDecision, request).decision
