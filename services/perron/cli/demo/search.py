"""Looks for a text in every file of a folder, in every form in which software is wont to leave one behind.

A search that finds nothing proves nothing until the same search has found a copy: `plant` writes one in each
form.
"""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_ALPHABET = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"\\/éüß'
MARKER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the text stands: the file and the form."""

    path: Path
    form: str


def marker() -> str:
    """A random text of exactly 32 UTF-8 bytes that must be escaped in JSON and lies beyond ASCII."""
    while True:
        drawn = "é\\" + "".join(secrets.choice(_ALPHABET) for _ in range(MARKER_BYTES - 4))
        cut = drawn.encode()[: MARKER_BYTES - 1].decode(errors="ignore")
        padded = cut + "x" * (MARKER_BYTES - len(cut.encode()))
        if len(set(padded)) > MARKER_BYTES // 2:
            return padded


def forms(text: str) -> Mapping[str, tuple[bytes, ...]]:
    """The byte strings to look for, by the name of the form."""
    raw = text.encode()
    return {
        "raw": (raw,),
        "hex": (raw.hex().encode(), raw.hex().upper().encode()),
        "base64": tuple(
            piece
            for offset in range(3)
            for piece in _base64(raw, offset)  # three ways to fall on its groups of three
        ),
        "JSON-escaped": (
            json.dumps(text)[1:-1].encode(),
            json.dumps(text, ensure_ascii=False)[1:-1].encode(),
            json.dumps(text)[1:-1].replace("/", "\\/").encode(),
        ),
        "UTF-16": (text.encode("utf-16-le"), text.encode("utf-16-be")),
    }


def find(folder: Path, text: str) -> list[Finding]:
    """Every file under the folder that holds the text, and in which form."""
    wanted = forms(text)
    return [
        Finding(path, form)
        for path, content in _files(folder)
        for form, needles in wanted.items()
        if any(needle in content for needle in needles)
    ]


def plant(folder: Path, text: str) -> list[Path]:
    """Writes one file for each form and spelling, the text amid other bytes, and returns the files."""
    planted = []
    for form, needles in forms(text).items():
        for number, needle in enumerate(needles):
            path = folder / f"planted-{form}-{number}"
            path.write_bytes(secrets.token_bytes(5000) + needle + secrets.token_bytes(3000))
            planted.append(path)
    return planted


def _base64(raw: bytes, offset: int) -> tuple[bytes, bytes]:
    filled = bytes(offset) + raw
    start = -(-offset * 8 // 6)  # the first digits that depend on nothing before the text
    end = len(filled) * 8 // 6  # and the last that depend on nothing after it
    return base64.b64encode(filled)[start:end], base64.urlsafe_b64encode(filled)[start:end]


def _files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                yield path, path.read_bytes()
        except FileNotFoundError:  # a file that the suite removed meanwhile
            continue
