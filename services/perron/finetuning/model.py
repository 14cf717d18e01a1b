"""The nouns of finetuning as values. Instants are microseconds since 1970; 0 is never."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from perron.finetuning.job_agent_model import JobAgent


class Method(StrEnum):
    """How weights are changed."""

    LORA = "LORA"
    FULL = "FULL"


class Decay(StrEnum):
    """How the learning rate falls."""

    COSINE = "COSINE"
    LINEAR = "LINEAR"


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    VALIDATING = "VALIDATING"
    VALIDATED = "VALIDATED"
    STARTED = "STARTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED_VALIDATION = "FAILED_VALIDATION"
    FAILED = "FAILED"
    CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"
    CANCELLED = "CANCELLED"


class FailureReason(StrEnum):
    """Why a job ended without a model."""

    NONE = ""
    FILE_GONE = "FILE_GONE"
    RETENTION_ENDED = "RETENTION_ENDED"
    FILES_TOO_SMALL = "FILES_TOO_SMALL"
    BASE_MODEL_MISSING = "BASE_MODEL_MISSING"
    WORKER_LOST = "WORKER_LOST"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DIVERGED = "DIVERGED"
    WEIGHTS_REFUSED = "WEIGHTS_REFUSED"
    TRAINER_FAILED = "TRAINER_FAILED"
    WORKSPACE_ENDED = "WORKSPACE_ENDED"
    WORKER_STOPPED = "WORKER_STOPPED"


class ArtifactKind(StrEnum):
    """What one file of a model is."""

    WEIGHTS = "WEIGHTS"
    CONFIG = "CONFIG"
    TOKENIZER = "TOKENIZER"
    STATE = "STATE"


class MetricSource(StrEnum):
    """On what something was measured."""

    TRAINING = "TRAINING"
    VALIDATION = "VALIDATION"


class ModelState(StrEnum):
    """Where a model stands."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    DELETED = "DELETED"


class ErasureState(StrEnum):
    """What became of a deleted model's weights; NONE while it is not deleted."""

    NONE = ""
    PENDING = "PENDING"
    DEFERRED = "DEFERRED"
    ERASED = "ERASED"


class Gate(StrEnum):
    """The ways out of a workspace; clause 1.2-conf."""

    DISTRIBUTOR = "DISTRIBUTOR"
    CONSENT = "CONSENT"


class EventKind(StrEnum):
    """What a job's event tells of."""

    STATE = "STATE"
    METRICS = "METRICS"
    CHECKPOINT = "CHECKPOINT"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True)
class Lora:
    """What low-rank adapters look like; no target modules means every linear layer."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How a job trains. 0 for evaluation and checkpoint steps is once an epoch, for early stop never."""

    epochs: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    decay: Decay
    warmup_ratio: float
    gradient_norm_max: float
    weight_decay: float
    sequence_tokens_max: int
    packing: bool
    seed: int
    evaluation_steps: int
    checkpoint_steps: int
    early_stop_evaluations: int
    lora: Lora | None


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model of the operator's list; `price_micros` is for a million trained tokens."""

    name: str
    trainable: bool
    revision: str
    methods: tuple[Method, ...]
    sequence_tokens_max: int
    tokens_per_second: float
    price_micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is expected to take; no seconds where no rate is known."""

    tokens: int
    steps: int
    seconds: float
    cost_micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """A file as a job needs it."""

    file_id: str
    blob_id: str
    valid: bool
    bytes: int
    sha256: str
    examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job, as it was when the job was created."""

    file_id: str
    blob_id: str
    validation: bool
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobWarning:
    """Something a caller should know: how many lines stand in training and validation files both."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is."""

    step: int = 0
    steps: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured at one step."""

    source: MetricSource
    step: int
    loss: float
    token_accuracy: float
    learning_rate: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one worker to a job; whoever names an older token is refused."""

    lease_id: str = ""
    fencing_token: int = 0
    worker: str = ""
    expire_us: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A fine-tuning job. `events` is the number of its last event, `decision_id` how its models are kept."""

    job_id: str
    organization_id: str
    workspace_id: str
    member_id: str
    state: JobState
    base_model: str
    base_model_revision: str
    method: Method
    hyperparameters: Hyperparameters
    suffix: str
    auto_start: bool
    estimate: Estimate
    files: tuple[JobFile, ...] = ()
    warnings: tuple[JobWarning, ...] = ()
    progress: Progress = field(default_factory=Progress)
    failure_reason: FailureReason = FailureReason.NONE
    failure_text: str = ""
    model_id: str = ""
    agent: JobAgent | None = None
    decision_id: str = ""
    attempts: int = 0
    lease: Lease = field(default_factory=Lease)
    events: int = 0
    create_us: int = 0
    start_us: int = 0
    end_us: int = 0


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One thing that happened to a job; `body` is what its kind says, in plain values."""

    number: int
    kind: EventKind
    body: Mapping[str, object]
    create_us: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a model; without a model while nothing has claimed it."""

    blob_id: str
    job_id: str
    model_id: str
    kind: ArtifactKind
    name: str
    bytes: int
    sha256: str
    create_us: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a model was trained on, as it was."""

    file_id: str
    sha256: str
    validation: bool


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from, beside its job, checkpoint, step and base."""

    base_model_revision: str
    method: Method
    hyperparameters: Hyperparameters
    files: tuple[SourceFile, ...]
    metrics: tuple[Metrics, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A fine-tuned model; with a checkpoint_id it is a checkpoint of its job."""

    model_id: str
    name: str
    organization_id: str
    workspace_id: str
    display_name: str
    state: ModelState
    job_id: str
    checkpoint_id: str
    step: int
    base_model: str
    provenance: Provenance
    decision_id: str
    erasure: ErasureState
    erasure_us: int
    create_us: int
    version: int
    artifacts: tuple[Artifact, ...] = ()
    holdings: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name means."""

    model_id: str
    name: str
    base_model: str


@dataclass(frozen=True, slots=True)
class Holding:
    """That somebody of the owner's workspace holds a copy of the weights."""

    holding_id: str
    model_id: str
    workspace_id: str
    member_id: str
    expire_us: int
    release_us: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A disclosure of a model beyond its workspace."""

    transfer_id: str
    organization_id: str
    workspace_id: str
    model_id: str
    gate: Gate
    party: str
    purpose: str
    member_id: str
    create_us: int
    expire_us: int
    revoke_us: int
    last_download_us: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a worker can train; `worker` is its name, for people."""

    worker: str
    methods: Sequence[Method]
    base_models: Sequence[str]
