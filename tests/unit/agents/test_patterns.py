import pytest
from hypothesis import given
from hypothesis import strategies as st

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
