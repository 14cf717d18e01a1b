from pathlib import Path

from perron.cli import pages

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == pages.settings_page(), (
        "python -m perron.cli.pages"
    )


def test_the_page_of_errors_is_what_the_contract_says() -> None:
    contract = (ROOT / pages.REASONS).read_text("utf-8")
    page = pages.errors_page(contract)
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == page, "python -m perron.cli.pages"
    reasons = {line.split()[0] for line in contract.splitlines() if line.strip().startswith("ERROR_REASON_")}
    for reason in reasons - {"ERROR_REASON_UNSPECIFIED"}:
        assert f"| `{reason.removeprefix('ERROR_REASON_')}` | " in page
