"""What a job asks for and what a child process says of it: plain values, without torch and without wire."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Method(StrEnum):
    """How weights are changed: a low-rank adapter beside the base, or every weight of it."""

    LORA = "LORA"
    FULL = "FULL"


class Decay(StrEnum):
    """How the learning rate falls to zero after the warm-up."""

    COSINE = "COSINE"
    LINEAR = "LINEAR"


class Reason(StrEnum):
    """Why a job cannot be trained. None of them quotes what the files hold."""

    BASE_MODEL_MISSING = "BASE_MODEL_MISSING"
    CHAT_TEMPLATE_UNFIT = "CHAT_TEMPLATE_UNFIT"
    NOTHING_TO_LEARN = "NOTHING_TO_LEARN"
    TARGET_MODULES_UNKNOWN = "TARGET_MODULES_UNKNOWN"
    CHECKPOINT_UNFIT = "CHECKPOINT_UNFIT"
    LOSS_NOT_FINITE = "LOSS_NOT_FINITE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    WEIGHTS_REFUSED = "WEIGHTS_REFUSED"
    INPUT_CORRUPT = "INPUT_CORRUPT"
    TRAINER_DIED = "TRAINER_DIED"
    WORKER_STOPPED = "WORKER_STOPPED"
    TRAINER_DEFECT = "TRAINER_DEFECT"


RETRIABLE = frozenset({Reason.INPUT_CORRUPT, Reason.TRAINER_DIED, Reason.WORKER_STOPPED})
"""What another attempt may cure; everything else ends the same way every time."""


class TrainingFailedError(Exception):
    """A job that cannot be trained; `reason` says why, and the text is for people who run the trainer."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Lora:
    """The shape of an adapter; no target modules means every linear layer but the last."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What a job asks for, complete: whoever makes one has put in the defaults.

    A step is one update of the weights: `accumulation_steps` batches of `batch_size` rows of at most
    `length_max` tokens (0: what the base takes). Where `evaluation_steps` or `checkpoint_steps` is 0, once in
    an epoch is meant; 0 for `gradient_norm_max` is no clipping, for `patience_evaluations` no early stop.
    """

    method: Method = Method.LORA
    lora: Lora = Lora()
    seed: int = 0
    epochs: int = 3
    batch_size: int = 8
    accumulation_steps: int = 1
    length_max: int = 0
    packing: bool = False
    learning_rate: float = 2e-4
    decay: Decay = Decay.COSINE
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    gradient_norm_max: float = 1.0
    evaluation_steps: int = 0
    checkpoint_steps: int = 0
    patience_evaluations: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What a child process is told: folders and files of the scratch folder, nothing of who owns them."""

    base_folder: str
    base_name: str
    training_files: tuple[str, ...]
    validation_files: tuple[str, ...]
    output_folder: str
    hyperparameters: Hyperparameters
    resume_folder: str = ""
    device: str = "auto"
    threads: int = 0


class Started(msgspec.Struct, frozen=True, tag=True):
    """The child has read everything; how it runs, and how much there is to do."""

    device: str
    precision: str
    network: str
    steps: int
    steps_done: int
    tokens_done: int
    examples: int
    examples_skipped: int
    examples_cut: int
    tokens_per_epoch: int
    parameters: int
    parameters_trained: int


class Stepped(msgspec.Struct, frozen=True, tag=True):
    """One update of the weights. `tokens` counts all that were read, `loss` is per trained token."""

    step: int
    loss: float
    token_accuracy: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    tokens_per_second: float


class Evaluated(msgspec.Struct, frozen=True, tag=True):
    """The validation files, seen with the weights after `step` steps; 0 is the base."""

    step: int
    loss: float
    token_accuracy: float
    tokens: int


class Saved(msgspec.Struct, frozen=True, tag=True):
    """A checkpoint lies whole in `checkpoint_folder`; it is the reader's from now on, to send and remove."""

    step: int


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The weights lie whole in MODEL_FOLDER."""

    step: int
    tokens: int
    stopped_early: bool


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The child gave up; `frames` are places in code, never values."""

    reason: Reason
    message: str
    frames: tuple[str, ...] = ()


MODEL_FOLDER = "model"
"""Where in the output folder a child leaves what it made."""

STATE = "state.safetensors"
"""The file of a checkpoint that a run goes on from."""


def checkpoint_folder(step: int) -> str:
    """Returns where in the output folder a child leaves the checkpoint of a step."""
    return f"checkpoint-{step}"


Event = Started | Stepped | Evaluated | Saved | Finished | Failed
