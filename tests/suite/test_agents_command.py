"""`perron agents` as people and scripts use it: what is printed, what is said beside it, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perron.cli.suite import Suite
from tests.suite.command import Ran, perron

DESK = """\
display_name: Desk
configuration:
  model: small-1
  instructions: |
    Be kind.
    Be brief.
  tools:
    - function: {name: look_up, parameters_schema: {type: object}}
"""
Run = Callable[..., Ran]


@pytest.fixture
def run(suite: Suite) -> Run:
    """Runs commands as the admin of a new customer."""
    folder = str(suite.folder)
    arguments = ("orgs", "create", "Desk", "--email", "d@acme.example", "--accept-terms", "--print-key")
    secret = perron(*arguments, PERRON_VAR=folder).answer.strip()
    return lambda *words: perron(*words, PERRON_VAR=folder, PERRON_API_KEY=secret)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    path = tmp_path / "desk.yaml"
    path.write_text(DESK, encoding="utf-8")
    return path


@pytest.fixture
def agent(run: Run, desk: Path) -> str:
    made = run("agents", "create", str(desk), "--attest-name", "--print-id")
    assert made.status == 0, made.notes
    return made.answer.strip()


def test_an_agent_goes_from_its_file_through_versions_and_back_into_a_file(
    run: Run, desk: Path, agent: str, tmp_path: Path
) -> None:
    desk.write_text(DESK.replace("Be brief.", "Be right.").replace("small-1", "large-1"), encoding="utf-8")
    updated = run("agents", "update", agent, str(desk), "--json").parsed
    assert updated["latest_version"] == 2

    shown = run("agents", "diff", agent)
    assert "-Be brief.\n+Be right.\n" in shown.answer
    assert "small-1" in shown.answer
    changes = run("agents", "diff", agent, "1", "2", "--json").parsed
    assert [one["field"] for one in changes["changes"]] == ["model", "instructions"]
    assert (changes["before"], changes["after"]) == (1, 2)
    assert "are the same" in run("agents", "diff", agent, "1", "1").notes

    restored = run("agents", "restore", agent, "1", "--attest-name", "--etag", updated["etag"], "--json")
    assert restored.parsed["latest_version"] == 3
    listed = run("agents", "versions", agent, "--json").parsed
    assert [one["version"] for one in listed] == [3, 2, 1]
    assert listed[0]["restored_version"] == 1

    for name, words in (("out.yaml", ()), ("out.json", ("--json",))):
        exported = run("agents", "export", agent, *words)
        (tmp_path / name).write_text(exported.answer.replace("Desk", name), encoding="utf-8")
        imported = run("agents", "import", str(tmp_path / name), "--attest-name", "--json").parsed
        assert imported["source"]["kind"] == "KIND_IMPORT"
        whole = run("agents", "show", imported["agent_id"], "--json").parsed["version"]["configuration"]
        assert whole == run("agents", "show", agent, "--json").parsed["version"]["configuration"]
    assert len(run("agents", "list", "--json").parsed) == 3
    assert run("agents", "list", "--count", "1").notes.strip().endswith("there are more than 1")


def test_an_alias_is_as_good_as_an_id_and_a_gateway_is_told_the_version(run: Run, agent: str) -> None:
    assert run("agents", "alias", "create", "desk", agent, "--attest-name").status == 0
    assert agent in run("agents", "show", "agent:desk").answer
    admitted = run("admit", "Anybody there?", "--model", "agent:desk")
    assert f"{agent}, version 1, on small-1" in admitted.answer
    assert run("admit", "Hello?", "--model", agent, "--json").parsed["admitted"]["agent"]["version"] == 1
    assert run("agents", "alias", "list", "--json").parsed[0]["alias"] == "desk"
    assert run("agents", "alias", "delete", "desk").status == 0
    unknown = run("agents", "show", "desk")
    assert (unknown.status, unknown.answer) == (2, "")
    assert "neither an id nor an alias" in unknown.notes


def test_sharing_and_channels_are_shown_as_they_are_in_force(run: Run, agent: str) -> None:
    assert "workspace" in run("agents", "share", agent).answer
    shared = run("agents", "share", agent, "members", "--json").parsed
    assert shared["mode"] == shared["effective_mode"] == "SHARING_MODE_RESTRICTED"
    assert run("agents", "share", agent, "everybody").status == 2
    assert run("agents", "unpublish", agent, "chat", "--json").parsed["channels"] == ["CHANNEL_API"]
    refused = run("agents", "publish", agent, "chat", "--json")
    assert (refused.status, refused.parsed["error"]["reason"]) == (1, "ENTITLEMENT_MISSING")
    known = run("agents", "third-parties", "--acknowledge", "web_search", "--json").parsed
    assert [one["third_party"] for one in known] == ["web_search"]
    assert run("agents", "third-parties", "--withdraw", "web_search", "--json").parsed == []


def test_operators_disable_and_reserve_and_read_nothing_without_a_case(
    run: Run, agent: str, suite: Suite
) -> None:
    organization = run("agents", "show", agent, "--json").parsed["agent"]["organization_id"]

    def operate(*words: str) -> Ran:
        return perron(*words, "--as", "operator", PERRON_VAR=str(suite.folder))

    disabled = operate("agents", "disable", organization, agent, "It is a bank.", "--json")
    assert disabled.parsed["state"] == "STATE_DISABLED"
    assert "It is a bank." in run("agents", "show", agent).answer
    refused = run("admit", "Hello?", "--model", agent, "--json")
    assert (refused.status, refused.parsed["error"]["reason"]) == (1, "AGENT_DISABLED")
    assert operate("agents", "enable", organization, agent).status == 0
    assert "Be kind." not in operate("agents", "show", agent, "--organization", organization).answer
    read = operate("agents", "show", agent, "--organization", organization, "--case", "case 7")
    assert "Be kind." in read.answer
    names = operate("agents", "reserved-names", "--add", "Acme Bank", "--json").parsed
    assert {"name": "Acme Bank"} in names
    taken = run("agents", "update", agent, "--name", "Acme B\u0430nk", "--attest-name", "--json")
    assert taken.parsed["error"]["reason"] == "NAME_RESERVED"
    assert operate("agents", "reserved-names", "--remove", "Acme Bank").status == 0


def test_a_wrong_file_is_told_by_line_whether_the_form_or_the_service_refuses_it(
    run: Run, desk: Path, agent: str
) -> None:
    desk.write_text(DESK.replace("model:", "modle:"), encoding="utf-8")
    refused = run("agents", "create", str(desk), "--attest-name")
    assert (refused.status, refused.answer) == (2, "")
    assert f"{desk}:3: configuration.modle: there is no such field; did you mean model?" in refused.notes
    desk.write_text(DESK.replace("{type: object}", "{type: object, $ref: 'http://host/x'}"), encoding="utf-8")
    refused = run("agents", "update", agent, str(desk))
    assert refused.status == 1
    assert "TOOL_SCHEMA_INVALID" in refused.notes
    assert f"{desk}:8: configuration.tools[0].function.parameters_schema" in refused.notes
    unattested = run("agents", "create", str(desk), "--json")
    assert json.loads(unattested.answer)["error"]["reason"] in {"NAME_NOT_ATTESTED", "TOOL_SCHEMA_INVALID"}
    assert run("agents", "update", agent).status == 2


def test_deleting_says_what_became_of_it(run: Run, agent: str) -> None:
    assert run("agents", "delete", agent, "--json").parsed == {"erasure": "ERASURE_ERASED"}
    gone = run("agents", "show", agent, "--json")
    assert (gone.status, gone.parsed["error"]["reason"]) == (1, "RESOURCE_NOT_FOUND")
