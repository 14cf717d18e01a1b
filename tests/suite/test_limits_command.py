"""`perron limits` as operators and customers use it: what they set holds, and what they delete does not."""

from typing import Any

import pytest

from perron.cli.suite import Suite
from tests.suite.command import perron


@pytest.fixture
def customer(suite: Suite) -> dict[str, str]:
    """What a new customer's commands need: the organization's id, the folder and the admin's key."""
    arguments = ("orgs", "create", "Mill", "--email", "m@acme.example", "--accept-terms", "--json")
    made = perron(*arguments, PERRON_VAR=str(suite.folder)).parsed
    return {
        "organization": made["organization"]["organization_id"],
        "PERRON_VAR": str(suite.folder),
        "PERRON_API_KEY": made["secret"],
    }


def limits(customer: dict[str, str], *words: str, operator: bool = False) -> Any:
    """Runs `perron limits`, as the customer or as the operator, and returns what it answers."""
    names = ("PERRON_VAR",) if operator else ("PERRON_VAR", "PERRON_API_KEY")
    ran = perron("limits", *words, "--json", **{name: customer[name] for name in names})
    assert ran.status == 0, ran.notes
    return ran.parsed


def requests_a_day(customer: dict[str, str]) -> list[tuple[str, int]]:
    """Where each limit of requests a day comes from, and its amount."""
    return [
        (one["origin"].removeprefix("LIMIT_ORIGIN_"), int(one.get("amount", 0)))
        for one in limits(customer, "list")
        if (one["metric"], one["window"]) == ("METRIC_REQUESTS", "WINDOW_DAY")
    ]


@pytest.mark.parametrize("operator", [True, False], ids=["override", "cap"])
def test_what_is_set_holds_until_it_is_deleted(customer: dict[str, str], *, operator: bool) -> None:
    kind = "override" if operator else "cap"
    of = (customer["organization"],) if operator else ()
    before = requests_a_day(customer)

    limits(customer, f"set-{kind}", *of, "requests", "day", "7", operator=operator)
    assert (kind.upper(), 7) in requests_a_day(customer)

    deleted = limits(customer, f"delete-{kind}", *of, "requests", "day", operator=operator)
    assert deleted == {"deleted": True}
    assert requests_a_day(customer) == before
