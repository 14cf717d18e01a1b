"""Weights are checked by what they hold: everything that is not plain safetensors is refused by its rule."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.chassis.errors import InvalidArgument
from perron.finetuning.weights import Tensors, WeightsCheck


def tensor(start: int, stop: int, shape: list[int] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [stop - start] if shape is None else shape,
        "data_offsets": [start, stop],
    }


def written(header: object, body: int, *, raw: bytes | None = None) -> bytes:
    text = json.dumps(header).encode() if raw is None else raw
    return len(text).to_bytes(8, "little") + text + bytes(body)


def checked(content: bytes, piece: int = 7) -> Tensors:
    check = WeightsCheck(len(content))
    for at in range(0, len(content), piece):
        check.feed(content[at : at + piece])
    return check.finish()


def rule_of(content: bytes) -> str:
    with pytest.raises(InvalidArgument) as refused:
        checked(content)
    assert refused.value.reason == "WEIGHTS_REFUSED"
    return refused.value.metadata["rule"]


GOOD = {"__metadata__": {"format": "pt"}, "b": tensor(8, 12), "a": tensor(0, 8, [2, 1], "F32")}


def test_safetensors_are_taken_in_whatever_pieces_they_come() -> None:
    content = written(GOOD, 12)
    assert {checked(content, piece) for piece in (1, 7, 9, 1000)} == {Tensors(2, 6)}


def test_a_space_padded_header_and_empty_tensors_are_taken() -> None:
    raw = json.dumps({"a": tensor(0, 0, [0, 5]), "b": tensor(0, 2, [], "BF16")}).encode() + b"    "
    assert checked(written(None, 2, raw=raw)) == Tensors(2, 1)


def test_metadata_may_speak_of_keys() -> None:
    assert checked(written({"__metadata__": {"note": 'say "a": b'}, "a": tensor(0, 1)}, 1)) == Tensors(1, 1)


@pytest.mark.parametrize(
    ("rule", "content"),
    [
        ("HEADER_SIZE", pickle.dumps({"weights": b"x" * 100})),
        ("HEADER_SIZE", (1 << 63).to_bytes(8, "little") + bytes(100)),
        ("HEADER_SIZE", (2).to_bytes(8, "little") + b"{"),
        ("HEADER_SIZE", bytes(8)),
        ("HEADER_CUT_OFF", b"\x02\x00"),
        ("HEADER_NOT_JSON", (8).to_bytes(8, "little") + b"\x80\x04\x95\x00\x00\x00\x00\x00"),
        ("HEADER_NOT_JSON", written([1], 0)),
        ("HEADER_NOT_JSON", written({"a": tensor(0, 1) | {"more": 1}}, 1)),
        ("HEADER_NOT_JSON", written({"a": {"dtype": "U8", "shape": [1]}}, 1)),
        ("HEADER_NOT_JSON", written({"__metadata__": {"a": 1}, "a": tensor(0, 1)}, 1)),
        ("OFFSETS_WRONG", written({"a": tensor(0, 1) | {"data_offsets": [0, 1 << 70]}}, 1)),
        ("HEADER_NOT_JSON", written(None, 1, raw=b" " + json.dumps({"a": tensor(0, 1)}).encode())),
        (
            "HEADER_DUPLICATE_KEY",
            written(
                None,
                1,
                raw=b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            ),
        ),
        ("TENSOR_COUNT", written({}, 0)),
        ("TENSOR_COUNT", written({"__metadata__": {}}, 0)),
        ("DTYPE_UNKNOWN", written({"a": tensor(0, 1, dtype="object")}, 1)),
        ("SHAPE_NEGATIVE", written({"a": tensor(0, 1, [-1, -1])}, 1)),
        ("OFFSETS_WRONG", written({"a": tensor(0, 4, [2], "F32")}, 4)),
        ("OFFSETS_WRONG", written({"a": tensor(4, 0, [0])}, 4)),
        ("OFFSETS_WRONG", written({"a": tensor(0, 1, [1 << 62, 1 << 62])}, 1)),
        ("TENSORS_OVERLAP", written({"a": tensor(0, 8), "b": tensor(4, 12)}, 12)),
        ("TENSORS_OVERLAP", written({"a": tensor(0, 8), "b": tensor(0, 8)}, 8)),
        ("HOLE_BETWEEN_TENSORS", written({"a": tensor(0, 4), "b": tensor(8, 12)}, 12)),
        ("HOLE_BETWEEN_TENSORS", written({"a": tensor(4, 8)}, 8)),
        ("SIZE_DIFFERS", written({"a": tensor(0, 4)}, 5)),
        ("SIZE_DIFFERS", written({"a": tensor(0, 4)}, 3)),
    ],
)
def test_what_is_not_plain_safetensors_is_refused_by_its_rule(rule: str, content: bytes) -> None:
    assert rule_of(content) == rule


def test_a_header_of_eight_exbibytes_is_refused_at_its_eighth_byte() -> None:
    check = WeightsCheck(1 << 62)
    check.feed(b"\xff" * 7)
    with pytest.raises(InvalidArgument):
        check.feed(b"\x7f")


@given(st.binary(max_size=200), st.integers(0, 40))
def test_a_header_of_any_bytes_is_taken_or_refused_and_nothing_else(header: bytes, body: int) -> None:
    content = len(header).to_bytes(8, "little") + header + bytes(body)
    try:
        checked(content)
    except InvalidArgument as error:
        assert error.reason == "WEIGHTS_REFUSED"  # noqa: PT017 (the reason is the point)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_any_shift_of_an_offset_is_noticed(sizes: list[int], data: st.DataObject) -> None:
    header, at = {}, 0
    for number, size in enumerate(sizes):
        header[str(number)] = tensor(at, at + size)
        at += size
    assert checked(written(header, at)) == Tensors(len(sizes), at)
    moved = header[str(data.draw(st.integers(0, len(sizes) - 1)))]
    moved["data_offsets"][data.draw(st.integers(0, 1))] += data.draw(st.sampled_from([-1, 1]))
    rule_of(written(header, at))
