"""Items of a batch method: each is checked and read by itself, the sound ones are submitted together."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import Message

from perron.chassis.batcher import Batcher
from perron.chassis.errors import InvalidArgument, PerronError
from perron.chassis.interceptors.access import Caller
from perron.chassis.interceptors.validation import check
from perron.chassis.passports import Passport

_Item = TypeVar("_Item", bound=Message)
_Command = TypeVar("_Command")
_Result = TypeVar("_Result")


async def submit(
    items: Iterable[_Item], read: Callable[[_Item], _Command], batcher: Batcher[_Command, _Result]
) -> list[_Result | PerronError]:
    """Returns the result or refusal of each item, in their order. `read` may raise the refusal of an item."""
    refused: list[PerronError | None] = []
    commands: list[_Command] = []
    for item in items:
        refusal: PerronError | None = check(item)
        if refusal is None:
            try:
                commands.append(read(item))
            except PerronError as error:
                refusal = error
        refused.append(refusal)
    answered = iter(await batcher.submit_many(commands))
    return [next(answered) if refusal is None else refusal for refusal in refused]


def passport_of(caller: Caller, place: int) -> Passport:
    """Returns the passport that an item names by its place among the batch's.

    Raises InvalidArgument where there is none, or what that passport was refused with.
    """
    if place >= len(caller.passports):
        raise InvalidArgument(
            "FIELD_INVALID", "passport_index: there is no such passport", field="passport_index"
        )
    passport = caller.passports[place]
    if isinstance(passport, PerronError):
        raise passport
    return passport
