"""Organizations: create, list, get, change the plan."""

import sys
from typing import Annotated, cast

import typer

from perron.api.identity.v1 import organization_pb2, organization_pb2_grpc
from perron.cli import options, output
from perron.cli.connection import Connection, connect
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Organizations: the customers of this installation.")

_COLUMNS = ("organization_id", "display_name", "state", "plan", "terms_class", "create_time")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name for people.")],
    email: Annotated[str, typer.Option(help="E-mail address of the first admin.")],
    accept_terms: Annotated[
        bool,
        typer.Option(
            "--accept-terms", help="Accept every document in force; `perron orgs documents` lists them."
        ),
    ] = False,
    use: Annotated[
        list[str], typer.Option(help="What for: personal, internal-business, offering; may be repeated.")
    ] = ["internal-business"],  # noqa: B006 (typer copies it)
    expected_monthly_requests: Annotated[int, typer.Option(min=0, help="Requests expected in a month.")] = 0,
    print_key: Annotated[
        bool, typer.Option("--print-key", help="Print the admin key alone, for a variable.")
    ] = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Create an organization on the free plan, with its admin, a workspace and the admin's key.

    The key is shown this one time. As the operator, or as anybody where sign-up is open.
    """
    uses = options.enum_values(organization_pb2.PermittedUse.DESCRIPTOR, use, "--use")
    with connect(caller) as connection:
        created = create_organization(
            connection,
            name,
            email,
            uses,
            accept=accept_terms,
            expected_monthly_requests=expected_monthly_requests,
        )
    if print_key:
        sys.stdout.write(created.secret + "\n")
        output.note(f"{created.organization.organization_id} is on the plan {created.organization.plan}")
    elif as_json:
        output.show(created, as_json=True)
    else:
        output.show(
            {
                "organization": created.organization.organization_id,
                "workspace": created.workspace.workspace_id,
                "admin": created.admin.member_id,
                "plan": created.organization.plan,
                "key": created.secret,
            },
            as_json=False,
        )
        output.note("the key is shown this one time: export PERRON_API_KEY=<the key>")


def create_organization(
    connection: Connection,
    name: str,
    email: str,
    uses: list[int],
    *,
    accept: bool,
    expected_monthly_requests: int = 0,
) -> organization_pb2.CreateOrganizationResponse:
    """Creates an organization; with `accept`, every document in force is accepted by its published digest."""
    stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
    acceptances = []
    if accept:
        listed = connection.ask(stub.ListDocuments, organization_pb2.ListDocumentsRequest()).documents
        for document in {document.name for document in listed}:
            newest = connection.ask(
                stub.GetDocument, organization_pb2.GetDocumentRequest(name=document)
            ).document
            acceptances.append(
                organization_pb2.DocumentAcceptance(
                    document=document, version=newest.version, text_digest=newest.text_digest
                )
            )
    else:
        raise typer.BadParameter("the documents in force must be accepted first", param_hint="--accept-terms")
    request = organization_pb2.CreateOrganizationRequest(
        display_name=name,
        admin_email=email,
        acceptances=acceptances,
        permitted_uses=cast("list[organization_pb2.PermittedUse.ValueType]", uses),
        expected_monthly_requests=expected_monthly_requests,
    )
    return connection.ask(stub.CreateOrganization, request)


@app.command("list")
def list_organizations(caller: options.As = "", as_json: AsJson = False) -> None:
    """List every organization, oldest first. As an operator."""
    found: list[organization_pb2.Organization] = []
    token = ""
    with connect(caller) as connection:
        stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
        while True:
            request = organization_pb2.ListOrganizationsRequest(page_size=1000, page_token=token)
            page = connection.ask(stub.ListOrganizations, request)
            found.extend(page.organizations)
            token = page.next_page_token
            if not token:
                break
    output.show_list(found, _COLUMNS, as_json=as_json, empty="no organization yet: perron orgs create --help")


@app.command()
def get(
    organization: Annotated[str, typer.Argument(help="The organization; default: the caller's own.")] = "",
    print_id: options.PrintId = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Show one organization: its plan, its subscription, what it accepted."""
    with connect(caller) as connection:
        stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
        wanted = options.organization_of(connection, organization)
        request = organization_pb2.GetOrganizationRequest(organization_id=wanted)
        found = connection.ask(stub.GetOrganization, request).organization
    if print_id:
        sys.stdout.write(found.organization_id + "\n")
    else:
        output.show(found, as_json=as_json)


@app.command("change-plan")
def change_plan(
    organization: Annotated[str, typer.Argument(help="The organization.")],
    plan: Annotated[str, typer.Argument(help="Name of the plan; `perron orgs plans` lists them.")],
    caller: options.As = "operator",
    as_json: AsJson = False,
) -> None:
    """Put an organization on another plan; the next call is judged by it. As an operator (billing)."""
    with connect(caller) as connection:
        stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
        request = organization_pb2.ChangePlanRequest(organization_id=organization, plan=plan)
        output.show(connection.ask(stub.ChangePlan, request).organization, as_json=as_json)


@app.command()
def plans(caller: options.As = "", as_json: AsJson = False) -> None:
    """List the plans of this installation."""
    with connect(caller) as connection:
        stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
        found = connection.ask(stub.ListPlans, organization_pb2.ListPlansRequest()).plans
    columns = ("name", "display_name", "terms_class", "tier", "entitlements")
    output.show_list(found, columns, as_json=as_json, empty="no plan")


@app.command()
def documents(caller: options.As = "", as_json: AsJson = False) -> None:
    """List the documents that organizations accept."""
    with connect(caller) as connection:
        stub = connection.stub(organization_pb2_grpc.OrganizationServiceStub)
        found = connection.ask(stub.ListDocuments, organization_pb2.ListDocumentsRequest()).documents
    columns = ("name", "version", "effective_time", "accept_by_time", "text_digest")
    output.show_list(found, columns, as_json=as_json, empty="no document")
