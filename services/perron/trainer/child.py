"""The process that trains one job: it is told a task, says how it goes, and ends.

It reads the task as one line of JSON on its standard input and writes an event a line to its standard
output. When its standard input ends, the worker is gone, and so is the child, at once. It says where in the
code something went wrong, never what an exception said: that may quote what the files hold.
"""

import dataclasses
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from perron.trainer import confinement
from perron.trainer.model import Event, Failed, Reason, Started, Task, TrainingFailedError

_FRAMES_MAX: Final = 12
_NICENESS: Final = 10  # services on the same machine come first


def main() -> None:
    """Runs the task that comes on standard input."""
    network = confinement.leave_network()
    os.nice(_NICENESS)
    events = _own_output()

    def report(event: Event) -> None:
        events.write(msgspec.json.encode(event) + b"\n")
        events.flush()

    try:
        _load_libraries()  # while the worker still fetches the inputs
        line = sys.stdin.buffer.readline()
        if not line:
            return
        threading.Thread(target=_end_with_worker, daemon=True).start()
        train(msgspec.json.decode(line, type=Task), network, report)
    except TrainingFailedError as failed:
        report(Failed(failed.reason, failed.message))
    except Exception as error:  # noqa: BLE001 (whatever it is, the worker must be told)
        report(_failed(error))


def train(task: Task, network_access: str, report: Callable[[Event], None]) -> None:
    """Trains one task from its files to its weights."""
    import torch

    from perron.trainer import chats, networks
    from perron.trainer.plan import plan
    from perron.trainer.training import Training

    torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = networks.tokenizer_of(task.base_folder)
    device = _device(task.device)
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    network = networks.Network(task.base_folder, task.base_name, task.hyperparameters, device, bf16=bf16)
    torch.set_num_threads(task.threads or (1 if network.is_tiny else os.cpu_count() or 1))
    length_max = min(task.hyperparameters.length_max or network.length_max, network.length_max)
    asked = dataclasses.replace(task.hyperparameters, length_max=length_max)
    training = chats.read(task.training_files, tokenizer, asked.length_max)
    validation = chats.read(task.validation_files, tokenizer, asked.length_max)
    if not training.kept:
        raise TrainingFailedError(Reason.NOTHING_TO_LEARN, "no chat has a turn of the assistant")
    steps = plan(training.lengths, asked)
    run = Training(
        network, asked, steps, training.kept, validation.kept, output=Path(task.output_folder), report=report
    )
    if task.resume_folder:
        run.resume(Path(task.resume_folder))
    report(
        Started(
            device=network.device.type,
            precision=network.precision,
            network=network_access,
            steps=len(steps),
            steps_done=run.standing.step,
            tokens_done=run.standing.tokens,
            examples=len(training.kept),
            examples_skipped=training.skipped,
            examples_cut=training.cut,
            tokens_per_epoch=sum(training.lengths),
            parameters=network.parameters,
            parameters_trained=network.parameters_trained,
        )
    )
    report(run.run())


def _device(wanted: str) -> Any:
    import torch

    return torch.device(wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def _load_libraries() -> None:
    from transformers.utils import logging

    from perron.trainer import training  # noqa: F401 (brings torch, transformers and peft)

    logging.disable_progress_bar()


def _own_output() -> IO[bytes]:
    """Takes standard output for the events, so that what a library prints cannot come between them."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.close(silence)
    return events


def _end_with_worker() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)  # the main thread may be deep in a library


def _failed(error: Exception) -> Failed:
    frames = tuple(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )[-_FRAMES_MAX:]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failed(Reason.OUT_OF_MEMORY, "the device has too little memory for this job", frames)
    return Failed(Reason.TRAINER_DEFECT, f"the trainer has a defect ({type(error).__name__})", frames)


if __name__ == "__main__":
    main()
