"""Options that several commands share, and how words on the command line become values of the contract."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.agents.v1 import agent_service_pb2, agent_service_pb2_grpc
from perron.api.identity.v1 import workspace_pb2, workspace_pb2_grpc
from perron.cli.connection import Connection, RefusedError
from perron.cli.output import enum_word

As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Call with this key of var/credentials.json (operator, gateway) whatever PERRON_API_KEY says.",
    ),
]
Organization = Annotated[
    str,
    typer.Option(
        "--organization", metavar="ORG", help="The organization; customers need not name their own."
    ),
]
Workspace = Annotated[str, typer.Option("--workspace", metavar="WS", help="A workspace of the organization.")]
Key = Annotated[str, typer.Option("--key", metavar="KEY", help="An API key, by id.")]
PrintId = Annotated[bool, typer.Option("--print-id", help="Print the id alone, for a variable.")]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, by id (agt_…) or by an alias.")]
Attested = Annotated[
    bool,
    typer.Option("--attest-name", help="Vouch that you may use the name; without it there is no agent."),
]

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def enum_value(enum: EnumDescriptor, word: str, option: str) -> int:
    """The number of an enum's value, written in any case, with - or _; a usage error names the choices."""
    wanted = word.strip().lower().replace("_", "-")
    words = {enum_word(enum, value.number): value.number for value in enum.values if value.number}
    if wanted not in words:
        raise typer.BadParameter(f"{word!r} is none of {', '.join(words)}", param_hint=option)
    return words[wanted]


def enum_values(enum: EnumDescriptor, words: Iterable[str], option: str) -> list[int]:
    """As `enum_value`, for many; each may itself be a list with commas."""
    return [enum_value(enum, part, option) for word in words for part in word.split(",") if part.strip()]


def instant(words: str, option: str) -> Timestamp | None:
    """An instant written as ISO 8601 or as a time from now (90m, 12h, 30d); None for nothing."""
    if not words:
        return None
    ahead = re.fullmatch(r"([0-9]{1,5})([mhd])", words)
    try:
        when = (
            datetime.now(UTC) + int(ahead[1]) * _UNITS[ahead[2]] if ahead else datetime.fromisoformat(words)
        )
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{words!r} is neither 30d nor 2030-01-31T12:00Z", param_hint=option
        ) from None
    stamp = Timestamp()
    stamp.FromDatetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    return stamp


def organization_of(connection: Connection, named: str) -> str:
    """The organization named, else the one that the caller's key belongs to, found through its workspaces."""
    if named:
        return named
    stub = connection.stub(workspace_pb2_grpc.WorkspaceServiceStub)
    try:
        found = connection.ask(
            stub.ListWorkspaces, workspace_pb2.ListWorkspacesRequest(page_size=1)
        ).workspaces
    except RefusedError as refused:
        if refused.error.reason != "RESOURCE_NOT_FOUND":
            raise
        raise typer.BadParameter("an operator names the organization", param_hint="--organization") from None
    return found[0].organization_id


def agent_of(connection: Connection, word: str) -> str:
    """The id of the agent that a word means: an id, or an alias of the caller's workspace."""
    if word.startswith("agt_"):
        return word
    wanted = word.removeprefix("agent:")
    stub = connection.stub(agent_service_pb2_grpc.AgentServiceStub)
    request = agent_service_pb2.ListAliasesRequest(page_size=1000)
    while True:
        page = connection.ask(stub.ListAliases, request)
        for alias in page.aliases:
            if alias.alias == wanted:
                return alias.agent_id
        if not page.next_page_token:
            raise typer.BadParameter(f"{word!r} is neither an id nor an alias", param_hint="AGENT")
        request.page_token = page.next_page_token
