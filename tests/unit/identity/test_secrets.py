import secrets
import string

from hypothesis import given
from hypothesis import strategies as st

from perron.chassis.credentials import BASE62, is_well_formed
from perron.identity.secrets import make_credential
from tests.unit.identity.people import OLDER_PEPPER, PEPPER

KEY = make_credential("live", secrets.token_bytes)


def test_a_new_key_is_well_formed_and_named_for_its_environment() -> None:
    key = make_credential("test1", secrets.token_bytes)
    assert key.startswith("prn_test1_")
    assert is_well_formed(key)
    assert len(key) == len("prn_test1_") + 49


@given(st.binary(min_size=64, max_size=64))
def test_whatever_the_randomness_a_key_is_well_formed(drawn: bytes) -> None:
    # Bytes that would make a letter likelier are thrown away; when all are, more are drawn.
    fallback = iter([drawn])
    assert is_well_formed(make_credential("live", lambda size: next(fallback, bytes(size))[:size]))


@given(st.integers(0, len(KEY) - 1), st.sampled_from(BASE62))
def test_a_key_with_one_wrong_letter_is_malformed(place: int, letter: str) -> None:
    typo = KEY[:place] + letter + KEY[place + 1 :]
    assert is_well_formed(typo) == (typo == KEY)


@given(st.integers(0, len(KEY) - 2))
def test_a_key_with_two_letters_swapped_is_malformed(place: int) -> None:
    swapped = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert is_well_formed(swapped) == (swapped == KEY)


@given(st.text(max_size=80))
def test_no_text_that_people_type_passes_for_a_key(text: str) -> None:
    assert not is_well_formed(text)


def test_lookalikes_and_surroundings_are_malformed() -> None:
    for wrong in (
        "",
        KEY + " ",
        " " + KEY,
        KEY + "\n",
        KEY + "\0",
        KEY[:-1],
        KEY * 2,
        KEY.swapcase(),
        "x" * 8192,
    ):
        assert not is_well_formed(wrong)
    assert not is_well_formed(KEY.replace("prn", "\u0440rn"))  # a Cyrillic letter


def test_letters_are_equally_likely() -> None:
    drawn = "".join(make_credential("live", secrets.token_bytes)[9:52] for _ in range(2000))
    counts = [drawn.count(letter) for letter in string.ascii_letters + string.digits]
    assert max(counts) < 1.25 * len(drawn) / 62


def test_a_digest_is_of_32_bytes_and_another_under_another_pepper() -> None:
    assert len(PEPPER.digest(KEY)) == 32
    assert PEPPER.digest(KEY) != OLDER_PEPPER.digest(KEY)


def test_a_pepper_never_prints_its_secret() -> None:
    assert "p" * 8 not in repr(PEPPER)
