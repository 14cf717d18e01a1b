"""Texts that a model is told: instructions, examples, descriptions.

What a newcomer gets wrong: such a text is read by a person, who approves of it, and by a model, which obeys
it, and the two must read the same. So characters that a person does not see, or that show a line in another
order than it is stored in, are refused rather than taken out: what is stored is what was sent.
"""

import re
from typing import Final

from perron.chassis.errors import InvalidArgument

_REFUSED: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed
    "\u202a-\u202e\u2066-\u2069"  # directions of writing: embeddings, overrides, isolates
    "\ud800-\udfff\ufdd0-\ufdef"  # surrogates; noncharacters, here and at the end of every plane
    + "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
    + "\U000e0000-\U000e007f"  # tags: a second alphabet that is never drawn
    "]"
)


def first_refused(text: str) -> int | None:
    """Returns the offset in characters of the first one that no text may have; None where there is none."""
    found = _REFUSED.search(text)
    return found.start() if found else None


def check(text: str, field: str) -> None:
    """Checks a text. Raises InvalidArgument with the field, and the offset in characters, never the text."""
    if (offset := first_refused(text)) is not None:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"the character at {offset} is a control, turns the direction of writing, or is never drawn",
            field=field,
            metadata={"offset": str(offset)},
        )
