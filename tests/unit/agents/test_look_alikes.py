import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.agents.look_alikes import readings

NAMES = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=24)

# `str.upper` moves the marks after an iota below to the iota, unless they stand before it, as in NFD.
DECOMPOSED = NAMES.map(lambda text: unicodedata.normalize("NFD", text))

# Letters and digits that look like nothing else among themselves.
PLAIN = st.text("abcdefghknopqrstwxz2345679 -_.", min_size=1, max_size=24)


def alike(one: str, other: str) -> bool:
    return not readings(one).isdisjoint(readings(other))


@given(NAMES)
def test_reading_what_was_read_changes_nothing(name: str) -> None:
    for reading in readings(name):
        assert reading in readings(reading)


@given(DECOMPOSED)
def test_names_that_differ_in_case_alone_are_alike(name: str) -> None:
    for cased in (name.upper(), name.lower(), name.title(), name.swapcase(), name.casefold()):
        assert alike(name, cased)


@given(NAMES)
def test_names_that_differ_in_their_normalization_alone_are_alike(name: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert readings(unicodedata.normalize(form, name)) == readings(name)


@given(NAMES)
def test_a_name_has_one_to_three_readings(name: str) -> None:
    assert 1 <= len(readings(name)) <= 3


@given(PLAIN, PLAIN)
def test_names_that_differ_to_the_eye_are_not_alike(one: str, other: str) -> None:
    assert alike(one, other) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PayPal", "PayPaI"),
        ("paypal", "PaypaI"),
        ("Agent 1", "Agent l"),
        ("Agent 1", "AGENT I"),
        ("Agent 10", "Agent lO"),
        ("modern", "modem"),
        ("Acme", "\u0410cme"),  # Cyrillic A
        ("Acme", "\uff21\uff43\uff4d\uff45"),  # full width
        ("Acme", "\U0001d5d4\U0001d5f0\U0001d5fa\U0001d5f2"),  # mathematical bold
        ("google", "g\u03bf\u043egle"),  # Greek and Cyrillic o
        ("Nova", "\u039dova"),  # Greek capital nu
        ("view", "\u03bdiew"),  # Greek small nu
        ("Mail Bot", "\u041cAIL \u0412OT"),  # Cyrillic capitals; the I is Latin
        ("mail", "\u041c\u0410\u0406L"),  # all Cyrillic but the L
        ("user", "\u03c5ser"),  # Greek small upsilon
        ("York", "\u03a5ork"),  # Greek capital upsilon
        ("\u039d\u03af\u03ba\u03bf\u03c2", "\u03bd\u03af\u03ba\u03bf\u03c2"),  # one Greek name, N and n
        ("\u041c\u043e\u0441\u043a\u0432\u0430", "\u043c\u043e\u0441\u043a\u0432\u0430"),  # one Russian name
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("hr-bot", "hr\u2010bot"),  # another hyphen
        ("\u13aacme", "acme"),  # Cherokee
    ],
)
def test_known_look_alikes_are_alike(one: str, other: str) -> None:
    assert alike(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mail", "Mall"),
        ("Nova", "Vova"),
        ("net", "vet"),
        ("cafe", "caf\u00e9"),
        ("Bot 1", "Bot 2"),
        ("hr-bot", "hr_bot"),
        ("hr bot", "hrbot"),
        ("\u65e5\u672c\u8a9e", "\u65e5\u672c\u4eba"),
    ],
)
def test_names_that_share_no_look_are_not_alike(one: str, other: str) -> None:
    assert not alike(one, other)


def test_every_character_comes_to_rest() -> None:
    """So every text does: prototypes and case go character by character, and NFKD only sorts marks."""
    for point in range(sys.maxunicode + 1):
        if not 0xD800 <= point < 0xE000:
            assert readings(chr(point))


def test_every_capital_that_looks_like_l_is_read_as_i_too() -> None:
    capitals = [
        character
        for character in map(chr, range(0x20, 0x10000))
        if character.casefold() != character
        and unicodedata.is_normalized("NFKC", character)
        and "l" in readings(character)
        and "i" in readings(character.casefold())
    ]
    assert capitals == ["I", "\u0196", "\u0399", "\u0406", "\u2c92"]
    for capital in capitals:
        assert alike(f"M{capital}", "mi")
        assert alike(f"\u041c{capital}", "mi")  # a Cyrillic M, whose small form is no look-alike
