"""`check`: reads every data file of the installation and looks whether they fit each other.

Each service checks its own files when it starts; only here does anybody see that a plan names a tier which
quotas lacks.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import typer

from perron.chassis.errors import SetupError
from perron.cli import output
from perron.cli.output import AsJson


def check(as_json: AsJson = False) -> None:
    """Check plans, documents, tiers, rules and models, as the environment names them, together.

    Prints each file with what it holds; a fault is one line, and exit code 1.
    """
    findings = list(_findings())
    output.show_list(findings, ("file", "holds", "fault"), as_json=as_json, empty="")
    if any(finding["fault"] for finding in findings):
        raise typer.Exit(output.REFUSED)


def _findings() -> Iterator[dict[str, str]]:
    plans, fault = _read("identity", "plans")
    yield _finding("plans", plans and ", ".join(plan.name for plan in plans.all), fault)
    documents, fault = _read("identity", "documents")
    yield _finding(
        "documents", documents and ", ".join(f"{one.name} {one.version}" for one in documents.all), fault
    )
    tiers, fault = _read("quotas", "tiers")
    yield _finding("tiers", tiers and ", ".join(tier.name for tier in tiers), fault)
    rules, fault = _read("governance", "rules")
    yield _finding(
        "rules", rules and ", ".join(f"{one.document} {one.version}" for one in rules.terms), fault
    )
    models, fault = _read("admission", "models")
    yield _finding("models", models and ", ".join(models), fault)
    bases, fault = _read("finetuning", "bases")
    yield _finding(
        "bases to train", bases and (", ".join(one.name for one in bases if one.trainable) or "none"), fault
    )
    distributors, fault = _read("finetuning", "distributors")
    yield _finding(
        "distributors", ", ".join(sorted(distributors or ())) or (None if fault else "none"), fault
    )
    if plans and tiers:
        known = {tier.name for tier in tiers}
        for plan in plans.all:
            if plan.tier not in known:
                yield _finding("plans", f"{plan.name}", f"its tier {plan.tier} is not among the tiers")
    if plans:
        yield from _unread_entitlements(plans)
    if documents and rules:
        offered = {(one.name, one.version) for one in documents.all}
        for terms in rules.terms:
            if (terms.document, terms.version) not in offered:
                yield _finding(
                    "rules",
                    f"{terms.document} {terms.version}",
                    "no organization can accept it: it is not among the documents",
                )


def _unread_entitlements(plans: Any) -> Iterator[dict[str, str]]:
    """Entitlements of plans that a service reads as nothing, which nobody would write on purpose."""
    channels = {one.lower() for one in importlib.import_module("perron.agents.visibility").Channel}
    for plan in plans.all:
        named = {one.strip() for one in plan.entitlements.get("agent_channels", "").split(",")} - {""}
        odd = [f"agent_channels {one}" for one in sorted(named - channels)]
        if plan.entitlements.get("agent_sharing", "none") not in {"workspace", "none"}:
            odd.append("agent_sharing, which is workspace or none")
        if plan.entitlements.get("fine_tuning", "no") not in {"yes", "no"}:
            odd.append("fine_tuning, which is yes or no")
        if plan.entitlements.get("fine_tuning") == "yes":
            odd += [
                f"{count}, which is a number"
                for count in ("fine_tuning_jobs", "fine_tuning_bytes")
                if not plan.entitlements.get(count, "").isdecimal()
            ]
        if odd:
            yield _finding("plans", plan.name, f"gives nothing by {', '.join(odd)}")


def _finding(file: str, holds: str | None, fault: str) -> dict[str, str]:
    return {"file": file, "holds": holds or "", "fault": fault}


def _read(service: str, what: str) -> tuple[Any, str]:
    """What a service reads from a file of its own; None with the fault in one line."""
    try:
        settings = importlib.import_module(f"perron.{service}.settings").Settings.load()
        return _READERS[what](settings), ""
    except SetupError as fault:
        return None, str(fault)


def _plans(settings: Any) -> Any:
    return importlib.import_module("perron.identity.plans").load(settings.plans_file)


def _documents(settings: Any) -> Any:
    return importlib.import_module("perron.identity.documents").load(settings.documents_file)


def _tiers(settings: Any) -> Any:
    return importlib.import_module("perron.quotas.limits").read_tiers(settings.tiers_file)


def _rules(settings: Any) -> Any:
    return importlib.import_module("perron.governance.app").rulebook(settings)


def _models(settings: Any) -> Any:
    return settings.base_models()


def _bases(settings: Any) -> Any:
    files = importlib.import_module("perron.finetuning.operator_files")
    return files.read_base_models(settings.models_file).all()


def _distributors(settings: Any) -> Any:
    files = importlib.import_module("perron.finetuning.operator_files")
    return files.read_distributors(settings.distributors_file)


_READERS = {
    "plans": _plans,
    "documents": _documents,
    "tiers": _tiers,
    "rules": _rules,
    "models": _models,
    "bases": _bases,
    "distributors": _distributors,
}
