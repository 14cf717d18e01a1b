import pytest

from perron.chassis import sealing
from perron.chassis.sealing import SealBrokenError

KEY = bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"x", b"a prompt" * 1000])
def test_what_is_sealed_opens(content: bytes) -> None:
    assert sealing.open_sealed(KEY, sealing.seal(KEY, content, b"row"), b"row") == content


def test_sealing_twice_shows_nothing_in_common() -> None:
    assert sealing.seal(KEY, b"content", b"row")[1:13] != sealing.seal(KEY, b"content", b"row")[1:13]


def test_another_row_or_key_does_not_open() -> None:
    sealed = sealing.seal(KEY, b"content", b"row")
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(KEY, sealed, b"other row")
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(bytes(32), sealed, b"row")


def test_no_changed_byte_opens() -> None:
    sealed = sealing.seal(KEY, b"content", b"row")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBrokenError):
            sealing.open_sealed(KEY, bytes(changed), b"row")
    for length in range(len(sealed)):
        with pytest.raises(SealBrokenError):
            sealing.open_sealed(KEY, sealed[:length], b"row")


def test_a_data_key_comes_back_and_is_no_content() -> None:
    wrapped = sealing.wrap(KEY, b"d" * 32, b"row")
    assert sealing.unwrap(KEY, wrapped, b"row") == b"d" * 32
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(KEY, wrapped, b"row")


def test_keys_of_two_purposes_differ() -> None:
    assert sealing.subkey(KEY, "a") != sealing.subkey(KEY, "b")
    assert sealing.subkey(KEY, "a") == sealing.subkey(KEY, "a")
    assert len(sealing.subkey(b"short", "a")) == sealing.KEY_BYTES
