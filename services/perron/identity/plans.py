"""Plans: what an organization can be on, from the installation's plans file.

A plan is a name on the wire. One that an organization is on and the file no longer has is no error here:
its terms class is UNSPECIFIED, which every decision takes for the most restrictive.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perron.chassis.errors import SetupError
from perron.identity.model import TermsClass
from perron.identity.records import Record, read_records


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan: its terms, its tier of limits, and what else it gives by name."""

    name: str
    display_name: str
    terms_class: TermsClass
    tier: str
    entitlements: Mapping[str, str] = field(default_factory=dict)


UNKNOWN_PLAN = Plan("", "", TermsClass.UNSPECIFIED, "")


class Plans:
    """The plans of an installation, in their file's order; organizations start on the first free one."""

    def __init__(self, plans: tuple[Plan, ...]) -> None:
        self.all = plans
        self._by_name = {plan.name: plan for plan in plans}
        self.first = next(plan for plan in plans if plan.terms_class is TermsClass.FREE)

    def find(self, name: str) -> Plan:
        """Returns the plan of a name, or UNKNOWN_PLAN."""
        return self._by_name.get(name, UNKNOWN_PLAN)


def load(path: str) -> Plans:
    """Reads the plans file at `path`, or this package's own where it is empty. Raises SetupError."""
    source, records = read_records(path, "plans.yaml", "plans")
    plans = tuple(_plan(record) for record in records)
    if len({plan.name for plan in plans}) != len(plans):
        message = f"{source}: two plans have the same name"
        raise SetupError(message)
    if not any(plan.terms_class is TermsClass.FREE for plan in plans):
        message = f"{source}: no plan has terms_class FREE"
        raise SetupError(message)
    return Plans(plans)


def _plan(record: Record) -> Plan:
    plan = Plan(
        name=record.name("name"),
        display_name=record.text("display_name"),
        terms_class=TermsClass(record.choice("terms_class", ("FREE", "PAID"))),
        tier=record.name("tier"),
        entitlements=record.strings("entitlements"),
    )
    record.done()
    return plan
