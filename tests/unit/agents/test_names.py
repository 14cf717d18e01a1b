import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.agents.names import alias, alias_reading, display_name, keys_within, listed_as, mark_keys
from perron.chassis.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("Support", "Support"),
        ("  Support \u3000", "Support"),
        ("Support\u00a0 \u2003desk", "Support desk"),
        ("\uff33upport", "Support"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u65e5\u672c\u8a9e \U0001f600", "\u65e5\u672c\u8a9e \U0001f600"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e4d\u0e32"),  # Thai: NFKC takes its sara am apart
        ("x" * 64, "x" * 64),
    ],
)
def test_a_name_is_kept_in_one_form(given_name: str, kept: str) -> None:
    assert display_name(given_name) == kept
    assert display_name(kept) == kept


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "not a space"),
        (" \u3000\u00a0", "not a space"),
        ("x" * 65, "at most 64"),
        ("\ufdfa" * 4, "at most 64"),  # one character that NFKC makes eighteen of
        ("a\x00b", "printable"),
        ("a\nb", "printable"),
        ("a\x1b[31mb", "printable"),
        ("a\x85b", "printable"),
        ("a\u2028b", "printable"),
        ("a\u1680b", "printable"),  # a space that is drawn
        ("a\u202eb", "printable"),
        ("a\u2067b", "printable"),
        ("a\u200bb", "printable"),
        ("a\u200db", "printable"),
        ("a\u00adb", "printable"),
        ("a\ufeffb", "printable"),
        ("a\u034fb", "printable"),
        ("a\u3164b", "printable"),  # the filler that NFKC turns into another one
        ("a\u2800b", "printable"),
        ("\u2764\ufe0f", "printable"),
        ("a\U000e0041b", "printable"),  # a tag
        ("a\U000e0100b", "printable"),
        ("a\ufffeb", "printable"),
        ("a\ue000b", "printable"),
        ("a\u0378b", "printable"),  # unassigned
        ("a\ud800b", "printable"),
        ("\u0301abc", "combining"),
        ("q\u0301\u0301", "combining"),
        ("q\u0316\u0317\u0318\u0319\u031c", "combining"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused_by_its_rule(name: str, rule: str) -> None:
    with pytest.raises(InvalidArgument, match=rule) as refused:
        display_name(name, field="agent.display_name")
    assert refused.value.reason == "FIELD_INVALID"
    assert [violation.field for violation in refused.value.violations] == ["agent.display_name"]
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()


@given(st.text(max_size=70))
def test_a_name_that_was_taken_is_taken_as_it_is(text: str) -> None:
    try:
        kept = display_name(text)
    except InvalidArgument:
        return
    assert display_name(kept) == kept
    assert kept.isprintable()
    assert 1 <= len(kept) <= 64


@pytest.mark.parametrize("text", ["a", "0", "support.v1_2-beta", "a" * 64])
def test_an_alias_is_a_plain_word(text: str) -> None:
    assert alias(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "A", "-a", ".a", "_a", "a b", "a\n", "a/b", "a:b", "a" * 65, "\u0430", "\u0661", "../a", "a%2e"],
)
def test_anything_else_is_no_alias(text: str) -> None:
    with pytest.raises(InvalidArgument, match="an alias has") as refused:
        alias(text)
    assert [violation.field for violation in refused.value.violations] == ["alias"]


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_an_alias_has_one_reading(text: str) -> None:
    assert alias_reading(text) == alias_reading(alias_reading(text))


def test_aliases_that_look_alike_read_alike() -> None:
    assert alias_reading("model-10") == alias_reading("rnodel-lo")
    assert alias_reading("mail") != alias_reading("mall")


def test_names_are_listed_by_their_letters() -> None:
    assert sorted(["Sales", "mail", "Research", "Nova"], key=listed_as) == [
        "mail",
        "Nova",
        "Research",
        "Sales",
    ]


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("Acme", "Acme"),
        ("Acme", "ACME "),
        ("Acme", "\u0410cme"),
        ("Acme", "acme-support"),
        ("Acme", "the ACME_desk"),
        ("Acme", "A.C.M.E. desk"),
        ("Acme", "by (acme)"),
        ("Acme Labs", "AcmeLabs help"),
        ("Acme Labs", "acme.labs"),
        ("AcmeLabs", "Acme Labs"),
        ("Mistral", "\u041cISTRAL bot"),
        ("O2", "02-help"),
        ("\u0130\u015f", "i\u0307\u015f bot"),
    ],
)
def test_a_mark_is_found_as_whole_words_however_it_is_spelt(mark: str, name: str) -> None:
    assert mark_keys(mark) & keys_within(name)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("Acme", "Acmeology"),
        ("Acme", "macme"),
        ("Acme", "Acm\u00e9"),
        ("Acme Labs", "Acme"),
        ("Acme Labs", "Labs of Acme"),
        ("Ali", "All bots"),
        ("Acme", "..."),
    ],
)
def test_a_mark_is_not_found_within_a_word_or_in_part(mark: str, name: str) -> None:
    assert not mark_keys(mark) & keys_within(name)


@pytest.mark.parametrize("mark", ["...", "- -", "", "\u202e", "x" * 65])
def test_a_mark_that_is_no_name_is_refused(mark: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        mark_keys(mark)
    assert [violation.field for violation in refused.value.violations] == ["names"]
