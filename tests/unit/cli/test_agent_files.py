"""An agent's file is read against the contract, and each fault is told with its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perron.api.agents.v1 import agent_pb2, configuration_pb2
from perron.chassis.errors import FieldViolation, InvalidArgument, SetupError
from perron.cli import agent_files

WHOLE = """\
display_name: Reader
configuration:
  model: small-1
  instructions: |
    Answer from the shelf.
      Say so where you guess.
  examples:
    - {input: "Which floor?", output: The second.}
  completion_arguments:
    temperature: 0.5
    max_tokens: 200
    tool_choice: auto
    random_seed: 7
    parallel_tool_calls: false
  tools:
    - function:
        name: look_up
        parameters_schema:
          type: object
          properties: {title: {type: string}}
    - web_search:
    - document_library: {libraries: [shelf, cellar]}
  response_format: {kind: json-object}
  guardrails:
    - {name: pii, stage: input, action: block, threshold: 1}
  metadata: {team: "reading room"}
"""


def read(folder: Path, text: str | bytes, name: str = "agent.yaml") -> agent_files.AgentFile:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return agent_files.read(path)


def faults(folder: Path, text: str | bytes, name: str = "agent.yaml") -> list[str]:
    """What is wrong with a file, without the folder."""
    with pytest.raises(SetupError) as refused:
        read(folder, text, name)
    return [line.removeprefix(f"{folder}/") for line in str(refused.value).splitlines()]


def test_a_file_is_read_as_it_is_meant(tmp_path: Path) -> None:
    document = read(tmp_path, WHOLE).document
    configuration = document.configuration
    assert (document.format, document.display_name) == ("perron.agent/v1", "Reader")
    assert configuration.instructions == "Answer from the shelf.\n  Say so where you guess.\n"
    assert configuration.completion_arguments.tool_choice == configuration_pb2.TOOL_CHOICE_AUTO
    assert configuration.completion_arguments.HasField("parallel_tool_calls")
    assert not configuration.completion_arguments.HasField("top_p")
    assert [tool.WhichOneof("kind") for tool in configuration.tools] == [
        "function",
        "web_search",
        "document_library",
    ]
    schema = json.loads(configuration.tools[0].function.parameters_schema)
    assert schema == {"type": "object", "properties": {"title": {"type": "string"}}}
    assert dict(configuration.metadata) == {"team": "reading room"}


def test_what_is_written_is_read_back_as_yaml_and_as_json(tmp_path: Path) -> None:
    document = read(tmp_path, WHOLE).document
    assert read(tmp_path, agent_files.written(document)).document == document
    plain = json.dumps(MessageToDict(document, preserving_proto_field_name=True), indent="\t")
    assert read(tmp_path, plain, "agent.json").document == document


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instructions=TEXT, description=TEXT, value=TEXT)
def test_any_text_survives_the_way_through_a_file(
    tmp_path: Path, instructions: str, description: str, value: str
) -> None:
    document = agent_pb2.AgentDocument(format=agent_files.FORMAT, display_name="Reader")
    document.configuration.model = "small-1"
    document.configuration.instructions = instructions
    document.configuration.description = description
    document.configuration.metadata["key"] = value
    assert read(tmp_path, agent_files.written(document)).document == document
    plain = json.dumps(MessageToDict(document, preserving_proto_field_name=True))
    if plain.isprintable():  # json escapes what it must; what is left is any printable text
        assert read(tmp_path, plain, "agent.json").document == document


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("  model: small-1", "  modle: small-1", ":3: modle: there is no such field; did you mean model?"),
        ("  model: small-1", "  model: 7", ":3: model: is text: put it in quotes"),
        ("  model: small-1", "  model: small-1\n  model: x", ":4: model: stands there twice"),
        ("  model: small-1", "  model: a b", ":3: model: does not match"),
        ("  model: small-1", "  description: none", ":2: model: is missing"),
        ("0.5", "warm", ":10: arguments.temperature: is a number, without quotes"),
        ("0.5", "'0.5'", ":10: arguments.temperature: is a number, without quotes"),
        ("0.5", "2.5", ":10: arguments.temperature: must be"),
        ("0.5", ".nan", ":10: arguments.temperature: is a number, without quotes"),
        ("200", "2.5", ":11: arguments.max_tokens: is a whole number, without quotes"),
        ("200", "9" * 20, ":11: arguments.max_tokens: is a number beyond all bounds"),
        (": auto", ": maybe", ":12: arguments.tool_choice: is one of auto, none, required"),
        (": false", ": 0", ":14: arguments.parallel_tool_calls: is true or false"),
        ("    - web_search:", "    - {}", ":21: tools[1].kind: exactly one field"),
        ("{type: string}", "2020-01-01", ":18: tools[0].function.parameters_schema: holds something"),
        ("[shelf, cellar]", "shelf", ":22: tools[2].document_library.libraries: is a list"),
        ("    - web_search:", "    - web_search: 7", ":21: tools[1].web_search: holds fields"),
        ("threshold: 1", "threshold: 2", ":25: guardrails[0].threshold: must be"),
        ('"reading room"', "on", ":26: metadata[team]: is text: put it in quotes"),
        ("display_name: Reader", "", ":2: display_name: "),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line_and_field(before: str, after: str, told: str, tmp_path: Path) -> None:
    assert before in WHOLE
    (fault,) = faults(tmp_path, WHOLE.replace(before, after, 1))
    short = fault.replace("configuration.", "").replace("completion_arguments.", "arguments.")
    assert short.startswith(f"agent.yaml{told}")


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("0.5", "warm").replace("200", "few").replace("modle", "model")
    assert [fault.split(": ")[0] for fault in faults(tmp_path, text)] == ["agent.yaml:10", "agent.yaml:11"]


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("display_name: [", "agent.yaml", "agent.yaml:1: is no YAML"),
        ("a: b\n c: d", "agent.yaml", "agent.yaml:2: is no YAML"),
        ("a: \x07", "agent.yaml", "agent.yaml:1: has a character that no text should have"),
        (b"a: b\nc: \xff", "agent.yaml", "agent.yaml:2: is no UTF-8 text"),
        ('{\n"a" 1}', "agent.json", "agent.json:2: is no JSON"),
        ("[" * 100_000, "agent.json", "agent.json:1: is no JSON: too deep"),
        ("- a", "agent.yaml", "agent.yaml:1: document: holds fields"),
        ("", "agent.yaml", "agent.yaml:1: "),
        ('{"display_name": "\\ud800"}', "agent.json", "agent.json:1: display_name: has half a character"),
        ("x" * (agent_files.BYTES_MAX + 1), "agent.yaml", "agent.yaml is larger than 1 MiB"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "bytes",
)
def test_what_is_no_document_is_told_in_a_line(
    text: str | bytes, name: str, told: str, tmp_path: Path
) -> None:
    assert faults(tmp_path, text, name)[0].startswith(told)


def test_anchors_are_not_read_so_a_small_file_stays_small(tmp_path: Path) -> None:
    text = "display_name: x\nconfiguration: &a {model: small-1, metadata: {a: x}}\nformat: *a\n"
    assert faults(tmp_path, text) == ["agent.yaml:3: format: is one text"]
    levels = "".join(f"e{n}: &e{n} [*e{n - 1}, *e{n - 1}]\n" for n in range(1, 40))
    many = f"e0: &e0 {{input: a}}\n{levels}configuration: {{examples: *e39}}\n"
    assert any("is a list" in fault or "holds fields" in fault for fault in faults(tmp_path, many))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere.yaml cannot be read \(FileNotFoundError\)"):
        agent_files.read(tmp_path / "nowhere.yaml")


def test_what_a_service_found_wrong_is_told_with_the_line_of_the_file(tmp_path: Path) -> None:
    read_file = read(tmp_path, WHOLE)
    field = "configuration.tools[0].function.parameters_schema"
    error = InvalidArgument(
        "TOOL_SCHEMA_INVALID", "x", violations=[FieldViolation(field, "refers to a host")]
    )
    (told,) = read_file.faults(error)
    assert told == f"{read_file.path}:18: {field}: refers to a host"
    named: Any = InvalidArgument(
        "FIELD_INVALID", "x", violations=[FieldViolation("document.display_name", "no")]
    )
    assert read_file.faults(named) == [f"{read_file.path}:1: display_name: no"]
