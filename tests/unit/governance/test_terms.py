"""The table of the terms, row by row, and what a file of rules must be."""

import re
from pathlib import Path

import pytest

from perron.chassis.clock import to_us
from perron.chassis.errors import NotFound, SetupError
from perron.chassis.testing import START
from perron.governance.model import Channel, DataKind, TermsClass
from perron.governance.outcomes import MOST_RESTRICTIVE
from perron.governance.rule_files import PACKAGED, load
from perron.governance.terms import Case, Judgement

ACCEPTED = (("additional-terms", "2025-02-06"),)
FILE = PACKAGED / "2025-02-06.yaml"
TABLE = {
    ("FREE", "INFERENCE"): (
        {
            "PROVIDE_SERVICES": ["TIME 365"],
            "MONITOR_ABUSE": ["TIME 30"],
            "IMPROVE_SERVICES": ["TIME 365"],
        },
        True,
        "WITH_RIGHTS",
    ),
    ("FREE", "FINE_TUNING_DATA"): (
        {
            "PROVIDE_SERVICES": ["UNTIL_DELETED"],
            "MONITOR_ABUSE": ["UNTIL_DELETED"],
            "IMPROVE_SERVICES": ["UNTIL_DELETED"],
        },
        True,
        "WITH_RIGHTS",
    ),
    ("PAID", "INFERENCE"): (
        {
            "PROVIDE_SERVICES": ["TIME 30", "END_OF_SUBSCRIPTION"],
            "MONITOR_ABUSE": ["TIME 30", "END_OF_SUBSCRIPTION"],
        },
        False,
        "WITH_SUBSCRIPTION",
    ),
    ("PAID", "FINE_TUNING_DATA"): (
        {
            "PROVIDE_SERVICES": ["END_OF_SUBSCRIPTION", "UNTIL_DELETED"],
            "MONITOR_ABUSE": ["END_OF_SUBSCRIPTION", "UNTIL_DELETED"],
        },
        False,
        "WITH_SUBSCRIPTION",
    ),
    ("FREE", "FINE_TUNED_MODEL"): ({"PROVIDE_SERVICES": ["UNTIL_DELETED"]}, False, "WITH_ACCOUNT"),
    ("PAID", "FINE_TUNED_MODEL"): ({"PROVIDE_SERVICES": ["UNTIL_DELETED"]}, False, "WITH_ACCOUNT"),
    ("FREE", "AGENT"): ({"PROVIDE_SERVICES": ["UNTIL_DELETED"]}, False, "WITH_ACCOUNT"),
    ("PAID", "AGENT"): ({"PROVIDE_SERVICES": ["UNTIL_DELETED"]}, False, "WITH_ACCOUNT"),
}
ZERO_RETENTION = {
    "INFERENCE": {"PROVIDE_SERVICES": ["IN_FLIGHT"], "MONITOR_ABUSE": ["IN_FLIGHT"]},
    "FINE_TUNING_DATA": {
        "PROVIDE_SERVICES": ["WHILE_JOB", "UNTIL_DELETED"],
        "MONITOR_ABUSE": ["WHILE_JOB", "UNTIL_DELETED"],
    },
}
OPTED_OUT = {
    "INFERENCE": {"PROVIDE_SERVICES": ["TIME 30"], "MONITOR_ABUSE": ["TIME 30"]},
    "FINE_TUNING_DATA": {"PROVIDE_SERVICES": ["UNTIL_DELETED"], "MONITOR_ABUSE": ["UNTIL_DELETED"]},
}


def judged(
    terms_class: str,
    kind: str,
    *,
    zero_retention: bool = False,
    opted_out: bool = False,
    fine_tuned: bool = False,
) -> Judgement:
    case = Case(
        TermsClass(terms_class),
        terms_class == "PAID",
        DataKind(kind),
        Channel.API,
        ACCEPTED,
        zero_retention,
        opted_out,
        fine_tuned,
    )
    return load().judge(case, to_us(START))


def table(judgement: Judgement) -> dict[str, list[str]]:
    return {
        permission.purpose.value: [
            f"{deadline.kind.value} {deadline.days}" if deadline.days else deadline.kind.value
            for deadline in permission.deadlines
        ]
        for permission in judgement.outcome.permissions
    }


@pytest.mark.parametrize(("terms_class", "kind"), TABLE)
def test_each_row_of_the_decision_table(terms_class: str, kind: str) -> None:
    purposes, eligible, licence_end = TABLE[terms_class, kind]
    judgement = judged(terms_class, kind)
    assert table(judgement) == purposes
    assert judgement.outcome.training_eligible is eligible
    assert judgement.outcome.licence_end == licence_end
    assert judgement.outcome.clauses


@pytest.mark.parametrize("kind", DataKind)
def test_zero_retention_leaves_the_flight_or_the_job_and_no_training(kind: str) -> None:
    judgement = judged("FREE", kind, zero_retention=True)
    assert table(judgement) == ZERO_RETENTION.get(kind, {"PROVIDE_SERVICES": ["UNTIL_DELETED"]})
    assert not judgement.outcome.training_eligible


@pytest.mark.parametrize("kind", DataKind)
def test_opting_out_takes_training_away_and_keeps_as_long_as_abuse_is_monitored(kind: str) -> None:
    judgement = judged("FREE", kind, opted_out=True)
    assert table(judgement) == OPTED_OUT.get(kind, {"PROVIDE_SERVICES": ["UNTIL_DELETED"]})
    assert not judgement.outcome.training_eligible


@pytest.mark.parametrize(("terms_class", "kind"), TABLE)
def test_a_fine_tuned_model_takes_training_from_its_exchanges_and_changes_nothing_else(
    terms_class: str, kind: str
) -> None:
    judgement = judged(terms_class, kind, fine_tuned=True)
    purposes, eligible, licence_end = TABLE[terms_class, kind]
    if kind == "INFERENCE":
        purposes, eligible = (
            {name: ends for name, ends in purposes.items() if name != "IMPROVE_SERVICES"},
            False,
        )
        assert ("1.2-conf", "FINE_TUNED_MODEL") in {
            (one.clause, one.reason) for one in judgement.outcome.clauses
        }
    assert (table(judgement), judgement.outcome.training_eligible) == (purposes, eligible)
    assert judgement.outcome.licence_end == licence_end


def test_every_class_kind_and_channel_has_an_answer_and_never_a_wider_one_than_the_table() -> None:
    rulebook = load()
    for terms_class in TermsClass:
        for kind in DataKind:
            for channel in Channel:
                case = Case(terms_class, terms_class == "PAID", kind, channel, ACCEPTED, False, False, False)
                judgement = rulebook.judge(case, to_us(START))
                known = (terms_class.value, kind.value) in TABLE and channel is Channel.API
                assert (judgement.outcome == MOST_RESTRICTIVE) is not known


def test_terms_that_are_not_in_effect_yet_decide_nothing() -> None:
    case = Case(TermsClass.FREE, False, DataKind.INFERENCE, Channel.API, ACCEPTED, False, False, False)
    effective = load().terms[0].effective_time
    assert load().judge(case, to_us(effective) - 1).outcome == MOST_RESTRICTIVE
    assert load().judge(case, to_us(effective)).outcome.training_eligible


def test_lengths_are_narrowed_by_settings() -> None:
    rulebook = load(lengths={"free_inference_days": 7})
    case = Case(TermsClass.FREE, False, DataKind.INFERENCE, Channel.API, ACCEPTED, False, False, False)
    judgement = rulebook.judge(case, to_us(START))
    assert table(judgement)["PROVIDE_SERVICES"] == ["TIME 7"]
    assert table(judgement)["MONITOR_ABUSE"] == ["TIME 30"]


def test_lengths_are_never_widened_by_settings() -> None:
    with pytest.raises(SetupError, match="may only shorten"):
        load(lengths={"abuse_monitoring_days": 31})


def test_training_on_files_can_be_switched_off() -> None:
    rulebook = load(train_on_fine_tuning_data=False)
    for kind, eligible in (("FINE_TUNING_DATA", False), ("INFERENCE", True)):
        case = Case(TermsClass.FREE, False, DataKind(kind), Channel.API, ACCEPTED, False, False, False)
        judgement = rulebook.judge(case, to_us(START))
        assert judgement.outcome.training_eligible is eligible
        assert ("IMPROVE_SERVICES" in table(judgement)) is eligible


@pytest.mark.parametrize(
    ("there", "instead", "fault"),
    [
        ("    data_kind: AGENT", "    data_kind: INFERENCE", "has 2 rules"),
        (
            "    plan: any\n    data_kind: AGENT",
            "    plan: FREE\n    data_kind: AGENT",
            "PAID AGENT has 0 rules",
        ),
        ("[UNTIL_DELETED, END_OF_SUBSCRIPTION]", "[forever]", "unknown deadline forever"),
        ("clauses: {3-paid: PAID_PLAN}", "clauses: {9-x: PAID_PLAN}", "clause 9-x is not in the list"),
        ("training: never", "training: eligible", "training and IMPROVE_SERVICES go together"),
        ("    training: never", "    training: maybe", "Invalid enum value"),
        ("channels: [API]", "channels: [API]\nextra: 1", "unknown field"),
        ("free_inference_days: 365", "free_inference_days: 0", "shorter than one day"),
        ("2025-02-06T00:00:00Z", "2025-02-06T00:00:00", "time zone"),
        ("plan: PAID", "plan: FREE", "rules"),
    ],
)
def test_a_file_with_a_fault_stops_the_start_in_one_line(
    tmp_path: Path, there: str, instead: str, fault: str
) -> None:
    path = tmp_path / "rules.yaml"
    content = FILE.read_text()
    assert there in content
    path.write_text(content.replace(there, instead, 1))
    with pytest.raises(SetupError, match=fault) as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_a_paid_plan_never_trains_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    head, _, tail = FILE.read_text().partition("  paid-inference:")
    paid = tail.replace("training: never", "training: eligible", 1).replace(
        "    purposes:", "    purposes:\n      IMPROVE_SERVICES: [END_OF_SUBSCRIPTION]", 1
    )
    path.write_text(f"{head}  paid-inference:{paid}")
    with pytest.raises(SetupError, match="3-paid permits no training"):
        load(path)


@pytest.mark.parametrize(
    ("after", "there", "instead", "fault"),
    [
        (
            "narrowings:",
            "zero-retention:\n    INFERENCE:",
            "zero-retention:\n    AGENT:",
            "zero-retention says nothing",
        ),
        ("opted-out:", "FINE_TUNING_DATA:", "AGENT:", "opted-out says nothing of FINE_TUNING_DATA"),
        ("zero-retention:", "MONITOR_ABUSE: [IN_FLIGHT]", "MONITOR_ABUSE: [abuse_monitoring_days]", "3-zdr"),
        ("opted-out:", "training: never", "training: eligible", "narrows training"),
        ("through-fine-tuned-model:", "training: never", "training: eligible", "narrows training"),
        ("through-fine-tuned-model:", "INFERENCE:", "AGENT:", "through-fine-tuned-model says nothing"),
        ("paid-inference:", "[paid_inference_days, END_OF_SUBSCRIPTION]", "[]", "needs a deadline"),
        ("  fine-tuned-model:", "training: never", "training: eligible", "never trained on"),
        ("  agent:", "training: never", "training: eligible", "never trained on"),
    ],
)
def test_a_file_by_which_a_directive_or_a_promise_would_have_no_effect_stops_the_start(
    tmp_path: Path, after: str, there: str, instead: str, fault: str
) -> None:
    path = tmp_path / "rules.yaml"
    head, mark, tail = FILE.read_text().partition(after)
    assert there in tail
    tail = tail.replace(there, instead, 1)
    if instead.endswith("eligible"):
        tail = re.sub("( +)(PROVIDE.+)", r"\1\2\n\1IMPROVE_SERVICES: [UNTIL_DELETED]", tail, count=1)
    path.write_text(head + mark + tail)
    with pytest.raises(SetupError, match=fault):
        load(path)


def test_a_folder_without_rules_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no \.yaml file"):
        load(tmp_path)
    with pytest.raises(SetupError, match="gone"):
        load(tmp_path / "gone")


def test_each_clause_names_tests_that_exist() -> None:
    root = Path(__file__).parents[3]
    for clause in load().terms[0].clauses:
        for test in clause.tests:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (root / path).read_text(), test


def test_each_clause_of_the_rules_is_held_by_a_test() -> None:
    (terms,) = load().terms
    carried = {clause.clause for rule in terms.rules for clause in rule.outcome.clauses}
    carried |= {clause.clause for outcome in terms.narrowings.values() for clause in outcome.clauses}
    assert {clause.clause for clause in terms.clauses if clause.tests} >= carried
    assert terms.names_under("3-zdr") == ["zero-retention"]


def test_terms_are_found_by_document_and_version() -> None:
    rulebook = load()
    assert rulebook.find("", "") is rulebook.find("additional-terms", "2025-02-06")
    for document, version in (("chat-terms", ""), ("", "1999-01-01")):
        with pytest.raises(NotFound):
            rulebook.find(document, version)
