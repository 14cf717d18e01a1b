import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.chassis import ids
from perron.chassis.errors import InvalidArgument

EXAMPLE = uuid.UUID("0188bac7-4afa-78aa-bc3b-bd1eef28d881")


def test_ids_are_typeids() -> None:
    # The example of the TypeID specification.
    assert ids.from_bytes("prefix", EXAMPLE.bytes) == "prefix_01h2xcejqtf2nbrexx3vqjhp41"


@given(st.binary(min_size=16, max_size=16))
def test_text_and_bytes_tell_the_same_id(raw: bytes) -> None:
    assert ids.to_bytes(ids.from_bytes("dec", raw)) == raw


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_texts_sort_like_bytes(raws: list[bytes]) -> None:
    assert [ids.to_bytes(text) for text in sorted(ids.from_bytes("dec", raw) for raw in raws)] == sorted(raws)


def test_later_ids_sort_later() -> None:
    made = [ids.new_id("org") for _ in range(1000)]
    assert made == sorted(set(made))


@pytest.mark.parametrize(
    "suffix",
    [
        "",
        "0" * 25,
        "0" * 27,
        "8" + "0" * 25,  # more than 128 bits
        "z" * 26,
        "0" * 25 + "_",
        "0" * 25 + " ",
        " " + "0" * 25,
        "+" + "0" * 25,
        "0" * 25 + "u",  # not in Crockford's alphabet
        "0" * 25 + "A",
        "0" * 25 + "é",
        "\uff10" * 26,  # fullwidth zeros, which NFKC would make zeros
    ],
)
def test_what_was_never_given_out_is_refused(suffix: str) -> None:
    with pytest.raises(InvalidArgument):
        ids.to_bytes(f"org_{suffix}")
