"""Weights are safetensors, and are checked by what they hold, not by what they are called.

The form: eight bytes, little-endian, that say how long the header is; the header, a JSON object that gives
each tensor its type, shape and place; then the tensors, without a gap, to the last byte. Nothing in it is
ever executed, which is why no other form is taken: a pickle, whatever its name, runs code when it is read.
"""

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from perron.chassis.errors import InvalidArgument
from perron.finetuning.strict_json import has_duplicate_keys

HEADER_BYTES_MAX: Final = 16 * 1024 * 1024
TENSORS_MAX: Final = 100_000
_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_KEY: Final = re.compile(rb'"[ \t\r\n]*:')
_Place = tuple[int, int]


class _Tensor(Struct, forbid_unknown_fields=True, gc=False):
    dtype: str
    shape: list[int]
    data_offsets: _Place


_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tensor: Final = msgspec.json.Decoder(_Tensor).decode
_decode_metadata: Final = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a file of weights holds, in numbers."""

    tensors: int
    parameters: int


class WeightsCheck:
    """Checks one file of weights while it streams; it keeps the header, never a tensor."""

    def __init__(self, size: int) -> None:
        """`size` is how many bytes are announced."""
        self._size = size
        self._head = bytearray()
        self._wanted = _LENGTH_BYTES
        self._found: Tensors | None = None

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes. Raises InvalidArgument (WEIGHTS_REFUSED) as soon as it is certain."""
        while self._found is None and piece:
            missing = self._wanted - len(self._head)
            self._head += piece[:missing]
            piece = piece[missing:]
            if len(self._head) == self._wanted:
                self._step()

    def finish(self) -> Tensors:
        """Returns what the file holds once all of it was fed. Raises InvalidArgument (WEIGHTS_REFUSED)."""
        if self._found is None:
            raise refused("HEADER_CUT_OFF")
        return self._found

    def _step(self) -> None:
        length = int.from_bytes(self._head[:_LENGTH_BYTES], "little")
        if self._wanted == _LENGTH_BYTES:
            if not 2 <= length <= min(HEADER_BYTES_MAX, self._size - _LENGTH_BYTES):
                raise refused("HEADER_SIZE")
            self._wanted += length
            return
        self._found = _check(bytes(self._head[_LENGTH_BYTES:]), self._size - self._wanted)
        self._head.clear()


def refused(rule: str) -> InvalidArgument:
    """Returns the refusal of weights, by the rule that they break."""
    return InvalidArgument(
        "WEIGHTS_REFUSED", "the weights are not safetensors as they must be", metadata={"rule": rule}
    )


def _check(header: bytes, size: int) -> Tensors:
    try:
        if not header.startswith(b"{"):
            raise refused("HEADER_NOT_JSON")
        entries = _decode(header)
        metadata = entries.pop(_METADATA, None)
        keys = len(_decode_metadata(metadata)) + 1 if metadata is not None else 0
        found = [_decode_tensor(entry) for entry in entries.values()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise refused("HEADER_NOT_JSON") from None
    if not 0 < len(found) <= TENSORS_MAX:
        raise refused("TENSOR_COUNT")
    # The decoder drops a key that comes twice, and another reader might take the other one.
    if len(_KEY.findall(header)) != keys + 4 * len(found) and has_duplicate_keys(header):
        raise refused("HEADER_DUPLICATE_KEY")
    parameters = 0
    for tensor in found:
        parameters += _check_tensor(tensor)
    end = 0
    for start, stop in sorted(tensor.data_offsets for tensor in found):
        if start != end:
            raise refused("TENSORS_OVERLAP" if start < end else "HOLE_BETWEEN_TENSORS")
        end = stop
    if end != size:
        raise refused("SIZE_DIFFERS")
    return Tensors(len(found), parameters)


def _check_tensor(tensor: _Tensor) -> int:
    """Returns how many numbers a tensor has."""
    if tensor.dtype not in _BITS:
        raise refused("DTYPE_UNKNOWN")
    numbers = 1
    for length in tensor.shape:
        if length < 0:
            raise refused("SHAPE_NEGATIVE")
        numbers *= length
    start, stop = tensor.data_offsets
    if not 0 <= start <= stop or (stop - start) * 8 != numbers * _BITS[tensor.dtype]:
        raise refused("OFFSETS_WRONG")
    return numbers
