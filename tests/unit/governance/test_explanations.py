"""Decisions in words."""

from perron.chassis.clock import to_us
from perron.chassis.testing import START
from perron.governance import explanations
from perron.governance.model import Channel, DataKind, Decision, Ruling, TermsClass
from perron.governance.rule_files import load
from perron.governance.terms import Case

JUDGED = (
    "This inference by API was judged as of 2025-02-06T12:00:00+00:00, "
    "on plan some with no subscription, by the terms of 2025-02-06."
)
ACCEPTED = (("additional-terms", "2025-02-06"),)


def decision(
    terms_class: TermsClass,
    channel: Channel = Channel.API,
    *,
    zero_retention: bool = False,
    fine_tuned: bool = False,
) -> Decision:
    subscription = "sub_1" if terms_class is TermsClass.PAID else ""
    case = Case(
        terms_class,
        bool(subscription),
        DataKind.INFERENCE,
        channel,
        ACCEPTED,
        zero_retention,
        opted_out=False,
        fine_tuned=fine_tuned,
    )
    judgement = load().judge(case, to_us(START))
    ruling = Ruling(
        "org_1",
        "ws_1",
        "some",
        terms_class,
        subscription,
        judgement.terms_version,
        case.data_kind,
        channel,
        judgement.outcome,
    )
    return Decision(b"d" * 16, ruling, 1, to_us(START), to_us(START), "")


def test_a_free_decision_in_words() -> None:
    made = decision(TermsClass.FREE)
    assert explanations.sentences(made) == [
        JUDGED,
        "It may be used to provide the services until 2026-02-06T12:00:00+00:00 (365 days).",
        "It may be used to monitor abuse until 2025-03-08T12:00:00+00:00 (30 days).",
        "It may be used to improve the services until 2026-02-06T12:00:00+00:00 (365 days).",
        "Models may be trained on it.",
        "The licence lasts as long as the rights in the data; erasing the data ends every use all the same.",
    ]
    (clause,) = explanations.clauses(made, load())
    assert clause.clause == "3-free"
    assert "improve and train" in clause.text
    assert clause.reason_text == "The organization was on a free plan at that instant."


def test_a_paid_decision_says_whichever_comes_first() -> None:
    lines = explanations.sentences(decision(TermsClass.PAID))
    assert (
        "It may be used to provide the services until 2025-03-08T12:00:00+00:00 (30 days) "
        "or until the end of subscription sub_1, whichever comes first." in lines
    )
    assert "Models are never trained on it." in lines


def test_zero_retention_always_reads_the_same() -> None:
    lines = explanations.sentences(decision(TermsClass.PAID, zero_retention=True))
    assert "Nothing is retained beyond the exchange, except as required by law." in lines
    assert "It may be used to provide the services while the exchange is in flight." in lines


def test_what_no_rule_knows_is_explained_too() -> None:
    made = decision(TermsClass.FREE, Channel.CHAT)
    assert "no terms that are loaded" in explanations.sentences(made)[0]
    (clause,) = explanations.clauses(made, load())
    assert (clause.clause, clause.text) == ("", "")
    assert "most restrictive" in clause.reason_text


def test_a_decision_about_what_a_fine_tuned_model_answers_in_words() -> None:
    made = decision(TermsClass.FREE, fine_tuned=True)
    words = explanations.sentences(made)
    assert "Models are never trained on it." in words
    assert not [sentence for sentence in words if "improve" in sentence]
    (why,) = (one for one in explanations.clauses(made, load()) if one.clause == "1.2-conf")
    assert "distil" in why.reason_text
    assert why.text
