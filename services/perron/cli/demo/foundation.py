"""The first chapter: a customer comes, is served, pays, asks that nothing be kept, and loses a key."""

from collections.abc import Mapping
from pathlib import Path

from perron.cli import samples
from perron.cli.demo import arrival, payment, secrecy
from perron.cli.demo.stage import Stage

NAME = "foundation"
EXCHANGES = 500


def settings(_folder: Path) -> Mapping[str, str]:
    """What the suite is told for this chapter: nothing beyond its defaults."""
    return {}


def play(stage: Stage) -> None:
    """Plays the seven steps; a failure of one is a finding, a defect ends the chapter."""
    recorded = samples.exchanges(EXCHANGES)
    with (
        stage.connect(stage.suite.operator_key, "the operator") as operator,
        stage.connect(stage.suite.gateway_key, "the gateway") as gateway_connection,
        stage.connect("", "nobody yet") as admin,
    ):
        customer = arrival.arrive(stage, operator, gateway_connection, admin)
        played = arrival.exchange(stage, customer, recorded)
        arrival.explain(stage, customer, played)
        # Admitted on the free plan, and completed only after the upgrade.
        open_exchange = customer.admit(recorded[1])
        payment.reach_limit(stage, customer, recorded)
        payment.pay(stage, customer, recorded, played, open_exchange)
        secrecy.keep_nothing(stage, customer, recorded[2])
        secrecy.lose_keys(stage, customer, recorded[3])
