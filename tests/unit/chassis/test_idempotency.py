import asyncio
import uuid
from datetime import timedelta

import pytest

from perron.api.common.v1 import audit_service_pb2
from perron.chassis import idempotency
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import InvalidArgument
from perron.chassis.idempotency import IdempotentRequest, identify
from perron.chassis.testing import BOTH, FakeClock, customer_call

REQUEST_ID = uuid.UUID("0190f5a0-7d3b-7c4e-8a52-2f9c1f9b3e11")


def request(digest: bytes = b"body", caller: str = "key_a") -> IdempotentRequest:
    return IdempotentRequest(caller=caller, method="Create", request_id=REQUEST_ID.bytes, digest=digest)


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_repetition_finds_the_resource_of_the_first_call(database: Database) -> None:
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_1")) is None
    assert await database.write(lambda tx: idempotency.claim(tx, request(), "res_2")) == "res_1"
