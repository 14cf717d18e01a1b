from pathlib import Path

import pytest

from perron.chassis.errors import FailedPrecondition, InvalidArgument, NotFound, SetupError
from perron.identity import documents, plans
from perron.identity.documents import Document, Documents
from perron.identity.model import Acceptance, TermsClass

OLD = Document("terms", "1", "old", "a" * 64, effective_us=0, accept_by_us=10)
NEW = Document("terms", "2", "new", "b" * 64, effective_us=100, accept_by_us=200)
OTHER = Document("privacy", "1", "other", "c" * 64, effective_us=0, accept_by_us=10)
CATALOGUE = Documents((OLD, NEW, OTHER))


def accept(*accepted: Document) -> list[Acceptance]:
    return [Acceptance(each.name, each.version, each.text_digest) for each in accepted]


def test_every_document_in_force_must_be_accepted_at_the_start() -> None:
    with pytest.raises(FailedPrecondition, match="privacy"):
        CATALOGUE.require_all(accept(OLD), now_us=50)
    CATALOGUE.require_all(accept(OLD, OTHER), now_us=50)


def test_a_version_in_force_is_not_satisfied_by_the_former_one() -> None:
    with pytest.raises(FailedPrecondition, match="terms"):
        CATALOGUE.require_all(accept(OLD, OTHER), now_us=150)
    CATALOGUE.require_all(accept(NEW, OTHER), now_us=150)


def test_a_coming_version_may_be_accepted_early() -> None:
    CATALOGUE.require_all(accept(NEW, OTHER), now_us=50)


def test_a_new_version_is_overdue_from_its_accept_by_time_on() -> None:
    assert CATALOGUE.overdue_from_us({"terms": "1", "privacy": "1"}) == 200
    assert CATALOGUE.overdue_from_us({"terms": "2", "privacy": "1"}) is None
    assert CATALOGUE.overdue_from_us({"terms": "2"}) == 10
    assert CATALOGUE.overdue_from_us({"terms": "unheard of", "privacy": "1"}) == 10


def test_an_older_acceptance_never_replaces_a_newer_one() -> None:
    assert CATALOGUE.newest({"terms": "2"}, accept(OLD)) == {"terms": "2"}
    assert CATALOGUE.newest({"terms": "1"}, accept(NEW)) == {"terms": "2"}


def test_another_text_than_the_documents_is_not_its_acceptance() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        CATALOGUE.check([Acceptance("terms", "1", "f" * 64)])
    assert caught.value.reason == "DOCUMENT_DIGEST_MISMATCH"
    with pytest.raises(InvalidArgument) as unknown:
        CATALOGUE.check([Acceptance("terms", "3", "a" * 64)])
    assert unknown.value.reason == "DOCUMENT_UNKNOWN"


def test_without_a_version_the_newest_in_force_is_shown() -> None:
    assert CATALOGUE.get("terms", "", 99) is OLD
    assert CATALOGUE.get("terms", "", 100) is NEW
    with pytest.raises(NotFound):
        CATALOGUE.get("terms", "9", 100)


def test_the_shipped_files_are_valid() -> None:
    shipped = plans.load("")
    assert shipped.first.terms_class is TermsClass.FREE
    assert sum(plan.terms_class is TermsClass.PAID for plan in shipped.all) >= 2
    assert ("additional-terms", "2025-02-06") in {
        (each.name, each.version) for each in documents.load("").all
    }


def test_a_plan_that_is_gone_has_no_terms_class() -> None:
    assert plans.load("").find("gold").terms_class is TermsClass.UNSPECIFIED


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("plans: [", "not YAML"),
        ("plans: []", "list of records"),
        ("other: []", "list of records"),
        ("plans: [{name: Free}]", r"plans\[0\].name"),
        (
            "plans: [{name: a, display_name: A, terms_class: GOLD, tier: a}]",
            "terms_class: must be one of FREE, PAID",
        ),
        ("plans: [{name: a, display_name: A, terms_class: PAID, tier: a}]", "no plan has terms_class FREE"),
        ("plans: [{name: a, display_name: A, terms_class: FREE, tier: a, price: 3}]", "price: no such field"),
        (
            "plans: [{name: a, display_name: A, terms_class: FREE, tier: a, entitlements: {x: 1}}]",
            "mapping of texts to texts",
        ),
    ],
)
def test_a_wrong_plans_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "plans.yaml"
    path.write_text(text)
    with pytest.raises(SetupError, match=problem) as caught:
        plans.load(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        documents.load(str(tmp_path / "nowhere.yaml"))


def test_a_document_cannot_be_due_before_it_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "documents.yaml"
    path.write_text(
        "documents: [{name: a, version: '1', text: t, effective_time: 2025-02-06, "
        "accept_by_time: 2025-02-05}]"
    )
    with pytest.raises(SetupError, match="accept_by_time lies before"):
        documents.load(str(path))
