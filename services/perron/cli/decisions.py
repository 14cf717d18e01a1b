"""Decisions: what may happen to data, listed and explained in words."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from perron.api.governance.v1 import decision_service_pb2, decision_service_pb2_grpc
from perron.cli import options, output
from perron.cli.connection import Connection, connect
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Decisions: what may happen to each exchange, and why.")

_COLUMNS = (
    "decision_id",
    "as_of_time",
    "data_kind",
    "terms_class",
    "training_eligible",
    "licence_end",
    "terms_version",
)


@app.command("list")
def list_decisions(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    organization: options.Organization = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List an organization's decisions, newest first."""
    with connect(caller) as connection:
        stub = connection.stub(decision_service_pb2_grpc.DecisionServiceStub)
        request = decision_service_pb2.ListDecisionsRequest(organization_id=organization, page_size=count)
        found = connection.ask(stub.ListDecisions, request).decisions
    output.show_list(found, _COLUMNS, as_json=as_json, empty="no decision yet")


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(help="The decision, by id (dec_…), or `last`.")] = "last",
    organization: options.Organization = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Explain a decision in words, with the clauses behind it."""
    with connect(caller) as connection:
        explained = explain_decision(connection, decision, organization)
    if as_json:
        output.show(explained, as_json=True)
    else:
        output.answers.print(words(explained))


def explain_decision(
    connection: Connection, decision: str, organization: str = ""
) -> decision_service_pb2.ExplainDecisionResponse:
    """Asks governance to explain; `last` is the organization's newest decision."""
    stub = connection.stub(decision_service_pb2_grpc.DecisionServiceStub)
    if decision == "last":
        request = decision_service_pb2.ListDecisionsRequest(organization_id=organization, page_size=1)
        newest = connection.ask(stub.ListDecisions, request).decisions
        if not newest:
            raise typer.BadParameter("there is no decision yet", param_hint="DECISION")
        decision = newest[0].decision_id
    return connection.ask(
        stub.ExplainDecision,
        decision_service_pb2.ExplainDecisionRequest(organization_id=organization, decision_id=decision),
    )


def words(explained: decision_service_pb2.ExplainDecisionResponse) -> RenderableType:
    """The explanation as paragraphs: what was decided, then each clause and why it applied."""
    lines = [Text(explained.decision.decision_id, style="bold")]
    lines += [Text(f"  {sentence}") for sentence in explained.sentences]
    for clause in explained.clauses:
        line = Text("  clause ", style="dim")
        line.append(clause.clause, style="bold cyan")
        line.append(f"  {clause.clause_text} ({clause.reason_text})")
        lines.append(line)
    return Group(*lines)
