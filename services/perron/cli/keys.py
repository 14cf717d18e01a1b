"""API keys: create, list, revoke; keys of services and operators."""

import sys
from typing import Annotated, cast

import typer

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.cli import options, output
from perron.cli.connection import connect
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="API keys: minted, listed and revoked, never shown twice.")

_COLUMNS = ("key_id", "display_name", "kind", "state", "scopes", "expire_time")
PrintKey = Annotated[bool, typer.Option("--print-key", help="Print the secret alone, for a variable.")]
Expires = Annotated[
    str, typer.Option(metavar="WHEN", help="When it stops working: 30d, 12h or an ISO 8601 time.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name for people.")],
    scope: Annotated[
        list[str],
        typer.Option(help="What it may be used for: inference, keys-read, data-write, …; may be repeated."),
    ] = ["inference"],  # noqa: B006 (typer copies it)
    model: Annotated[list[str], typer.Option(help="A model it may name; default: any of yours.")] = [],  # noqa: B006
    network: Annotated[list[str], typer.Option(help="A network, as CIDR, it may call from.")] = [],  # noqa: B006
    expires: Expires = "",
    workspace: options.Workspace = "",
    owner: Annotated[str, typer.Option(metavar="MEMBER", help="Who owns it; default: you.")] = "",
    print_key: PrintKey = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Mint a key, never wider than the one it is minted with. Its secret is shown this one time."""
    request = api_key_pb2.CreateApiKeyRequest(
        display_name=name,
        scopes=cast(
            "list[roles_pb2.Scope.ValueType]",
            options.enum_values(roles_pb2.Scope.DESCRIPTOR, scope, "--scope"),
        ),
        allowed_models=model,
        allowed_networks=network,
        expire_time=options.instant(expires, "--expires"),
        workspace_id=workspace,
        owner_member_id=owner,
    )
    with connect(caller) as connection:
        created = connection.ask(connection.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreateApiKey, request)
    _show_created(created.key, created.secret, print_key=print_key, as_json=as_json)


@app.command("create-platform")
def create_platform(
    name: Annotated[str, typer.Argument(help="Name for people; for a service key also the service's name.")],
    role: Annotated[
        list[str],
        typer.Option(help="Make it an operator's key with this role: admin, billing, …; may be repeated."),
    ] = [],  # noqa: B006 (typer copies it)
    expires: Expires = "",
    print_key: PrintKey = False,
    caller: options.As = "operator",
    as_json: AsJson = False,
) -> None:
    """Mint a key of the installation: for a gateway or service, or with --role for an operator."""
    request = api_key_pb2.CreatePlatformKeyRequest(
        display_name=name, expire_time=options.instant(expires, "--expires")
    )
    if role:
        numbers = options.enum_values(roles_pb2.OperatorRole.DESCRIPTOR, role, "--role")
        request.operator.roles.extend(cast("list[roles_pb2.OperatorRole.ValueType]", numbers))
    else:
        request.service.name = name
    with connect(caller) as connection:
        created = connection.ask(
            connection.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreatePlatformKey, request
        )
    _show_created(created.key, created.secret, print_key=print_key, as_json=as_json)


@app.command("list")
def list_keys(
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the keys that you may see, oldest first; for operators, those of the installation by default."""
    found: list[api_key_pb2.ApiKey] = []
    token = ""
    with connect(caller) as connection:
        stub = connection.stub(api_key_pb2_grpc.ApiKeyServiceStub)
        while True:
            request = api_key_pb2.ListApiKeysRequest(
                organization_id=organization, workspace_id=workspace, page_size=1000, page_token=token
            )
            page = connection.ask(stub.ListApiKeys, request)
            found.extend(page.keys)
            token = page.next_page_token
            if not token:
                break
    output.show_list(found, _COLUMNS, as_json=as_json, empty="no key")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key, by id: key_…")],
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Revoke a key and every key minted with it; the next call with any of them is refused."""
    with connect(caller) as connection:
        stub = connection.stub(api_key_pb2_grpc.ApiKeyServiceStub)
        revoked = connection.ask(stub.RevokeApiKey, api_key_pb2.RevokeApiKeyRequest(key_id=key)).key
    output.show(revoked, as_json=as_json)


def _show_created(key: api_key_pb2.ApiKey, secret: str, *, print_key: bool, as_json: bool) -> None:
    if print_key:
        sys.stdout.write(secret + "\n")
    elif as_json:
        output.show({**output.plain(key), "secret": secret}, as_json=True)
    else:
        output.show({**output.readable(key), "secret": secret}, as_json=False)
        output.note("the secret is shown this one time")
