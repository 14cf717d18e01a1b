r"""Training files, read while they stream: chat JSONL in bounded memory, whatever is sent.

Lines end with \n and with nothing else: U+2028, \x0b and \x85 are characters of text, and a \r before the
end is white space of JSON. What a newcomer gets wrong: a line may never end. What is longer than a line may
be is counted as a fault and dropped, not gathered.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from perron.finetuning.examples import ROLES, explain, weigh
from perron.finetuning.line_rules import Rule
from perron.finetuning.overlap import Digests

LINE_BYTES_MAX: Final = 1024 * 1024
FAULTS_MAX: Final = 100
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule broken in one line; lines and columns count from 1, columns in bytes."""

    line: int
    column: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Counts:
    """What a file holds. Bytes of text are UTF-8 and tell, with a base model's rule, how many tokens."""

    lines: int = 0
    examples: int = 0
    turns: int = 0
    text_bytes: int = 0
    trained_bytes: int = 0
    longest_text_bytes: int = 0
    longest_turns: int = 0
    roles: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a file: its counts, the first faults in order, and how many there are in all."""

    counts: Counts
    faults: Sequence[Fault]
    faults_total: int

    @property
    def valid(self) -> bool:
        """Whether a job may train on it."""
        return not self.faults_total


class Validator:
    """Validates one file; `feed` takes pieces of any size, `finish` says what became of it.

    `digest_key` keys the digests of the lines, by which files of one workspace are compared.
    """

    def __init__(
        self, digest_key: bytes, *, line_bytes_max: int = LINE_BYTES_MAX, faults_max: int = FAULTS_MAX
    ) -> None:
        self._line_bytes_max = line_bytes_max
        self._faults_max = faults_max
        self._rest = bytearray()
        self._is_dropping = False
        self._lines = 0
        self._examples = 0
        self._turns = 0
        self._text_bytes = 0
        self._trained_bytes = 0
        self._longest_text_bytes = 0
        self._longest_turns = 0
        self._roles = [0] * len(ROLES)
        self._faults: list[Fault] = []
        self._faults_total = 0
        self._keyed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=digest_key)
        self.digests = Digests()

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes of the file."""
        first, *others = piece.split(b"\n")
        self._gather(first)
        if not others:
            return
        self._end_line()
        rest = others.pop()
        for line in others:
            self._line(line)
        self._gather(rest)

    def finish(self) -> Report:
        """Ends the last line, if it has no end of its own, and returns what was found."""
        if self._rest or self._is_dropping:
            self._end_line()
        if not self._lines:
            self._fault(1, Rule.FILE_EMPTY, 0)
        counts = Counts(
            lines=self._lines,
            examples=self._examples,
            turns=self._turns,
            text_bytes=self._text_bytes,
            trained_bytes=self._trained_bytes,
            longest_text_bytes=self._longest_text_bytes,
            longest_turns=self._longest_turns,
            roles=dict(zip(ROLES, self._roles, strict=True)),
        )
        return Report(counts, tuple(self._faults), self._faults_total)

    def _gather(self, part: bytes) -> None:
        if self._is_dropping:
            return
        self._rest += part
        if len(self._rest) > self._line_bytes_max:
            self._is_dropping = True
            self._rest = bytearray()

    def _end_line(self) -> None:
        if self._is_dropping:
            self._is_dropping = False
            self._lines += 1
            self._fault(self._lines, Rule.LINE_TOO_LONG, self._line_bytes_max)
        else:
            line = bytes(self._rest)
            self._rest.clear()
            self._line(line)

    def _line(self, line: bytes) -> None:
        self._lines += 1
        weighed = weigh(line) if len(line) <= self._line_bytes_max else None
        if weighed is None:
            self._explain(line)
            return
        turns, text_bytes, trained_bytes, roles = weighed
        self._examples += 1
        self._turns += turns
        self._text_bytes += text_bytes
        self._trained_bytes += trained_bytes
        self._longest_text_bytes = max(self._longest_text_bytes, text_bytes)
        self._longest_turns = max(self._longest_turns, turns)
        counted = self._roles
        for index, number in enumerate(roles):
            counted[index] += number
        keyed = self._keyed.copy()
        keyed.update(line.rstrip(b"\r"))
        self.digests.add(keyed.digest())

    def _explain(self, line: bytes) -> None:
        if len(self._faults) >= self._faults_max:
            self._faults_total += 1  # explained are only those that are shown
        elif len(line) > self._line_bytes_max:
            self._fault(self._lines, Rule.LINE_TOO_LONG, self._line_bytes_max)
        elif not line.strip(b" \t\r"):
            self._fault(self._lines, Rule.LINE_BLANK, 0)
        elif self._lines == 1 and line.startswith(_BYTE_ORDER_MARK):
            self._fault(1, Rule.BYTE_ORDER_MARK, 0)
        else:
            fault = explain(line)
            self._fault(self._lines, fault.rule, fault.place)

    def _fault(self, line: int, rule: Rule, place: int) -> None:
        self._faults_total += 1
        if len(self._faults) < self._faults_max:
            self._faults.append(Fault(line, place + 1, rule))
