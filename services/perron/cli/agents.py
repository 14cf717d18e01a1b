"""Agents: made from files, versioned, compared, exported and deleted."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.cli import agent_access, agent_aliases, agent_files, differences, options, output
from perron.cli.agent_files import AgentFile
from perron.cli.connection import Connection, RefusedError, connect
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Agents: named, versioned configurations over a model.")

_COLUMNS = ("agent_id", "display_name", "state", "latest_version", "effective_sharing_mode", "update_time")
_VERSION_COLUMNS = ("version", "author_member_id", "create_time", "restored_version", "third_parties")
_PAGE = 1000
File = Annotated[
    Path,
    typer.Argument(help="The agent as a document, in YAML or JSON; - reads standard input."),
]
Version = Annotated[int, typer.Option("--version", min=0, help="The version; 0 is the latest.")]
Etag = Annotated[str, typer.Option("--etag", help="Only where the agent still has this etag.")]


def _stub(connection: Connection) -> agent_service_pb2_grpc.AgentServiceStub:
    return connection.stub(agent_service_pb2_grpc.AgentServiceStub)


@app.command()
def create(
    file: File,
    attest_name: options.Attested = False,
    print_id: options.PrintId = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Create an agent from a file in YAML or JSON: shared with the workspace, published as the plan goes."""
    document = agent_files.read(file)
    with connect(caller) as connection:
        request = agent_service_pb2.CreateAgentRequest(
            display_name=document.document.display_name,
            name_attested=attest_name,
            configuration=document.document.configuration,
        )
        agent = _explained(document, lambda: connection.ask(_stub(connection).CreateAgent, request)).agent
    if print_id:
        sys.stdout.write(agent.agent_id + "\n")
    else:
        output.show(agent, as_json=as_json)


@app.command("import")
def import_agent(
    file: File, attest_name: options.Attested = False, caller: options.As = "", as_json: AsJson = False
) -> None:
    """Make an agent from a document that `export` wrote, here or elsewhere."""
    document = agent_files.read(file)
    with connect(caller) as connection:
        request = agent_service_pb2.ImportAgentRequest(document=document.document, name_attested=attest_name)
        answer = _explained(document, lambda: connection.ask(_stub(connection).ImportAgent, request))
    output.show(answer.agent, as_json=as_json)


@app.command("list")
def list_agents(
    count: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many, newest first.")] = 100,
    owner: Annotated[str, typer.Option(help="Only agents of this member.")] = "",
    state: Annotated[str, typer.Option(help="Only active or disabled ones.")] = "",
    channel: Annotated[str, typer.Option(help="Only those published to api or chat.")] = "",
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the agents that the caller may see; operators name organization and workspace."""
    request = agent_service_pb2.ListAgentsRequest(
        organization_id=organization,
        workspace_id=workspace,
        owner_member_id=owner,
        order=agent_service_pb2.ListAgentsRequest.ORDER_CREATE_TIME_DESCENDING,
        page_size=count,
    )
    if state:
        request.state = cast("Any", options.enum_value(agent_pb2.Agent.State.DESCRIPTOR, state, "--state"))
    if channel:
        request.channel = cast("Any", options.enum_value(roles_pb2.Channel.DESCRIPTOR, channel, "--channel"))
    with connect(caller) as connection:
        answer = connection.ask(_stub(connection).ListAgents, request)
    output.show_list(
        answer.agents, _COLUMNS, as_json=as_json, empty="no agent yet: perron agents create --help"
    )
    if answer.next_page_token:
        output.note(f"there are more than {count}")


@app.command()
def show(
    agent: options.Agent,
    version: Version = 0,
    case: Annotated[str, typer.Option("--case", help="For operators: the case in which they read.")] = "",
    organization: options.Organization = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Show an agent and what is said to it; an operator reads that in a case alone (legal)."""
    with connect(caller) as connection:
        stub, wanted = _stub(connection), options.agent_of(connection, agent)
        get = agent_service_pb2.GetAgentRequest(organization_id=organization, agent_id=wanted)
        found = connection.ask(stub.GetAgent, get).agent
        read = None
        if case or not organization:
            request = agent_service_pb2.GetAgentVersionRequest(
                organization_id=organization, agent_id=wanted, version=version, case_reference=case
            )
            read = connection.ask(stub.GetAgentVersion, request).version
    if as_json:
        fields = {"agent": output.plain(found)} | ({"version": output.plain(read)} if read else {})
        output.show(fields, as_json=True)
        return
    output.show(found, as_json=False)
    if read is not None:
        output.answers.print(f"\n[bold]version {read.version}[/bold]")
        output.answers.print(agent_files.written(read.configuration), markup=False)


@app.command()
def versions(agent: options.Agent, caller: options.As = "", as_json: AsJson = False) -> None:
    """List the versions of an agent, newest first."""
    with connect(caller) as connection:
        request = agent_service_pb2.ListAgentVersionsRequest(
            agent_id=options.agent_of(connection, agent), page_size=_PAGE
        )
        found = connection.ask(_stub(connection).ListAgentVersions, request).versions
    output.show_list(found, _VERSION_COLUMNS, as_json=as_json, empty="no version")


@app.command()
def update(
    agent: options.Agent,
    file: Annotated[
        Path | None, typer.Argument(help="The new configuration, as a document; its name is not read.")
    ] = None,
    name: Annotated[str, typer.Option(help="A new name.")] = "",
    attest_name: options.Attested = False,
    owner: Annotated[str, typer.Option(help="A new owner, a member of the workspace (admins).")] = "",
    etag: Etag = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Change an agent; a file becomes its next version, and earlier versions stay as they are."""
    document = agent_files.read(file) if file is not None else None
    given = {"configuration": document, "display_name": name, "owner_member_id": owner}
    request = agent_service_pb2.UpdateAgentRequest(
        etag=etag, display_name=name, name_attested=attest_name, owner_member_id=owner
    )
    request.update_mask.paths.extend(field for field, value in given.items() if value)
    if not request.update_mask.paths:
        raise typer.BadParameter("nothing to change: give a file, --name or --owner", param_hint="FILE")
    if document is not None:
        request.configuration.CopyFrom(document.document.configuration)
    with connect(caller) as connection:
        request.agent_id = options.agent_of(connection, agent)
        answer = _explained(document, lambda: connection.ask(_stub(connection).UpdateAgent, request))
    output.show(answer.agent, as_json=as_json)


@app.command()
def diff(
    agent: options.Agent,
    before: Annotated[int, typer.Argument(min=0, help="A version; default: the one before AFTER.")] = 0,
    after: Annotated[int, typer.Argument(min=0, help="Another version; default: the latest.")] = 0,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: texts line by line, all else as tables."""
    with connect(caller) as connection:
        wanted = options.agent_of(connection, agent)
        new = version_of(connection, wanted, after)
        if not before and new.version == 1:
            raise typer.BadParameter("the first version differs from nothing", param_hint="BEFORE")
        old = version_of(connection, wanted, before or new.version - 1)
    found = differences.changes(old.configuration, new.configuration)
    if as_json:
        rows = [{"field": one.field, "before": one.before, "after": one.after} for one in found]
        output.show(
            {"agent_id": wanted, "before": old.version, "after": new.version, "changes": rows}, as_json=True
        )
    elif found:
        output.answers.print(
            differences.drawn(found, f"version {old.version}", f"version {new.version}"), end=""
        )
    else:
        output.note(f"versions {old.version} and {new.version} are the same")


def version_of(connection: Connection, agent: str, version: int) -> agent_pb2.AgentVersion:
    """One version of an agent with its configuration; 0 is the latest."""
    request = agent_service_pb2.GetAgentVersionRequest(agent_id=agent, version=version)
    return connection.ask(_stub(connection).GetAgentVersion, request).version


@app.command()
def restore(
    agent: options.Agent,
    version: Annotated[int, typer.Argument(min=1, help="The version to restore.")],
    attest_name: options.Attested = False,
    etag: Etag = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Make a new version with the configuration of an earlier one."""
    with connect(caller) as connection:
        request = agent_service_pb2.RestoreAgentVersionRequest(
            agent_id=options.agent_of(connection, agent),
            version=version,
            etag=etag,
            name_attested=attest_name,
        )
        output.show(connection.ask(_stub(connection).RestoreAgentVersion, request).agent, as_json=as_json)


@app.command()
def export(
    agent: options.Agent, version: Version = 0, caller: options.As = "", as_json: AsJson = False
) -> None:
    """Print a version as a document that `import` reads, in YAML or, with --json, in JSON."""
    with connect(caller) as connection:
        request = agent_service_pb2.ExportAgentRequest(
            agent_id=options.agent_of(connection, agent), version=version
        )
        document = connection.ask(_stub(connection).ExportAgent, request).document
    if as_json:
        output.show(document, as_json=True)
    else:
        sys.stdout.write(agent_files.written(document))


@app.command()
def delete(agent: options.Agent, etag: Etag = "", caller: options.As = "", as_json: AsJson = False) -> None:
    """Delete an agent for good: it is used, read and listed no more, and what was said to it is destroyed."""
    with connect(caller) as connection:
        request = agent_service_pb2.DeleteAgentRequest(
            agent_id=options.agent_of(connection, agent), etag=etag
        )
        output.show(connection.ask(_stub(connection).DeleteAgent, request), as_json=as_json)


def _explained(document: AgentFile | None, ask: Callable[[], Any]) -> Any:
    """What a call answers; where it refuses a document, the lines of the file are said too."""
    try:
        return ask()
    except RefusedError as refused:
        for fault in document.faults(refused.error) if document is not None else ():
            output.note(fault)
        raise


agent_access.add_to(app)
app.add_typer(agent_aliases.app, name="alias")
