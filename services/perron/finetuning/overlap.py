"""How many lines two files have in common, from keyed digests of their lines, in bounded memory.

A file keeps the digests below a threshold. The threshold starts at the top, and is halved whenever there are
too many; as digests are as good as random, the lines kept are a fair sample, and of two files the same lines
are sampled. Up to 100,000 distinct lines the answer is exact.
"""

from array import array
from typing import Final

DIGESTS_MAX: Final = 100_000
_BITS: Final = 64


class Digests:
    """The digests of one file's lines, each of 8 bytes; `halvings` says how often the sample was halved."""

    def __init__(self, *, digests_max: int = DIGESTS_MAX) -> None:
        self._max = digests_max
        self._kept = array("Q")
        self._folded = 0  # as many at the beginning are sorted and distinct
        self.halvings = 0

    def add(self, digest: bytes) -> None:
        """Adds the digest of a line."""
        value = int.from_bytes(digest, "big")
        if value >> (_BITS - self.halvings) == 0:
            self._kept.append(value)
            if len(self._kept) >= 2 * self._max:
                self._fold()

    def pack(self) -> bytes:
        """Returns the digests as bytes to store: one byte of halvings, then each digest."""
        self._fold()
        return bytes([self.halvings]) + b"".join(value.to_bytes(8, "big") for value in self._kept)

    def _fold(self) -> None:
        self._kept = array("Q", sorted(set(self._kept)))
        while len(self._kept) > self._max:
            self.halvings += 1
            limit = 1 << (_BITS - self.halvings)
            self._kept = array("Q", (value for value in self._kept if value < limit))


def common_lines(one: bytes, other: bytes) -> int:
    """Returns how many distinct lines two files share; beyond 100,000, an estimate from the sample."""
    halvings = max(one[0], other[0])
    limit = 1 << (_BITS - halvings)
    shared = _values(one) & _values(other)
    return sum(value < limit for value in shared) << halvings


def _values(packed: bytes) -> frozenset[int]:
    return frozenset(int.from_bytes(packed[at : at + 8], "big") for at in range(1, len(packed), 8))
