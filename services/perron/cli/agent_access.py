"""Who may use an agent and where: sharing, channels, what operators forbid, and third parties."""

from typing import Annotated, Any, cast

import typer
from google.protobuf.message import Message

from perron.api.agents.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
)
from perron.api.common.v1 import roles_pb2
from perron.cli import options, output
from perron.cli.connection import Connection, connect
from perron.cli.output import AsJson

_PAGE = 1000
_MODES = {
    "workspace": agent_pb2.SHARING_MODE_WORKSPACE,
    "members": agent_pb2.SHARING_MODE_RESTRICTED,
}
Channel = Annotated[str, typer.Argument(help="api or chat.")]
Organization = Annotated[str, typer.Argument(help="The organization that the agent belongs to.")]
AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, by id (agt_…).")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to those of agents."""
    for name, command in (
        ("share", share),
        ("publish", publish),
        ("unpublish", unpublish),
        ("third-parties", third_parties),
        ("disable", disable),
        ("enable", enable),
        ("reserved-names", reserved_names),
    ):
        app.command(name)(command)


def _agents(connection: Connection) -> agent_service_pb2_grpc.AgentServiceStub:
    return connection.stub(agent_service_pb2_grpc.AgentServiceStub)


def _sharing(connection: Connection) -> sharing_service_pb2_grpc.SharingServiceStub:
    return connection.stub(sharing_service_pb2_grpc.SharingServiceStub)


def share(
    agent: options.Agent,
    mode: Annotated[str, typer.Argument(help="workspace, or members; default: show how it is shared.")] = "",
    members: Annotated[
        list[str] | None,
        typer.Argument(metavar="MEMBER", help="With `members`: who may use it; none: its owner and admins."),
    ] = None,
    etag: Annotated[str, typer.Option("--etag", help="Only where the agent still has this etag.")] = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Share an agent with its workspace, or restrict it to members; the next call is bound by it.

    Its owner and the workspace's admins may always use it.
    """
    if mode and mode not in _MODES:
        raise typer.BadParameter(f"{mode!r} is none of {', '.join(_MODES)}", param_hint="MODE")
    if members and mode != "members":
        raise typer.BadParameter("with `members` alone", param_hint="MEMBER")
    with connect(caller) as connection:
        stub, wanted = _sharing(connection), options.agent_of(connection, agent)
        if not mode:
            get = sharing_service_pb2.GetSharingRequest(agent_id=wanted)
            sharing = connection.ask(stub.GetSharing, get).sharing
        else:
            request = sharing_service_pb2.SetSharingRequest(
                agent_id=wanted, mode=_MODES[mode], member_ids=members or (), etag=etag
            )
            sharing = connection.ask(stub.SetSharing, request).sharing
    output.show(sharing, as_json=as_json)


def publish(agent: options.Agent, channel: Channel, caller: options.As = "", as_json: AsJson = False) -> None:
    """Publish an agent to a channel, as far as the plan goes."""
    with connect(caller) as connection:
        request = agent_service_pb2.PublishAgentRequest(
            agent_id=options.agent_of(connection, agent), channel=_channel(channel)
        )
        output.show(connection.ask(_agents(connection).PublishAgent, request).agent, as_json=as_json)


def unpublish(
    agent: options.Agent, channel: Channel, caller: options.As = "", as_json: AsJson = False
) -> None:
    """Take an agent back from a channel."""
    with connect(caller) as connection:
        request = agent_service_pb2.UnpublishAgentRequest(
            agent_id=options.agent_of(connection, agent), channel=_channel(channel)
        )
        output.show(connection.ask(_agents(connection).UnpublishAgent, request).agent, as_json=as_json)


def third_parties(
    acknowledge: Annotated[
        str, typer.Option(metavar="PARTY", help="Say that you know of it: web_search, connector:<name>.")
    ] = "",
    withdraw: Annotated[str, typer.Option(metavar="PARTY", help="Take that back.")] = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the third parties that the workspace knows to receive what its agents are told."""
    with connect(caller) as connection:
        stub = _sharing(connection)
        if acknowledge:
            known = sharing_service_pb2.AcknowledgeThirdPartyRequest(third_party=acknowledge)
            connection.ask(stub.AcknowledgeThirdParty, known)
        if withdraw:
            gone = sharing_service_pb2.WithdrawAcknowledgementRequest(third_party=withdraw)
            connection.ask(stub.WithdrawAcknowledgement, gone)
        request = sharing_service_pb2.ListAcknowledgementsRequest(page_size=_PAGE)
        found = connection.ask(stub.ListAcknowledgements, request).acknowledgements
    columns = ("third_party", "member_id", "create_time")
    output.show_list(found, columns, as_json=as_json, empty="no third party is acknowledged")


def disable(
    organization: Organization,
    agent: AgentId,
    reason: Annotated[str, typer.Argument(help="Why; its owner reads it.")],
    caller: options.As = "operator",
    as_json: AsJson = False,
) -> None:
    """Disable an agent for everybody until it is enabled again. As an operator (admin)."""
    request = agent_service_pb2.DisableAgentRequest(
        organization_id=organization, agent_id=agent, reason=reason
    )
    with connect(caller) as connection:
        output.show(connection.ask(_agents(connection).DisableAgent, request).agent, as_json=as_json)


def enable(
    organization: Organization, agent: AgentId, caller: options.As = "operator", as_json: AsJson = False
) -> None:
    """Let a disabled agent be used again. As an operator (admin)."""
    request = agent_service_pb2.EnableAgentRequest(organization_id=organization, agent_id=agent)
    with connect(caller) as connection:
        output.show(connection.ask(_agents(connection).EnableAgent, request).agent, as_json=as_json)


def reserved_names(
    add: Annotated[
        list[str] | None, typer.Option(help="Reserve a name; may be repeated (operators).")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Free a name; may be repeated (operators).")
    ] = None,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the names that no agent and no alias may bear or look like; operators change them (admin)."""
    names: list[str] = []
    with connect(caller) as connection:
        stub = _agents(connection)
        if add or remove:
            change = agent_service_pb2.SetReservedNamesRequest(add=add or (), remove=remove or ())
            connection.ask(stub.SetReservedNames, change)
        request = agent_service_pb2.ListReservedNamesRequest(page_size=_PAGE)
        while True:
            page = connection.ask(stub.ListReservedNames, request)
            names.extend(page.names)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    rows: list[Message | dict[str, Any]] = [{"name": name} for name in names]
    output.show_list(rows, ("name",), as_json=as_json, empty="no name is reserved")


def _channel(word: str) -> "roles_pb2.Channel.ValueType":
    return cast(
        "roles_pb2.Channel.ValueType", options.enum_value(roles_pb2.Channel.DESCRIPTOR, word, "CHANNEL")
    )
