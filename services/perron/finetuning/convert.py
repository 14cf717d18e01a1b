"""Jobs and models as messages, and requests for them as commands."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.api.finetuning.v1 import job_service_pb2 as jobs_pb2
from perron.api.finetuning.v1 import model_service_pb2 as models_pb2
from perron.chassis.errors import PerronError
from perron.chassis.status import to_status
from perron.finetuning.errors import field_invalid
from perron.finetuning.hyperparameters import Wanted
from perron.finetuning.job_agent_model import AgentState, JobAgent, WantedAgent
from perron.finetuning.jobs import CreateCommand
from perron.finetuning.model import (
    Artifact,
    ArtifactKind,
    BaseModel,
    Decay,
    EventKind,
    FailureReason,
    Holding,
    Hyperparameters,
    Job,
    JobEvent,
    JobState,
    Lora,
    Method,
    Metrics,
    MetricSource,
    Model,
    Resolved,
    Transfer,
)
from perron.finetuning.models import downloadable, etag
from perron.finetuning.moves import as_of
from perron.finetuning.worker_leases import validation_loss

_SECOND_US: Final = 1_000_000

METHODS: Final = {one: job_pb2.TrainingMethod.Value(f"TRAINING_METHOD_{one.value}") for one in Method}
METHODS_BACK: Final = {number: one for one, number in METHODS.items()}
STATES: Final = {one: job_pb2.Job.State.Value(f"STATE_{one.value}") for one in JobState}
REASONS: Final = {
    one: job_pb2.JobFailure.Reason.Value(f"REASON_{one.value}") for one in FailureReason if one.value
}
REASONS_BACK: Final = {number: one for one, number in REASONS.items()}
KINDS: Final = {one: model_pb2.ArtifactKind.Value(f"ARTIFACT_KIND_{one.value}") for one in ArtifactKind}
KINDS_BACK: Final = {number: one for one, number in KINDS.items()}
_AGENT_STATES: Final = {one: job_pb2.PromisedAgent.State.Value(f"STATE_{one.value}") for one in AgentState}
_DECAYS: Final = {one: job_pb2.LearningRateDecay.Value(f"LEARNING_RATE_DECAY_{one.value}") for one in Decay}
_DECAYS_BACK: Final = {number: one for one, number in _DECAYS.items()} | {0: Decay.COSINE}
_SOURCES: Final = {one: job_pb2.Metrics.Source.Value(f"SOURCE_{one.value}") for one in MetricSource}
_SOURCES_BACK: Final = {number: one for one, number in _SOURCES.items()}


def time(instant_us: int) -> Timestamp | None:
    """Returns a timestamp; none for 0, which stands for never."""
    if not instant_us:
        return None
    seconds, rest = divmod(instant_us, _SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def duration(seconds: float) -> Duration:
    """Returns a duration."""
    whole, rest = divmod(round(seconds * _SECOND_US), _SECOND_US)
    return Duration(seconds=whole, nanos=rest * 1000)


def microseconds(ttl: Duration, default_us: int) -> int:
    """Returns a duration in microseconds, `default_us` for none."""
    return ttl.ToMicroseconds() or default_us


def create_command(request: jobs_pb2.CreateJobRequest) -> CreateCommand:
    """Reads a job that is wanted. Raises InvalidArgument for an agent with a model of its own."""
    return CreateCommand(
        base_model=request.base_model,
        method=METHODS_BACK.get(request.method, Method.LORA),
        hyperparameters=_wanted(request.hyperparameters),
        training_file_ids=tuple(request.training_file_ids),
        validation_file_ids=tuple(request.validation_file_ids),
        suffix=request.suffix,
        dry_run=request.dry_run,
        auto_start=request.auto_start if request.HasField("auto_start") else True,
        agent=_wanted_agent(request.agent) if request.HasField("agent") else None,
    )


def job(found: Job) -> job_pb2.Job:
    """Returns a job as a message."""
    message = job_pb2.Job(
        job_id=found.job_id,
        organization_id=found.organization_id,
        workspace_id=found.workspace_id,
        member_id=found.member_id,
        state=STATES[found.state],
        base_model=found.base_model,
        method=METHODS[found.method],
        hyperparameters=hyperparameters(found.hyperparameters),
        training_file_ids=[file.file_id for file in found.files if not file.validation],
        validation_file_ids=[file.file_id for file in found.files if file.validation],
        suffix=found.suffix,
        auto_start=found.auto_start,
        estimate=job_pb2.Estimate(
            tokens=found.estimate.tokens,
            steps=found.estimate.steps,
            duration=duration(found.estimate.seconds) if found.estimate.seconds else None,
            cost_micros=found.estimate.cost_micros,
            currency=found.estimate.currency,
        ),
        warnings=[_warning(one.kind, one.count) for one in found.warnings],
        attempts=found.attempts,
        model_id=found.model_id,
        decision_id=found.decision_id,
        create_time=time(found.create_us),
        start_time=time(found.start_us),
        end_time=time(found.end_us),
    )
    if found.progress.steps or found.progress.step:
        progress = found.progress
        message.progress.MergeFrom(
            job_pb2.Progress(step=progress.step, steps=progress.steps, tokens=progress.tokens)
        )
    if found.agent is not None:
        message.agent.CopyFrom(_promised(found.agent))
        message.agent_id = found.agent.agent_id
    if found.failure_reason:
        message.failure.reason = REASONS[found.failure_reason]
        message.failure.description = found.failure_text
    return message


def job_event(found: JobEvent, of: Job) -> job_pb2.JobEvent:
    """Returns what happened to a job as a message."""
    message = job_pb2.JobEvent(number=found.number, create_time=time(found.create_us))
    body: Any = found.body
    match found.kind:
        case EventKind.STATE:
            message.job.CopyFrom(job(as_of(of, found)))
        case EventKind.METRICS:
            message.metrics.CopyFrom(job_pb2.Metrics(**body | {"source": _SOURCES[body["source"]]}))
        case EventKind.CHECKPOINT:
            message.checkpoint.CopyFrom(
                job_pb2.Checkpoint(**body, job_id=of.job_id, create_time=time(found.create_us))
            )
        case EventKind.WARNING:
            message.warning.CopyFrom(_warning(body["kind"], body["count"]))
    return message


def checkpoint(found: Model) -> job_pb2.Checkpoint:
    """Returns a checkpoint as a message."""
    return job_pb2.Checkpoint(
        checkpoint_id=found.checkpoint_id,
        job_id=found.job_id,
        step=found.step,
        model_id=found.model_id,
        validation_loss=validation_loss(found),
        bytes=sum(one.bytes for one in found.artifacts),
        create_time=time(found.create_us),
    )


def metrics(messages: Iterable[job_pb2.Metrics]) -> tuple[Metrics, ...]:
    """Reads what was measured."""
    return tuple(
        Metrics(
            source=_SOURCES_BACK[one.source],
            step=one.step,
            loss=one.loss,
            token_accuracy=one.token_accuracy,
            learning_rate=one.learning_rate,
            tokens_per_second=one.tokens_per_second,
        )
        for one in messages
    )


def hyperparameters(found: Hyperparameters) -> job_pb2.Hyperparameters:
    """Returns how a job trains as a message."""
    message = job_pb2.Hyperparameters(
        epochs=found.epochs,
        batch_size=found.batch_size,
        gradient_accumulation=found.gradient_accumulation,
        learning_rate=found.learning_rate,
        learning_rate_decay=_DECAYS[found.decay],
        warmup_ratio=found.warmup_ratio,
        gradient_norm_max=found.gradient_norm_max,
        weight_decay=found.weight_decay,
        sequence_tokens_max=found.sequence_tokens_max,
        packing=found.packing,
        seed=found.seed,
        evaluation_steps=found.evaluation_steps,
        checkpoint_steps=found.checkpoint_steps,
        early_stop_evaluations=found.early_stop_evaluations,
    )
    if found.lora is not None:
        lora = found.lora
        message.lora.MergeFrom(
            job_pb2.LoraParameters(
                rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, target_modules=lora.target_modules
            )
        )
    return message


def base_model(found: BaseModel) -> model_pb2.BaseModel:
    """Returns a base model as a message."""
    return model_pb2.BaseModel(
        name=found.name,
        trainable=found.trainable,
        sequence_tokens_max=found.sequence_tokens_max,
        methods=[METHODS[method] for method in found.methods] if found.trainable else [],
        price_micros=found.price_micros,
        currency=found.currency,
    )


def artifact(found: Artifact) -> model_pb2.Artifact:
    """Returns one file of a model as a message."""
    return model_pb2.Artifact(
        blob_id=found.blob_id,
        kind=KINDS[found.kind],
        name=found.name,
        bytes=found.bytes,
        sha256=found.sha256,
    )


def model(found: Model) -> model_pb2.Model:
    """Returns a model as a message; a deleted one without its files."""
    message = model_pb2.Model(
        model_id=found.model_id,
        name=found.name,
        organization_id=found.organization_id,
        workspace_id=found.workspace_id,
        display_name=found.display_name,
        state=model_pb2.Model.State.Value(f"STATE_{found.state.value}"),
        provenance=_provenance(found),
        decision_id=found.decision_id,
        create_time=time(found.create_us),
        etag=etag(found),
    )
    if found.erasure:
        message.erasure.CopyFrom(erasure(found))
    else:
        message.artifacts.extend(map(artifact, downloadable(found)))
    return message


def erasure(found: Model) -> model_pb2.Erasure:
    """Returns what became of the weights of a deleted model as a message."""
    return model_pb2.Erasure(
        state=model_pb2.Erasure.State.Value(f"STATE_{found.erasure.value}"),
        time=time(found.erasure_us),
        holdings=found.holdings,
    )


def holding(found: Holding) -> model_pb2.Holding:
    """Returns a holding as a message."""
    return model_pb2.Holding(
        holding_id=found.holding_id, model_id=found.model_id, expire_time=time(found.expire_us)
    )


def transfer(found: Transfer, now_us: int) -> model_pb2.Transfer:
    """Returns a transfer as it stands at an instant as a message."""
    state = "REVOKED" if found.revoke_us else "EXPIRED" if found.expire_us <= now_us else "ACTIVE"
    return model_pb2.Transfer(
        transfer_id=found.transfer_id,
        model_id=found.model_id,
        gate=model_pb2.Transfer.Gate.Value(f"GATE_{found.gate.value}"),
        state=model_pb2.Transfer.State.Value(f"STATE_{state}"),
        party=found.party,
        purpose=found.purpose,
        member_id=found.member_id,
        create_time=time(found.create_us),
        expire_time=time(found.expire_us),
        revoke_time=time(found.revoke_us),
        last_download_time=time(found.last_download_us),
    )


def resolved(found: Resolved) -> models_pb2.ResolveResponse:
    """Returns what a name means as a message."""
    return models_pb2.ResolveResponse(model_id=found.model_id, name=found.name, base_model=found.base_model)


def resolve_result(outcome: Resolved | PerronError) -> models_pb2.ResolveResult:
    """Returns the answer to one item of a batch."""
    if isinstance(outcome, PerronError):
        return models_pb2.ResolveResult(error=to_status(outcome))
    return models_pb2.ResolveResult(response=resolved(outcome))


def _wanted_agent(message: job_pb2.JobAgent) -> WantedAgent:
    if message.configuration.model:
        raise field_invalid(
            "agent.configuration.model", "It is the model that the job makes: leave it empty."
        )
    return WantedAgent(message.display_name, message.name_attested, message.configuration.SerializeToString())


def _promised(found: JobAgent) -> job_pb2.PromisedAgent:
    reason = f"ERROR_REASON_{found.reason or 'UNSPECIFIED'}"
    return job_pb2.PromisedAgent(
        display_name=found.display_name,
        state=_AGENT_STATES[found.state],
        reason=error_reason_pb2.ErrorReason.Value(reason),
        description=found.text,
    )


def _wanted(message: job_pb2.Hyperparameters) -> Wanted:
    lora = message.lora
    return Wanted(
        epochs=message.epochs,
        batch_size=message.batch_size,
        gradient_accumulation=message.gradient_accumulation,
        learning_rate=message.learning_rate,
        decay=_DECAYS_BACK[message.learning_rate_decay],
        warmup_ratio=message.warmup_ratio if message.HasField("warmup_ratio") else None,
        gradient_norm_max=message.gradient_norm_max if message.HasField("gradient_norm_max") else None,
        weight_decay=message.weight_decay,
        sequence_tokens_max=message.sequence_tokens_max,
        packing=message.packing,
        seed=message.seed,
        evaluation_steps=message.evaluation_steps,
        checkpoint_steps=message.checkpoint_steps,
        early_stop_evaluations=message.early_stop_evaluations,
        lora=Lora(lora.rank, lora.alpha, lora.dropout, tuple(lora.target_modules))
        if message.HasField("lora")
        else None,
    )


def _provenance(found: Model) -> model_pb2.Provenance:
    of = found.provenance
    return model_pb2.Provenance(
        job_id=found.job_id,
        checkpoint_id=found.checkpoint_id,
        step=found.step,
        base_model=found.base_model,
        base_model_revision=of.base_model_revision,
        method=METHODS[of.method],
        hyperparameters=hyperparameters(of.hyperparameters),
        files=[
            model_pb2.SourceFile(file_id=file.file_id, sha256=file.sha256, validation=file.validation)
            for file in of.files
        ],
        metrics=[
            job_pb2.Metrics(
                source=_SOURCES[one.source],
                step=one.step,
                loss=one.loss,
                token_accuracy=one.token_accuracy,
                learning_rate=one.learning_rate,
                tokens_per_second=one.tokens_per_second,
            )
            for one in of.metrics
        ],
    )


def _warning(kind: str, count: int) -> job_pb2.JobWarning:
    return job_pb2.JobWarning(kind=job_pb2.JobWarning.Kind.Value(f"KIND_{kind}"), count=count)
