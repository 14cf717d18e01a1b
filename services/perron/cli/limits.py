"""Limits and usage: what holds, where it comes from, how much is left, and caps of one's own."""

from typing import Annotated, Any, cast

import typer

from perron.api.quotas.v1 import (
    limit_pb2,
    limit_service_pb2,
    limit_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from perron.cli import options, output
from perron.cli.connection import connect
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Limits: of the plan, of operators and of your own.")

_COLUMNS = ("scope", "model", "metric", "window", "amount", "origin")
_USAGE_COLUMNS = ("scope", "model", "metric", "window", "used", "amount", "remaining", "reset_time")
_SUSPENSION_COLUMNS = ("suspension_id", "state", "limit", "create_time", "reset_time", "close_time")
Model = Annotated[str, typer.Option("--model", help="The one model that is limited; default: all together.")]
Metric = Annotated[str, typer.Argument(help="requests or tokens.")]
Window = Annotated[str, typer.Argument(help="second, minute, hour, day or month.")]


@app.command("list")
def list_limits(
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the limits that hold, with the origin of each: an upgrade lifts those of the plan, never a cap."""
    with connect(caller) as connection:
        request = limit_service_pb2.ListLimitsRequest(
            organization_id=options.organization_of(connection, organization),
            workspace_id=workspace,
            key_id=key,
        )
        answer = connection.ask(connection.stub(limit_service_pb2_grpc.LimitServiceStub).ListLimits, request)
    output.note(f"tier {answer.tier}")
    output.show_list(answer.limits, _COLUMNS, as_json=as_json, empty="no limit")


@app.command()
def tiers(caller: options.As = "", as_json: AsJson = False) -> None:
    """List what every tier admits, as published."""
    with connect(caller) as connection:
        stub = connection.stub(limit_service_pb2_grpc.LimitServiceStub)
        found = connection.ask(stub.ListTiers, limit_service_pb2.ListTiersRequest()).tiers
    if as_json:
        output.show_list(found, (), as_json=True, empty="")
        return
    rows = [{"tier": tier.name, **output.readable(limit)} for tier in found for limit in tier.limits]
    output.show_list(rows, ("tier", *_COLUMNS), as_json=False, empty="no tier")


@app.command("set-cap")
def set_cap(
    metric: Metric,
    window: Window,
    amount: Annotated[int, typer.Argument(min=0, help="How much is admitted.")],
    model: Model = "",
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Set a limit of your own, narrower than the plan's; the next call is bound by it."""
    with connect(caller) as connection:
        request = limit_service_pb2.SetCapRequest(
            organization_id=options.organization_of(connection, organization),
            workspace_id=workspace,
            key_id=key,
            model=model,
            metric=_metric(metric),
            window=_window(window),
            amount=amount,
        )
        answer = connection.ask(connection.stub(limit_service_pb2_grpc.LimitServiceStub).SetCap, request)
    output.show(answer.cap, as_json=as_json)


@app.command("delete-cap")
def delete_cap(
    metric: Metric,
    window: Window,
    model: Model = "",
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Delete a cap; what the plan admits holds again."""
    with connect(caller) as connection:
        request = limit_service_pb2.DeleteCapRequest(
            organization_id=options.organization_of(connection, organization),
            workspace_id=workspace,
            key_id=key,
            model=model,
            metric=_metric(metric),
            window=_window(window),
        )
        connection.ask(connection.stub(limit_service_pb2_grpc.LimitServiceStub).DeleteCap, request)
    output.show({"deleted": True}, as_json=as_json)


@app.command("set-override")
def set_override(
    organization: Annotated[str, typer.Argument(help="The organization.")],
    metric: Metric,
    window: Window,
    amount: Annotated[int, typer.Argument(min=0, help="How much is admitted in place of the plan's amount.")],
    model: Model = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    caller: options.As = "operator",
    as_json: AsJson = False,
) -> None:
    """Replace the plan's amount for one organization, workspace or key. As an operator (billing)."""
    request = limit_service_pb2.SetOverrideRequest(
        organization_id=organization,
        workspace_id=workspace,
        key_id=key,
        model=model,
        metric=_metric(metric),
        window=_window(window),
        amount=amount,
    )
    with connect(caller) as connection:
        answer = connection.ask(connection.stub(limit_service_pb2_grpc.LimitServiceStub).SetOverride, request)
    output.show(answer.override, as_json=as_json)


@app.command("delete-override")
def delete_override(
    organization: Annotated[str, typer.Argument(help="The organization.")],
    metric: Metric,
    window: Window,
    model: Model = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    caller: options.As = "operator",
    as_json: AsJson = False,
) -> None:
    """Delete an override; the plan's amount holds again. As an operator (billing)."""
    request = limit_service_pb2.DeleteOverrideRequest(
        organization_id=organization,
        workspace_id=workspace,
        key_id=key,
        model=model,
        metric=_metric(metric),
        window=_window(window),
    )
    with connect(caller) as connection:
        connection.ask(connection.stub(limit_service_pb2_grpc.LimitServiceStub).DeleteOverride, request)
    output.show({"deleted": True}, as_json=as_json)


def usage(
    organization: options.Organization = "",
    workspace: options.Workspace = "",
    key: options.Key = "",
    suspensions: Annotated[bool, typer.Option("--suspensions", help="List suspensions instead.")] = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Show what was used of each limit, or where use was stopped."""
    with connect(caller) as connection:
        stub = connection.stub(usage_service_pb2_grpc.UsageServiceStub)
        named = options.organization_of(connection, organization)
        if suspensions:
            listed = connection.ask(
                stub.ListSuspensions,
                usage_service_pb2.ListSuspensionsRequest(
                    organization_id=named, workspace_id=workspace, page_size=1000
                ),
            ).suspensions
            output.show_list(listed, _SUSPENSION_COLUMNS, as_json=as_json, empty="never suspended")
            return
        request = usage_service_pb2.GetUsageRequest(organization_id=named, workspace_id=workspace, key_id=key)
        usages = connection.ask(stub.GetUsage, request).usages
    if as_json:
        output.show_list(usages, (), as_json=True, empty="")
    else:
        rows = [_usage_row(usage) for usage in usages]
        output.show_list(rows, _USAGE_COLUMNS, as_json=False, empty="no limit, so nothing is counted")


def _usage_row(usage: usage_service_pb2.LimitUsage) -> dict[str, Any]:
    status = output.readable(usage.status)
    return {**status.pop("limit", {}), "used": usage.used, "remaining": usage.status.remaining, **status}


def _metric(word: str) -> "limit_pb2.Metric.ValueType":
    return cast("limit_pb2.Metric.ValueType", options.enum_value(limit_pb2.Metric.DESCRIPTOR, word, "METRIC"))


def _window(word: str) -> "limit_pb2.Window.ValueType":
    return cast("limit_pb2.Window.ValueType", options.enum_value(limit_pb2.Window.DESCRIPTOR, word, "WINDOW"))
