"""Chats as tokens, with the weight of each token in the loss: that of its turn for an assistant's, else 0.

A turn of the assistant is what the chat template adds between the prompt for it and its end, the token that
ends the turn among it: so the model learns to stop, and learns nothing of what others say. Where a turn lies
is found by rendering the chat up to it and beyond it. What a newcomer gets wrong: searching the text for the
template's markers, which a user may write too.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.trainer.model import Reason, TrainingFailedError


@dataclass(frozen=True, slots=True)
class Example:
    """One chat: its tokens, and the weight in the loss of predicting each of them."""

    tokens: array[int]
    weights: array[float]


@dataclass(frozen=True, slots=True)
class Examples:
    """The chats of some files that have something to learn, and how many were cut short or left out."""

    kept: list[Example]
    skipped: int
    cut: int

    @property
    def lengths(self) -> list[int]:
        """The tokens of each example."""
        return [len(example.tokens) for example in self.kept]


def read(paths: Iterable[str], tokenizer: Any, length_max: int) -> Examples:
    """Reads JSONL files; an example beyond `length_max` tokens is cut, one without a trained token left out.

    Raises TrainingFailedError (CHAT_TEMPLATE_UNFIT) where the template cannot tell turns apart.
    """
    kept: list[Example] = []
    skipped = cut = 0
    for chat in _chats(paths):
        whole = example(chat, tokenizer)
        short = Example(whole.tokens[:length_max], whole.weights[:length_max])
        cut += len(short.tokens) < len(whole.tokens)
        if any(short.weights):
            kept.append(short)
        else:
            skipped += 1
    return Examples(kept, skipped, cut)


def example(chat: Mapping[str, Any], tokenizer: Any) -> Example:
    """Turns one chat into tokens and weights."""
    messages = [_for_template(message) for message in chat["messages"]]
    tools = chat.get("tools") or None
    text = _render(tokenizer, messages, tools)
    turns = []
    for index, message in enumerate(chat["messages"]):
        weight = message.get("weight")
        if message["role"] == "assistant" and weight != 0:
            prompt = _render(tokenizer, messages[:index], tools, add_generation_prompt=True)
            until = _render(tokenizer, messages[: index + 1], tools)
            if not (until.startswith(prompt) and text.startswith(until)):
                raise TrainingFailedError(
                    Reason.CHAT_TEMPLATE_UNFIT,
                    "the base model's chat template changes earlier text when a turn is added",
                )
            turns.append((len(prompt), len(until), 1.0 if weight is None else float(weight)))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = array("i", encoded["input_ids"])
    weights = array("f", bytes(4 * len(tokens)))
    remaining = iter(turns)
    turn = next(remaining, None)
    for position, (start, _end) in enumerate(encoded["offset_mapping"]):
        while turn is not None and start >= turn[1]:
            turn = next(remaining, None)
        if turn is None:
            break
        if start >= turn[0] and position:  # nothing predicts the first token
            weights[position] = turn[2]
    return Example(tokens, weights)


def _render(
    tokenizer: Any, messages: list[dict[str, Any]], tools: Any, *, add_generation_prompt: bool = False
) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # noqa: BLE001 (templates raise what they like, quoting what they were given)
        raise TrainingFailedError(
            Reason.CHAT_TEMPLATE_UNFIT,
            f"the base model's chat template refuses a chat ({type(error).__name__})",
        ) from None
    return text


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as templates expect it: content a text, arguments of calls objects, no weight."""
    plain = {key: value for key, value in message.items() if key != "weight" and value is not None}
    plain.setdefault("content", "")
    if "tool_calls" in plain:
        plain["tool_calls"] = [_call(call) for call in plain["tool_calls"]]
    return plain


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    try:
        arguments = json.loads(function["arguments"])
    except (KeyError, TypeError, ValueError):
        return {**call, "function": function}
    if isinstance(arguments, dict):
        function["arguments"] = arguments
    return {**call, "function": function}


def _chats(paths: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for path in paths:
        with Path(path).open("rb") as lines:  # in bytes a line ends at \n and nowhere else
            for line in lines:
                if line.strip():
                    yield json.loads(line)
