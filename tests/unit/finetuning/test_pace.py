"""A stream of bytes that stands still is ended, and one that only waits for us is not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from perron.chassis.errors import DeadlineExceeded, InvalidArgument
from perron.finetuning.pace import let_out, paced


@dataclass
class Message:
    chunk: bytes = b""


class Waiting:
    """The event loop's time as a sender lets it pass: `seconds` before each message."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now, raising=False)

    async def messages(self, *sizes: int, seconds: float) -> AsyncIterator[Message]:
        for size in sizes:
            self.now += seconds
            yield Message(bytes(size))


async def taken(messages: AsyncIterator[Any]) -> int:
    return sum([len(message.chunk) async for message in messages])


async def test_a_sender_that_brings_enough_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    sent = waiting.messages(*[30_000] * 12, seconds=20)
    assert await taken(paced(sent)) == 360_000


async def test_a_byte_now_and_then_is_not_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    sent = waiting.messages(*[1] * 12, seconds=20)
    with pytest.raises(DeadlineExceeded):
        await taken(paced(sent))
    assert waiting.now == 80


async def test_our_own_slowness_is_not_the_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    async for _ in paced(waiting.messages(1, 1, 1, 1, seconds=1)):
        waiting.now += 100


async def test_silence_ends_a_stream() -> None:
    never = asyncio.Event()

    async def silent() -> AsyncIterator[Message]:
        yield Message(b"x" * 100)
        await never.wait()

    with pytest.raises(DeadlineExceeded):
        await taken(paced(silent(), seconds=0.01))


async def test_a_refused_sender_is_heard_out_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    async def endless() -> AsyncIterator[Message]:
        while True:
            sent.append(1)
            yield Message(bytes(1 << 20))

    await let_out(endless())
    assert len(sent) == 33

    async def broken() -> AsyncIterator[Message]:
        yield Message()
        raise InvalidArgument("FIELD_INVALID", "broken")

    await let_out(broken())
