"""Lines that two files share are counted exactly, and beyond a bound fairly."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from perron.finetuning.jsonl import Counts, Validator
from perron.finetuning.overlap import Digests, common_lines
from perron.finetuning.tokens import BYTE_LEVEL, TokenRule, count
from tests.unit.finetuning.horrors import GOOD


def digest(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=8).digest()


def packed(numbers: range, digests_max: int) -> bytes:
    found = Digests(digests_max=digests_max)
    for number in numbers:
        found.add(digest(number))
    return found.pack()


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_shared_lines_are_counted_exactly_below_the_bound(start: int, one: int, other: int) -> None:
    shared = len(set(range(one)) & set(range(start, start + other)))
    assert common_lines(packed(range(one), 1000), packed(range(start, start + other), 1000)) == shared


def test_beyond_the_bound_the_count_is_an_estimate_in_bounded_memory() -> None:
    one, other = packed(range(20_000), 1000), packed(range(10_000, 30_000), 1000)
    assert len(one) <= 1 + 8 * 1000
    assert abs(common_lines(one, other) - 10_000) < 3_000
    assert common_lines(one, packed(range(5), 1000)) <= 64


def test_repeated_lines_count_once_and_other_workspaces_digests_do_not_match() -> None:
    def of(content: bytes, key: bytes = b"k") -> bytes:
        validator = Validator(key * 32)
        validator.feed(content)
        assert validator.finish().valid
        return validator.digests.pack()

    assert common_lines(of(GOOD + b"\n" + GOOD), of(GOOD + b"\r\n")) == 1
    assert common_lines(of(GOOD), of(GOOD, b"j")) == 0
    assert GOOD not in of(GOOD)


def test_tokens_follow_the_rule_of_the_tokenizer() -> None:
    counts = Counts(lines=2, examples=2, turns=5, text_bytes=101)
    assert count(counts, BYTE_LEVEL) == 101 + 2 * 5 + 2
    assert count(counts, TokenRule(bytes_per_token=4.0, per_turn=3, per_example=0)) == 26 + 15
