"""Chats small enough to be learned in a second, and what it takes to train on them."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perron.trainer import child
from perron.trainer.model import Event, Hyperparameters, Lora, Task

WARNINGS = "ignore::FutureWarning"  # transformers warns of its own next version

QUICK = Hyperparameters(
    lora=Lora(rank=4, alpha=8, dropout=0.1),
    epochs=2,
    batch_size=4,
    accumulation_steps=2,
    length_max=256,
    packing=True,
    learning_rate=5e-3,
    warmup_ratio=0.1,
)


def chat(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def sums(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        chat(f"What is {(7 * i + start) % 50} plus {i % 40}?", f"It is {(7 * i + start) % 50 + i % 40}.")
        for i in range(count)
    ]


def lines(chats: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in chats).encode()


def written(path: Path, chats: Iterable[dict[str, Any]]) -> str:
    path.write_bytes(lines(chats))
    return str(path)


def task(
    base: Path, folder: Path, asked: Hyperparameters = QUICK, *, resume: str = "", count: int = 64
) -> Task:
    folder.mkdir(exist_ok=True)
    return Task(
        base_folder=str(base),
        base_name="tiny",
        training_files=(written(folder / "training.jsonl", sums(count)),),
        validation_files=(written(folder / "validation.jsonl", sums(12, start=3)),),
        output_folder=str(folder / "output"),
        hyperparameters=asked,
        resume_folder=resume,
        device="cpu",
    )


def trained(told: Task) -> list[Event]:
    """Trains in this process, as a child would."""
    events: list[Event] = []
    child.train(told, "refused", events.append)
    return events


def only(events: Iterable[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
