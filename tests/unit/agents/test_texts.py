import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.agents.texts import check, first_refused
from perron.chassis.errors import InvalidArgument


@pytest.mark.parametrize(
    "text",
    [
        "",
        "You are kind.\n\tAlways.",
        "\u05e9\u05dc\u05d5\u05dd \u200f(a)\u200e",  # marks that only say which way a neutral character reads
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
        "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc",  # Persian, with the non-joiner it needs
        "a\u00a0b\u2028c",
        "\ufffd",
    ],
)
def test_what_people_write_is_taken(text: str) -> None:
    check(text, "instructions")


@pytest.mark.parametrize(
    "character",
    [
        *"\x00\x07\x08\x0b\x0c\r\x1b\x7f\x85\x9b",
        *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        *"\ud800\udfff\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff",
        *"\U000e0001\U000e0041\U000e007f",
    ],
)
def test_what_a_reader_cannot_see_is_refused_by_field_and_offset(character: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(f"se\u00e7ret{character}words{character}", "configuration.examples[3].input")
    assert refused.value.reason == "FIELD_INVALID"
    assert [one.field for one in refused.value.violations] == ["configuration.examples[3].input"]
    assert refused.value.metadata == {"offset": "6"}
    assert "ret" not in refused.value.message.replace("direction", "")
    assert refused.value.message.isprintable()


@given(st.text())
def test_what_is_taken_is_utf_8_without_controls(text: str) -> None:
    if first_refused(text) is None:
        assert not any(ord(one) < 32 for one in text if one not in "\n\t")
        text.encode()
