"""The contract's messages to what a child is told, and what a child says to the contract's messages."""

from typing import Final

from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.api.finetuning.v1.worker_service_pb2 import ReportResponse
from perron.trainer.model import STATE, Decay, Evaluated, Hyperparameters, Lora, Method, Reason, Stepped

METHODS: Final = {
    job_pb2.TRAINING_METHOD_LORA: Method.LORA,
    job_pb2.TRAINING_METHOD_FULL: Method.FULL,
}

FAILURES: Final = {
    Reason.BASE_MODEL_MISSING: job_pb2.JobFailure.REASON_BASE_MODEL_MISSING,
    Reason.NOTHING_TO_LEARN: job_pb2.JobFailure.REASON_FILES_TOO_SMALL,
    Reason.LOSS_NOT_FINITE: job_pb2.JobFailure.REASON_DIVERGED,
    Reason.OUT_OF_MEMORY: job_pb2.JobFailure.REASON_OUT_OF_MEMORY,
    Reason.WEIGHTS_REFUSED: job_pb2.JobFailure.REASON_WEIGHTS_REFUSED,
    Reason.WORKER_STOPPED: job_pb2.JobFailure.REASON_WORKER_STOPPED,
}
"""How the contract names a reason; what is not here is REASON_TRAINER_FAILED, with a description."""

CANCELS: Final = {
    ReportResponse.CANCEL_REASON_FILE_GONE: job_pb2.JobFailure.REASON_FILE_GONE,
    ReportResponse.CANCEL_REASON_WORKSPACE_ENDED: job_pb2.JobFailure.REASON_WORKSPACE_ENDED,
}
"""Why a job ended that finetuning told to end; what is not here was cancelled by its owner."""

_DECAYS: Final = {
    job_pb2.LEARNING_RATE_DECAY_LINEAR: Decay.LINEAR,
    job_pb2.LEARNING_RATE_DECAY_COSINE: Decay.COSINE,
}
_LOSS_MAX: Final = 1_000_000.0
_RATE_MAX: Final = 1_000_000_000.0


def hyperparameters(
    method: job_pb2.TrainingMethod.ValueType, asked: job_pb2.Hyperparameters
) -> Hyperparameters:
    """Returns what a lease asks for; finetuning has put in its defaults, so 0 means what it means here."""
    lora = asked.lora
    rank = lora.rank or 1
    return Hyperparameters(
        method=METHODS[method],
        lora=Lora(rank, lora.alpha or 2 * rank, lora.dropout, tuple(lora.target_modules)),
        seed=asked.seed,
        epochs=asked.epochs or 1,
        batch_size=asked.batch_size or 1,
        accumulation_steps=asked.gradient_accumulation or 1,
        length_max=asked.sequence_tokens_max,
        packing=asked.packing,
        learning_rate=asked.learning_rate,
        decay=_DECAYS.get(asked.learning_rate_decay, Decay.COSINE),
        warmup_ratio=asked.warmup_ratio,
        weight_decay=asked.weight_decay,
        gradient_norm_max=asked.gradient_norm_max,
        evaluation_steps=asked.evaluation_steps,
        checkpoint_steps=asked.checkpoint_steps,
        patience_evaluations=asked.early_stop_evaluations,
    )


def metrics(event: Stepped | Evaluated) -> job_pb2.Metrics:
    """Returns one measurement, within the contract's bounds."""
    measured = job_pb2.Metrics(
        step=event.step, loss=min(event.loss, _LOSS_MAX), token_accuracy=event.token_accuracy
    )
    if isinstance(event, Stepped):
        measured.source = job_pb2.Metrics.SOURCE_TRAINING
        measured.learning_rate = event.learning_rate
        measured.tokens_per_second = min(event.tokens_per_second, _RATE_MAX)
    else:
        measured.source = job_pb2.Metrics.SOURCE_VALIDATION
    return measured


def artifact_kind(name: str) -> model_pb2.ArtifactKind.ValueType:
    """Returns what a file that the child wrote is, by its name."""
    if name == STATE:
        return model_pb2.ARTIFACT_KIND_STATE
    if name.endswith(".safetensors"):
        return model_pb2.ARTIFACT_KIND_WEIGHTS
    if name.startswith("tokenizer") or name in {"special_tokens_map.json", "chat_template.jinja"}:
        return model_pb2.ARTIFACT_KIND_TOKENIZER
    return model_pb2.ARTIFACT_KIND_CONFIG
