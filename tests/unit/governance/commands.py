"""What unit tests of governance ask for, and by whom."""

from dataclasses import replace
from typing import Any

from perron.chassis.ids import new_id, to_bytes
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.testing import FakeClock
from perron.governance.model import (
    Channel,
    DataKind,
    DecideCommand,
    Decision,
    PutCommand,
    Standing,
    TermsClass,
)

DOCUMENTS = (("additional-terms", "2025-02-06"),)
ORGANIZATION = new_id("org")
WORKSPACE = new_id("ws")
OPERATOR = Call(Caller(CallerKind.OPERATOR, key_id="key_o"), "perron.api.governance.v1.DirectiveService/Test")
ADMIN = Call(
    Caller(CallerKind.CUSTOMER, key_id="key_a", organization_id=ORGANIZATION, organization_role="ADMIN"),
    "perron.api.governance.v1.DirectiveService/Test",
)


def decide_command(clock: FakeClock, **fields: Any) -> DecideCommand:
    command = DecideCommand(
        organization_id=ORGANIZATION,
        workspace_id=WORKSPACE,
        plan="free",
        terms_class=TermsClass.FREE,
        subscription_id="",
        documents=DOCUMENTS,
        as_of_us=clock.now_us(),
        data_kind=DataKind.INFERENCE,
        channel=Channel.API,
        model="",
        data_subject="",
        in_flight_until_us=0,
        caller_key_id="key_gateway",
        request_id="",
    )
    return replace(command, **fields)


def put_command(decision: Decision, **fields: Any) -> PutCommand:
    command = PutCommand(
        organization_id=decision.ruling.organization_id,
        decision=decision.decision,
        model="small",
        agent_id="",
        agent_version=0,
        input=b"question",
        output=b"answer",
    )
    return replace(command, **fields)


def standing(**fields: Any) -> Standing:
    free = Standing(ORGANIZATION, True, True, "free", TermsClass.FREE, "", DOCUMENTS)
    return replace(free, **fields)


def raw_id() -> bytes:
    return to_bytes(new_id("dec"))
