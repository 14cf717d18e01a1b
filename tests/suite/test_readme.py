"""The commands and programs that the documentation prints are run as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest

from perron.cli.serving import FIRST_STEPS
from perron.cli.suite import Suite
from tests.extras import HAS_TRAINER
from tests.suite.command import ROOT, environment, perron

PAGES = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(script: str, suite: Suite, **added: str) -> str:
    """Runs lines of a page in one shell that stops at the first failure, at the addresses of the suite."""
    here = script.replace("127.0.0.1:7400", suite.endpoints["admission"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", here],
        cwd=ROOT,
        env=environment(PERRON_VAR=str(suite.folder), **added),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def customer(suite: Suite) -> str:
    arguments = ("orgs", "create", "Reader", "--email", "r@acme.example", "--accept-terms", "--print-key")
    return perron(*arguments, PERRON_VAR=str(suite.folder)).answer.strip()


def test_the_readme_leads_to_a_first_admit_and_a_first_call_from_a_gateway(suite: Suite) -> None:
    first, agent, _, mint, curl = blocks(Path("README.md"), "sh")
    (program,) = blocks(Path("README.md"), "python")
    assert tuple(first.strip().splitlines()) == FIRST_STEPS
    written = re.sub(r"^\s*$\n", "", program, flags=re.MULTILINE)
    assert len(written.strip().splitlines()) <= 15
    printed = run(f"{first}{agent}{mint}{curl}python - <<'PROGRAM'\n{program}PROGRAM\n", suite)
    assert re.search(r"agt_[0-9a-z]{26}, version 1, on small-1", printed)
    assert "not eligible" not in printed
    assert "clause" in printed
    assert "one connected tree" in printed
    assert '"admissionId"' in printed
    assert re.search(r"^dec_[0-9a-z]{26} 42 True$", printed, re.MULTILINE)


@pytest.mark.skipif(not HAS_TRAINER, reason="the extra `trainer` is not installed")
def test_the_readme_leads_to_a_first_fine_tuned_model(tmp_path: Path) -> None:
    first, _, tuned, _, _ = blocks(Path("README.md"), "sh")
    create, *_ = first.splitlines(keepends=True)
    with Suite(tmp_path / "suite", trainer=True) as suite:
        printed = run(f"{create}{tuned}".replace("var/", f"{tmp_path}/"), suite)
    assert re.search(r"succeeded  mdl_[0-9a-z]{26}", printed)
    assert re.search(r"^admitted +ft:tiny:ws_[0-9a-z]{26}:model:", printed, re.MULTILINE)


def test_the_readme_names_targets_that_make_has() -> None:
    offered = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in (Path("README.md"), *PAGES):
        for block in blocks(page, "console"):
            assert set(re.findall(r"^make ([a-z]+)", block, re.MULTILINE)) <= offered, page


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=str)
def test_the_commands_of_a_page_work_from_its_top(page: Path, suite: Suite, customer: str) -> None:
    operators = page.stem == "running"
    script = "".join(blocks(page, "sh"))
    run(script, suite, **({} if operators else {"PERRON_API_KEY": customer}))


def test_links_between_pages_lead_somewhere() -> None:
    for page in (Path("README.md"), Path("services/README.md"), Path("protos/README.md"), *PAGES):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


def test_every_page_is_listed() -> None:
    text = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", text))
    assert listed == {page.name for page in PAGES} - {"README.md"}


def test_paths_that_the_readmes_name_exist() -> None:
    for page in (Path("README.md"), Path("services/README.md"), *PAGES):
        text = (ROOT / page).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:services|protos|tests|docs|deploy)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page}: {path}"
