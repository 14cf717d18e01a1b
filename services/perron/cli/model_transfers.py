"""The two gates through which a model leaves its organization, as an admin opens and shuts them."""

import sys
from typing import Annotated

import typer

from perron.api.finetuning.v1 import model_pb2, model_service_pb2
from perron.cli import options, output
from perron.cli.connection import connect
from perron.cli.output import AsJson
from perron.cli.tuned_models import Model, model_of, stub

_COLUMNS = ("transfer_id", "model_id", "gate", "state", "party", "expire_time", "last_download_time")
_PAGE = 1000
Until = Annotated[
    str, typer.Option(metavar="WHEN", help="Until when it holds: 30d, 12h or an ISO 8601 time.")
]
PrintKey = Annotated[bool, typer.Option("--print-key", help="Print the secret alone, for a variable.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to those of models."""
    for name, command in (
        ("authorize-transfer", authorize_transfer),
        ("record-consent", record_consent),
        ("revoke-transfer", revoke_transfer),
        ("transfers", transfers),
    ):
        app.command(name)(command)


def authorize_transfer(
    model: Model,
    distributor: Annotated[str, typer.Argument(help="A distributor on the operator's list, by name.")],
    until: Until,
    print_key: PrintKey = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Authorize the transfer of a model to a distributor. The key for it is shown this one time."""
    request = model_service_pb2.AuthorizeTransferRequest(
        distributor=distributor, expire_time=options.instant(until, "--until")
    )
    with connect(caller) as connection:
        request.model_id = model_of(connection, model)
        made = connection.ask(stub(connection).AuthorizeTransfer, request)
    _show_made(made.transfer, made.secret, print_key=print_key, as_json=as_json)


def record_consent(
    model: Model,
    party: Annotated[str, typer.Argument(help="Who receives the model.")],
    purpose: Annotated[str, typer.Option(help="What for.")],
    until: Until,
    print_key: PrintKey = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Record your consent to disclose a model to a party. The key for it is shown this one time."""
    request = model_service_pb2.RecordConsentRequest(
        party=party, purpose=purpose, expire_time=options.instant(until, "--until")
    )
    with connect(caller) as connection:
        request.model_id = model_of(connection, model)
        made = connection.ask(stub(connection).RecordConsent, request)
    _show_made(made.transfer, made.secret, print_key=print_key, as_json=as_json)


def revoke_transfer(
    transfer: Annotated[str, typer.Argument(help="The transfer, by id (trf_…).")],
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """End a transfer; a download in progress ends with it."""
    with connect(caller) as connection:
        request = model_service_pb2.RevokeTransferRequest(transfer_id=transfer)
        output.show(connection.ask(stub(connection).RevokeTransfer, request).transfer, as_json=as_json)


def transfers(
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Only of this model; default: of all in the organization.")
    ] = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List transfers, newest first, ended ones included."""
    with connect(caller) as connection:
        model_id = model_of(connection, model) if model else ""
        request = model_service_pb2.ListTransfersRequest(model_id=model_id, page_size=_PAGE)
        found = connection.ask(stub(connection).ListTransfers, request)
    output.show_list(found.transfers, _COLUMNS, as_json=as_json, empty="no transfer")
    if found.next_page_token:
        output.note(f"there are more than {_PAGE}")


def _show_made(transfer: model_pb2.Transfer, secret: str, *, print_key: bool, as_json: bool) -> None:
    if print_key:
        sys.stdout.write(secret + "\n")
    elif as_json:
        output.show({**output.plain(transfer), "secret": secret}, as_json=True)
    else:
        output.show({**output.readable(transfer), "secret": secret}, as_json=False)
        output.note("the secret is shown this one time")
