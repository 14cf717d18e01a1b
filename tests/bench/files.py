"""Training files: how fast lines are validated, and how fast a file is received, validated and sealed."""

import asyncio
import hashlib
import json
import statistics
import time
from collections.abc import AsyncIterator

import grpc

from perron.api.finetuning.v1 import file_pb2, file_service_pb2, file_service_pb2_grpc
from perron.cli.suite import Suite
from perron.finetuning.jsonl import Validator
from tests.bench.budgets import Figure
from tests.suite.customers import PAID, customers

_LINES = 200_000
_LINE_BYTES = 200
_PIECE = 1024 * 1024
_MEGABYTE = 1_000_000


def validated_lines(rounds: int) -> Figure:
    """Lines of 200 bytes that one core validates in a second; tokens are counted apart, from the report."""
    content = chats(_LINES, _LINE_BYTES)
    rates = []
    for _ in range(rounds):
        validator = Validator(b"k" * 32)
        begin = time.process_time()
        for at in range(0, len(content), _PIECE):
            validator.feed(content[at : at + _PIECE])
        report = validator.finish()
        rates.append(_LINES / (time.process_time() - begin))
        assert report.valid
    return Figure("validate_lines_s", statistics.median(rates), _LINES, "lines")


def measure(suite: Suite, rounds: int) -> list[Figure]:
    """Both figures; the upload is that of a new customer of the suite."""
    with customers(suite) as made:
        customer = made.new(PAID)
        upload = uploaded_megabytes(suite.endpoints["finetuning"], customer.secret, rounds)
    return [upload, validated_lines(rounds)]


def uploaded_megabytes(target: str, credential: str, rounds: int, megabytes: int = 100) -> Figure:
    """Megabytes of chat JSONL that a served finetuning takes in a second from one stream.

    `credential` is a key with the scope FINE_TUNING_WRITE in a workspace whose plan has room for the rounds.
    """
    content = chats(megabytes * _MEGABYTE // 1000, 1000)
    rates = asyncio.run(_upload(target, credential, content, rounds))
    return Figure("upload_mb_s", statistics.median(rates), len(content), "bytes")


def chats(count: int, size: int) -> bytes:
    """Chats of about `size` bytes each, all different."""
    padding = len(_chat(0, 0))
    return b"".join(_chat(number, size - padding) for number in range(count))


async def _upload(target: str, credential: str, content: bytes, rounds: int) -> list[float]:
    metadata = (("authorization", f"Bearer {credential}"),)
    rates = []
    async with grpc.aio.insecure_channel(target) as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        for _ in range(rounds):
            announced = await files.CreateUpload(
                file_service_pb2.CreateUploadRequest(
                    display_name="bench",
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    rights_attested=True,
                ),
                metadata=metadata,
            )
            begin = time.perf_counter()
            sent = files.UploadFile(_messages(announced.upload.upload_id, content), metadata=metadata)
            file = (await sent).file
            rates.append(len(content) / _MEGABYTE / (time.perf_counter() - begin))
            assert file.state == file_pb2.File.STATE_VALID
            await files.DeleteFile(
                file_service_pb2.DeleteFileRequest(file_id=file.file_id), metadata=metadata
            )
    return rates


async def _messages(upload_id: str, content: bytes) -> AsyncIterator[file_service_pb2.UploadFileRequest]:
    yield file_service_pb2.UploadFileRequest(start=file_service_pb2.UploadStart(upload_id=upload_id))
    for at in range(0, len(content), _PIECE):
        yield file_service_pb2.UploadFileRequest(chunk=content[at : at + _PIECE])


def _chat(number: int, padding: int) -> bytes:
    messages = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": f"question {number:09} {'q' * max(padding, 0)}"},
        {"role": "assistant", "content": f"answer {number:09}"},
    ]
    return json.dumps({"messages": messages}, separators=(",", ":")).encode() + b"\n"
