"""Aliases: names under which gateways ask for one version of an agent, or for its latest."""

from typing import Annotated

import typer

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from perron.cli import options, output
from perron.cli.connection import Connection, connect
from perron.cli.output import AsJson

app = typer.Typer(
    no_args_is_help=True, help="Aliases: a gateway's `agent:<alias>` is one version, or the latest."
)

_COLUMNS = ("alias", "agent_id", "version", "update_time")
_PAGE = 1000
Name = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, without `agent:`.")]
Version = Annotated[
    int, typer.Option("--version", min=0, help="The version; 0: the latest, whichever it is then.")
]


def _stub(connection: Connection) -> agent_service_pb2_grpc.AgentServiceStub:
    return connection.stub(agent_service_pb2_grpc.AgentServiceStub)


@app.command()
def create(
    alias: Name,
    agent: options.Agent,
    version: Version = 0,
    attest_name: options.Attested = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Create an alias for an agent."""
    with connect(caller) as connection:
        request = agent_service_pb2.CreateAliasRequest(
            alias=alias,
            agent_id=options.agent_of(connection, agent),
            version=version,
            name_attested=attest_name,
        )
        output.show(connection.ask(_stub(connection).CreateAlias, request).alias, as_json=as_json)


@app.command()
def move(
    alias: Name,
    agent: options.Agent,
    version: Version = 0,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Move an alias to another version or agent, at once for every caller."""
    with connect(caller) as connection:
        request = agent_service_pb2.MoveAliasRequest(
            alias=alias, agent_id=options.agent_of(connection, agent), version=version
        )
        output.show(connection.ask(_stub(connection).MoveAlias, request).alias, as_json=as_json)


@app.command()
def delete(alias: Name, caller: options.As = "", as_json: AsJson = False) -> None:
    """Delete an alias; its name is free again."""
    with connect(caller) as connection:
        request = agent_service_pb2.DeleteAliasRequest(alias=alias)
        connection.ask(_stub(connection).DeleteAlias, request)
    output.show({"deleted": True}, as_json=as_json)


@app.command("list")
def list_aliases(caller: options.As = "", as_json: AsJson = False) -> None:
    """List the workspace's aliases of agents that the caller may see; version 0 is the latest."""
    found: list[agent_pb2.Alias] = []
    request = agent_service_pb2.ListAliasesRequest(page_size=_PAGE)
    with connect(caller) as connection:
        while True:
            page = connection.ask(_stub(connection).ListAliases, request)
            found.extend(page.aliases)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    output.show_list(found, _COLUMNS, as_json=as_json, empty="no alias yet")
