"""A person reads what differs between two versions, and nothing else."""

import io

from rich.console import Console

from perron.api.agents.v1 import configuration_pb2
from perron.cli import differences


def configuration() -> configuration_pb2.AgentConfiguration:
    made = configuration_pb2.AgentConfiguration(
        model="small-1", instructions="Be kind.\nBe brief.\nBe right.\n"
    )
    made.examples.add(input="hi", output="hello")
    made.completion_arguments.temperature = 0.5
    made.tools.add().function.MergeFrom(
        configuration_pb2.FunctionTool(
            name="look_up", parameters_schema='{"type": "object", "minProperties": 1}'
        )
    )
    made.tools.add().web_search.SetInParent()
    made.metadata["team"] = "desk"
    return made


def printed(found: list[differences.Change]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(differences.drawn(found, "version 1", "version 2"))
    return stream.getvalue()


def test_equal_configurations_differ_in_nothing() -> None:
    assert differences.changes(configuration(), configuration()) == []


def test_each_change_names_its_field_with_what_stood_and_what_stands_there() -> None:
    after = configuration()
    after.model = "large-1"
    after.completion_arguments.ClearField("temperature")
    after.completion_arguments.max_tokens = 100
    del after.tools[1]
    after.tools.add().connector.connector = "crm"
    after.metadata["team"] = "night desk"
    after.handoff_agent_ids.append("agt_1")
    found = {(one.field, one.before, one.after) for one in differences.changes(configuration(), after)}
    assert found == {
        ("model", "small-1", "large-1"),
        ("completion_arguments.temperature", "0.5", ""),
        ("completion_arguments.max_tokens", "", "100"),
        ("tools.web_search", "yes", ""),
        ("tools.connector:crm", "", "connector"),
        ("metadata.team", "desk", "night desk"),
        ("handoff_agent_ids", "", "agt_1"),
    }


def test_a_tool_that_only_moved_is_no_change() -> None:
    after = configuration()
    moved = list(after.tools)[::-1]
    del after.tools[:]
    after.tools.extend(moved)
    assert differences.changes(configuration(), after) == []


def test_texts_are_shown_line_by_line_and_the_rest_as_tables() -> None:
    after = configuration()
    after.instructions = "Be kind.\nBe [bold]right[/bold].\n"
    after.examples.add(input="bye", output="so long")
    after.tools[0].function.parameters_schema = '{"type": "object"}'
    after.completion_arguments.temperature = 0.7
    shown = printed(differences.changes(configuration(), after))
    assert "-Be brief.\n-Be right.\n+Be [bold]right[/bold].\n" in shown
    assert "+input: bye\n+output: so long" in shown
    assert '-  "minProperties": 1' in shown
    assert "completion arguments" in shown
    assert "temperature  0.5        0.7" in shown
    assert "Be kind.\n" in shown
    assert "small-1" not in shown
