"""Plays the gateway once: Admit, then Complete, as a model gateway does around every inference."""

import os
import sys
from typing import Annotated

import typer

from perron.api.admission.v1 import admission_service_pb2, admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.chassis.errors import SetupError
from perron.cli import output, samples
from perron.cli.connection import KEY_VARIABLE, Connection, Credential, credential, endpoints
from perron.cli.output import AsJson

GATEWAY_VARIABLE = "PERRON_GATEWAY_KEY"


def admit(
    question: Annotated[str, typer.Argument(help="What is asked; - reads standard input.")],
    model: Annotated[
        str, typer.Option(help="What is asked for: a model, or an agent by id or as agent:<alias>.")
    ] = "small-1",
    answer: Annotated[
        str, typer.Option(help="What the model is said to have answered.")
    ] = "(no model was asked)",
    as_json: AsJson = False,
) -> None:
    """Admit one exchange with the customer's key in PERRON_API_KEY and complete it, as a gateway does.

    The gateway's own key is PERRON_GATEWAY_KEY, else that of var/credentials.json.
    """
    customer = os.environ.get(KEY_VARIABLE, "").strip()
    if not customer:
        raise SetupError(f"set {KEY_VARIABLE} to a customer's key: perron orgs create --help")
    text = sys.stdin.read() if question == "-" else question
    gateway = _gateway()
    output.note(f"as {gateway.origin}, for the customer of {KEY_VARIABLE}")
    with Connection(gateway, endpoints(), one_trace=True) as connection:
        stub = connection.stub(admission_service_pb2_grpc.AdmissionServiceStub)
        admitted = connection.ask(
            stub.Admit,
            admission_service_pb2.AdmitRequest(
                credential=customer,
                model=model,
                estimated_tokens=samples.tokens(text) + samples.tokens(answer),
                channel=roles_pb2.CHANNEL_API,
            ),
        )
        request = admission_service_pb2.CompleteRequest(
            admission_id=admitted.admission_id, tokens=samples.tokens(text) + samples.tokens(answer)
        )
        if admitted.keep_content:
            request.content.CopyFrom(
                admission_service_pb2.Content(input=text.encode(), output=answer.encode())
            )
        completed = connection.ask(stub.Complete, request)
    if as_json:
        output.show({"admitted": output.plain(admitted), "completed": output.plain(completed)}, as_json=True)
        return
    decision = admitted.decision
    agent = f"{admitted.agent.agent_id}, version {admitted.agent.version}, on "
    output.show(
        {
            "admitted": (agent if admitted.HasField("agent") else "") + admitted.effective_model,
            "decision": decision.decision_id,
            "training": "eligible" if decision.training_eligible else "not eligible",
            "settled": f"{completed.settled_tokens} tokens",
            "record": completed.record_id or "none is kept",
        },
        as_json=False,
    )
    output.note(f"perron decisions explain {decision.decision_id}   perron trace {connection.trace_id}")


def _gateway() -> Credential:
    secret = os.environ.get(GATEWAY_VARIABLE, "").strip()
    return Credential(secret, GATEWAY_VARIABLE) if secret else credential("gateway")
