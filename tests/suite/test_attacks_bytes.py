"""Bytes that are no message, and messages that are too much, are refused and hurt nobody else."""

import random
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from tests.attacks.requests import Requests
from tests.attacks.wire import ANSWERS, assert_nothing_inside, assert_refused_properly
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc, is_map, is_repeated
from tests.scale import times

MEBIBYTE = 1024 * 1024
LARGEST = {
    "identity": MEBIBYTE,
    "quotas": MEBIBYTE,
    "governance": 4 * MEBIBYTE,
    "agents": 4 * MEBIBYTE,
    "finetuning": 4 * MEBIBYTE,
    "admission": 4 * MEBIBYTE,
}
"""The largest message that a service takes."""

EVERY_TIME = times(8, 100)
UNKNOWN_FIELD = 15
FIRST_OF_HOST = [next(rpc for rpc in RPCS if rpc.host == host and not rpc.streams) for host in LARGEST]
UNBOUNDED = [
    rpc for rpc in RPCS if any(is_repeated(field) and not is_map(field) for field in rpc.input.fields)
]

each_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)
each_host = pytest.mark.parametrize("rpc", FIRST_OF_HOST, ids=lambda rpc: rpc.host)


def key_for(world: World, rpc: Rpc) -> str | None:
    return None if rpc.access.public else world.caller(rpc.access).secret


@each_rpc
def test_bytes_that_are_no_message_are_refused_as_such(rpc: Rpc, world: World, requests: Requests) -> None:
    draw = random.Random(str(rpc))
    valid = requests.valid(rpc).SerializeToString()
    tries = [draw.randbytes(draw.randrange(1, 200)) for _ in range(times(20, 500))]
    tries += [valid[: draw.randrange(len(valid))] for _ in range(8) if valid]
    tries += [
        bytes([draw.randrange(256) if draw.random() < 0.05 else byte for byte in valid]) for _ in range(8)
    ]
    tries += [
        b"\xff" * 11,  # a varint without an end
        b"\x0a\xff\xff\xff\xff\x07text",  # longer than what follows
        tag(UNKNOWN_FIELD, 3) * 101 + tag(UNKNOWN_FIELD, 4) * 101,  # nested 101 deep
        tag(1, 7),
        b"\x00\x00",
    ]

    for raw in tries:
        answer = world.wire.call(rpc, raw, key_for(world, rpc))
        if is_message(rpc, raw):
            assert answer.code in ANSWERS, str(answer)
            assert_nothing_inside(answer)
        else:
            assert_refused_properly(answer, "INVALID_ARGUMENT")
            assert answer.reason == "MESSAGE_MALFORMED"


@each_rpc
def test_text_that_is_no_utf_8_is_no_message(rpc: Rpc, world: World) -> None:
    for field in rpc.input.fields:
        if field.type != FieldDescriptor.TYPE_STRING:
            continue
        raw = tag(field.number, 2) + b"\x04\xff\xfe\xed\xa0"
        answer = world.wire.call(rpc, raw, key_for(world, rpc))
        assert_refused_properly(answer, "INVALID_ARGUMENT")
        assert answer.reason == "MESSAGE_MALFORMED"


@each_rpc
def test_a_message_one_byte_too_large_is_refused(rpc: Rpc, world: World) -> None:
    key = key_for(world, rpc)

    assert world.wire.call(rpc, padded(LARGEST[rpc.host] + 1), key).code == "RESOURCE_EXHAUSTED"
    assert world.wire.call(rpc, padded(LARGEST[rpc.host]), key).code in ANSWERS - {"RESOURCE_EXHAUSTED"}


@each_host
def test_a_message_too_large_is_refused_every_time(rpc: Rpc, world: World) -> None:
    raw = padded(LARGEST[rpc.host] + 1)
    codes = {world.wire.call(rpc, raw, key_for(world, rpc)).code for _ in range(EVERY_TIME)}

    assert codes == {"RESOURCE_EXHAUSTED"}
    assert world.is_undisturbed()


@each_host
def test_a_gzip_bomb_is_refused(rpc: Rpc, world: World) -> None:
    before = resident_kib(world.suite.pids[rpc.host])
    bomb = padded(64 * MEBIBYTE)
    codes = {
        world.wire.call(rpc, bomb, key_for(world, rpc), compression=grpc.Compression.Gzip).code
        for _ in range(times(2, 20))
    }

    assert codes == {"RESOURCE_EXHAUSTED"}
    assert resident_kib(world.suite.pids[rpc.host]) - before < 64 * 1024
    assert world.is_undisturbed()


@each_host
def test_metadata_of_17_kib_is_refused_every_time(rpc: Rpc, world: World, requests: Requests) -> None:
    large = [("x-large", "x" * 17 * 1024)]
    request = requests.valid(rpc)
    codes = {
        world.wire.call(rpc, request, key_for(world, rpc), metadata=large).code for _ in range(EVERY_TIME)
    }

    assert codes == {"RESOURCE_EXHAUSTED"}
    assert world.is_undisturbed()


@each_host
def test_what_is_not_even_http_2_disturbs_nobody(rpc: Rpc, world: World) -> None:
    host, _, port = world.suite.endpoints[rpc.host].rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    hostile = [
        b"",
        b"GET / HTTP/1.1\r\nHost: perron\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # the beginning of a TLS handshake
        random.Random(rpc.host).randbytes(4096),
        preface[:10],
        preface + b"\xff" * 64,  # a frame of 16 MiB that never comes
        preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 1000,  # nothing but settings
    ]
    with ExitStack() as opened:
        for raw in hostile * times(20, 200):
            connection = opened.enter_context(socket.create_connection((host, int(port)), timeout=5))
            with suppress(OSError):  # it may have been shut already
                connection.sendall(raw)
        assert world.is_undisturbed()


@pytest.mark.parametrize("rpc", UNBOUNDED, ids=str)
def test_a_million_elements_are_refused_within_seconds(rpc: Rpc, world: World, requests: Requests) -> None:
    key = key_for(world, rpc)
    for field in rpc.input.fields:
        if not is_repeated(field):
            continue
        raw = requests.valid(rpc).SerializeToString() + elements(field, LARGEST[rpc.host] - 64 * 1024)
        start = time.monotonic()
        answer = world.wire.call(rpc, raw, key)
        assert_refused_properly(answer, "INVALID_ARGUMENT")
        assert answer.reason == "FIELD_INVALID"
        assert time.monotonic() - start < 5
    assert world.is_undisturbed()


def tag(number: int, wire_type: int) -> bytes:
    """The bytes before a field."""
    return varint(number << 3 | wire_type)


def varint(value: int) -> bytes:
    """A number as the wire has it."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def padded(size: int) -> bytes:
    """A message of exactly so many bytes, of which no field is known."""
    head = tag(UNKNOWN_FIELD, 2)
    candidates = (head + varint(length) + bytes(length) for length in range(size - 8, size))
    return next(raw for raw in candidates if len(raw) == size)


def elements(field: FieldDescriptor, size: int) -> bytes:
    """As many elements as fit, a million at most: numbers packed, all else empty."""
    if field.message_type is None and field.type != FieldDescriptor.TYPE_STRING:
        count = min(size, 1_000_000)
        return tag(field.number, 2) + varint(count) + b"\x01" * count
    return (tag(field.number, 2) + b"\x00") * min(size // 2, 1_000_000)


def is_message(rpc: Rpc, raw: bytes) -> bool:
    try:
        rpc.request.FromString(raw)
    except DecodeError:
        return False
    return True


def resident_kib(pid: int) -> int:
    """Memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
