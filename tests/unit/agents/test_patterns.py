import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from perron.agents.patterns import NO_PATTERN, REPEATS_CHOICE, TOO_LONG, broken_rule


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "^[a-z]+$",
        r"^\p{L}{1,100}$",
        r"\d{3}-\d{4}",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
        r"^\S{1,255}$",
        r"^-?\d+(\.\d+)?$",
        "^(foo|bar)(,(foo|bar))*$",
        "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"^(?<year>\d{4})-\d{2}-\d{2}(T\d{2}:\d{2}Z)?$",
        "[(+*|]+",
        r"\(\d+?\)",
        "a|ab",
        "(a?){8}",
        "(a{2}b){3,}",
        "^[a-z0-9]+(?:-[a-z0-9]+)*$",
        r"^([a-z0-9]+\.)+[a-z]{2,}$",
        r"^\w+([._-]\d+)*$",
        "^(/[^/]+)+$",
        "^([^:]*:[01])*$",
        r"(,\s*[A-Z]{2}){1,50}",
    ],
)
def test_patterns_of_every_day_are_taken(pattern: str) -> None:
    assert broken_rule(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "([a-zA-Z]+)*$",
        "(a|aa)+$",
        "(a|a?)+$",
        "(.*a){10}$",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(x+x+)+y",
        "(a?b?)*c",
        "(a?){64}a{64}",
        "(a{1,50}){1,50}",
        "((a|b)|(a|c))*",
        "(a|[ab])+",
        "(|a)+",
        "(?:(?:a*))*",
        "(?<n>a*)*",
        r"(\d|5)*",
        "((a|b)|(c|ab)){5,}",
        "(-[a-z-]+)*",
        "(-?[a-z]+)*",
        "(-*[a-z]+)*",
        "(-{1,2}[a-z]{3})*",
        "(-{0}[a-z]+)*",
        "([a-z]+-[a-z]+)*",
        "(-[a-z]+[a-z]*)*",
        "(-[a-z]+-)*",
        "(-[a-z]+|-[0-9]+)*",
        "(-([a-z]+))*",
        "((-[a-z]+)*)*",
        "(_\\w+)*",
        "(.[a-z]+)*",
        "([^a]+b)*",
        "(^[a-z]+)*",
        "(é[^a]+)*",
        r"(\ü[^a]+)*",
        r"(3\d+)*",
        r"(\x2d[-a]+)*",
        r"(\p{L}+L)*",
        r"(\S[^ ]+)*",
        r"([^ ]\S+)*",
        "([&&a]+b)*",
        "([[a]+b)*",
    ],
)
def test_what_can_match_in_many_ways_is_not_repeated(pattern: str) -> None:
    assert broken_rule(pattern) == REPEATS_CHOICE


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "a)",
        "[",
        "[a",
        "*",
        "+a",
        "(*a)",
        "a|*",
        "a**",
        "a{2}{3}",
        "a+??",
        "a{2,1}",
        "\\",
        "(?=a)b",
        "(?!a)",
        "(?<=a)b",
        r"(a)\1",
        r"(?<n>a)\k<n>",
        "(?i)a",
        "(?P<n>a)",
        "(?#a)",
        "(?>a)",
        r"\h",
        "[b-a]",
        r"\p{Nope}",
        "(?:" * 600 + ")" * 600,
    ],
)
def test_what_not_every_engine_runs_is_no_pattern(pattern: str) -> None:
    assert broken_rule(pattern) == NO_PATTERN


@pytest.mark.parametrize(
    "pattern", ["a{2001}", "a{3000,}", "((a{100}){100}){100}", "(((a{9}){9}){9}){9}", "a{99999999999}"]
)
def test_counts_do_not_make_a_pattern_huge(pattern: str) -> None:
    assert broken_rule(pattern) == TOO_LONG


@given(st.text("ab(|)*+?{2,9}[]^$\\.:<>=!", max_size=24))
def test_any_text_is_judged(pattern: str) -> None:
    assert broken_rule(pattern) in {None, NO_PATTERN, REPEATS_CHOICE, TOO_LONG}


ATOMS = st.sampled_from(["a", "-", "b", "[ab]", "[^-]", "[^a]", "."])
ROUNDS = st.lists(
    st.tuples(ATOMS, st.sampled_from(["", "", "+", "*", "?", "{0}", "{2}", "{1,2}"])), max_size=4
)
TEXTS = ["".join(text) for size in range(8) for text in product("ab-", repeat=size)]


@given(ROUNDS)
def test_what_is_repeated_cuts_no_text_in_two_ways(atoms: list[tuple[str, str]]) -> None:
    """Every text up to seven characters long, cut into rounds of one to all of them."""
    round_of_it = "".join(map("".join, atoms))
    if broken_rule(f"({round_of_it})*") is None:
        whole = re.compile(round_of_it)
        assert max(ways(whole, text) for text in TEXTS) <= 1


def test_the_ways_of_a_hostile_pattern_are_seen() -> None:
    assert ways(re.compile("-?a+"), "aaaaaaa") == 64


def ways(of_a_round: re.Pattern[str], text: str) -> int:
    """In how many ways a text can be cut into rounds that are not empty."""
    found = [1]
    for end in range(1, len(text) + 1):
        found.append(sum(n for start, n in enumerate(found) if of_a_round.fullmatch(text, start, end)))
    return found[-1]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[a-z0-9]+(?:-[a-z0-9]+)*$", "a" * 500 + "-a" * 500 + "!"),
        (r"^([a-z0-9]+\.)+[a-z]{2,}$", "a." * 1000 + "!"),
        ("^(/[^/]+)+$", "/a" * 1000 + "/"),
        ("^([^:]*:[01])*$", "aaa:1" * 400 + "2"),
    ],
)
def test_a_marked_repetition_refuses_a_long_text_by_itself(pattern: str, text: str) -> None:
    """In an engine that tries everything; what is exponential would still run tomorrow."""
    assert broken_rule(pattern) is None
    assert re.search(pattern, text) is None
    assert not Draft202012Validator({"pattern": pattern}).is_valid(text)
