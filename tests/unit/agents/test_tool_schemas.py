import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.agents.tool_schemas import check_answer, check_parameters
from perron.chassis.errors import InvalidArgument

WEATHER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "description": "Where,\n\tand when.",
    "properties": {
        "place": {"$ref": "#/$defs/place"},
        "pattern": {"type": "string", "pattern": "^[a-z]+$"},  # a property of this name is no keyword
        "$ref": {"const": {"$ref": "https://example.com/data"}},  # nor is this one, and what it holds is data
        "$id": {"type": ["string", "null"], "default": {"$id": "x"}},
        "more": {"type": "array", "items": {"$ref": "#"}, "maxItems": 9},
    },
    "patternProperties": {"^x-": True},
    "additionalProperties": False,
    "required": ["place"],
    "$defs": {
        "place": {"anyOf": [{"type": "string"}, {"$ref": "#city"}]},
        "c": {"$anchor": "city", "type": "object"},
    },
}
DRAFT_07 = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"a~b": {"$ref": "#/definitions/a~1b%20c"}, "list": {"items": [{"type": "string"}]}},
    "definitions": {"a/b c": {"type": "integer", "maximum": 9223372036854775807}},
    "dependencies": {"a": ["b"], "b": {"required": ["c"]}},
}


def refusal(schema: Any, *, answer: bool = False) -> tuple[str, str]:
    """The rule that a schema breaks, or a text that is none, and the place."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    with pytest.raises(InvalidArgument) as refused:
        (check_answer if answer else check_parameters)(text, "tools[2].parameters_schema")
    assert refused.value.reason == "TOOL_SCHEMA_INVALID"
    assert [one.field for one in refused.value.violations] == ["tools[2].parameters_schema"]
    assert refused.value.metadata["rule"] == refused.value.message
    return refused.value.message, refused.value.metadata["pointer"]


@pytest.mark.parametrize("schema", [WEATHER, DRAFT_07, {"type": "object"}])
def test_schemas_of_every_day_are_taken(schema: dict[str, Any]) -> None:
    check_parameters(json.dumps(schema), "field")
    check_answer(json.dumps(schema), "field")


def test_an_answer_may_be_any_value() -> None:
    check_answer('{"type": "array", "items": {"type": "number"}}', "field")
    check_answer("{}", "field")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "{} {}",
        "{}x",
        "\ufeff{}",
        "{'type': 'object'}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        "nul",
        '{"a": 01}',
        '{"a": 1,}',
        "// x\n{}",
        '{"a": "\t"}',
        '{"a": "\\x41"}',
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_what_is_not_strict_json_is_refused(text: str) -> None:
    assert refusal(text) == ("the text is one JSON value and nothing else", "")


@pytest.mark.parametrize(
    ("text", "rule", "pointer"),
    [
        ('{"type": "object", "type": "object"}', "the keys of an object are distinct", ""),
        (
            '{"properties": {"a": {"b": 1, "\\u0062": 2}}}',
            "the keys of an object are distinct",
            "/properties/a",
        ),
        ('{"enum": [0, 1e999]}', "numbers are within the range of a double", "/enum/1"),
        ('{"maximum": -1' + "0" * 400 + "}", "numbers are within the range of a double", "/maximum"),
        ('{"title": "\\ud800"}', "strings have no", "/title"),
        ('{"title": "\\u0000"}', "strings have no", "/title"),
        ('{"title": "\\u202e"}', "strings have no", "/title"),
        ('{"properties": {"\\u202e": {}}}', "keys have no", "/properties"),
        ("[" * 5000, "the nesting is at most 32 deep", ""),
        ('{"not":' * 32 + "[]" + "}" * 32, "the nesting is at most 32 deep", ""),
        ('"' + "x" * 16384 + '"', "a schema has at most 16384 bytes", ""),
        ('"' + "\u00e9" * 8192 + '"', "a schema has at most 16384 bytes", ""),
        ("true", "a schema is an object", ""),
        ('"x"', "a schema is an object", ""),
        ("{}", 'the parameters of a function are of type "object"', "/type"),
        ('{"type": ["object"]}', 'the parameters of a function are of type "object"', "/type"),
    ],
)
def test_what_two_readers_take_differently_is_refused(text: str, rule: str, pointer: str) -> None:
    broken, place = refusal(text)
    assert broken.startswith(rule)
    assert place == pointer


def test_brackets_within_strings_are_not_nesting() -> None:
    check_answer(json.dumps({"description": '[{"' * 100}), "field")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "objekt"}, "/type"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a": {"minLength": -1}}}, "/properties/a/minLength"),
        ({"required": ["a", "a"]}, "/required"),
        ({"items": [{}]}, "/items"),
        ({"$defs": {"a": 5}}, "/$defs/a"),
        ({"additionalProperties": "no"}, "/additionalProperties"),
        # Draft 07 does not know $defs, so its own schema does not look inside: the reference does.
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema",
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "x"}},
            },
            "/$defs/a/type",
        ),
    ],
)
def test_what_is_no_schema_is_refused_where_it_is_none(schema: dict[str, Any], pointer: str) -> None:
    assert refusal(schema, answer=True) == ("a keyword has a value that its dialect allows", pointer)


@pytest.mark.parametrize(
    ("schema", "rule", "pointer"),
    [
        ({"$ref": "https://example.com/x"}, "a reference stays", "/$ref"),
        ({"allOf": [{"$ref": "other.json#/a"}]}, "a reference stays", "/allOf/0/$ref"),
        ({"$ref": "file:///etc/passwd"}, "a reference stays", "/$ref"),
        ({"$dynamicRef": "//example.com"}, "a reference stays", "/$dynamicRef"),
        ({"$ref": "#/$defs/none"}, "a reference leads", "/$ref"),
        ({"$ref": "#none"}, "a reference leads", "/$ref"),
        ({"$ref": "#/x-data", "x-data": {"$ref": "https://example.com"}}, "a reference leads", "/$ref"),
        ({"$ref": "#/enum/0", "enum": [{"$ref": "https://example.com"}]}, "a reference leads", "/$ref"),
        ({"$id": "https://example.com/", "$ref": "#"}, "a schema has no $id", "/$id"),
        ({"not": {"$id": "x"}}, "a schema has no $id", "/not/$id"),
        ({"$schema": "https://example.com/own"}, "the dialect is", "/$schema"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "the dialect is", "/$schema"),
        ({"$schema": 7}, "the dialect is", "/$schema"),
        (
            {"not": {"$schema": "https://json-schema.org/draft/2020-12/schema"}},
            "the dialect is named",
            "/not/$schema",
        ),
    ],
)
def test_nothing_leads_out_of_the_text(schema: dict[str, Any], rule: str, pointer: str) -> None:
    broken, place = refusal(schema, answer=True)
    assert broken.startswith(rule)
    assert place == pointer


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$recursiveRef": "#", "$schema": "https://json-schema.org/draft/2019-09/schema"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}},
        {"$defs": {"a": {"$anchor": "a", "dependentSchemas": {"x": {"$ref": "#a"}}}}},
    ],
)
def test_a_schema_that_never_ends_is_refused(schema: dict[str, Any]) -> None:
    rule, _ = refusal(schema, answer=True)
    assert rule == "a schema does not apply itself to the same value"


def test_a_tree_is_no_circle() -> None:
    check_answer('{"properties": {"left": {"$ref": "#"}, "right": {"items": {"$ref": "#"}}}}', "field")


def test_a_schema_that_doubles_line_by_line_is_refused() -> None:
    lines = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(64)}
    rule, pointer = refusal({"$ref": "#/$defs/a0", "$defs": {**lines, "a64": {}}}, answer=True)
    assert rule == "at most 1000 schemas apply to one value"
    assert pointer.startswith("/$defs/a")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"properties": {"a": {"pattern": "(a+)+$"}}}, "/properties/a/pattern"),
        ({"pattern": "("}, "/pattern"),
        ({"patternProperties": {"(?=x)": {}}}, "/patternProperties/?"),
        ({"propertyNames": {"pattern": "(a|aa)*"}}, "/propertyNames/pattern"),
        ({"anyOf": [{"pattern": "a" * 600}, {"pattern": "b" * 600}]}, "/anyOf/1/pattern"),
    ],
)
def test_patterns_are_judged_wherever_they_stand(schema: dict[str, Any], pointer: str) -> None:
    rule, place = refusal(schema, answer=True)
    assert "pattern" in rule
    assert place == pointer


def test_the_place_is_told_without_repeating_what_is_hostile() -> None:
    _, pointer = refusal({"properties": {"\n\u200bsecret words": {"type": 5}}}, answer=True)
    assert pointer == "/properties/?/type"
    deep: dict[str, Any] = {"type": 5}
    for _ in range(8):
        deep = {"properties": {"x" * 64: deep}}
    assert len(refusal(deep, answer=True)[1]) == 256


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["#", "object", "("]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "$ref",
                    "$defs",
                    "allOf",
                    "items",
                    "not",
                    "pattern",
                    "patternProperties",
                    "properties",
                    "type",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=24,
)


@given(JSON)
def test_any_json_is_taken_or_refused_by_a_rule(schema: Any) -> None:
    try:
        check_answer(json.dumps(schema), "field")
    except InvalidArgument as refused:
        assert refused.reason == "TOOL_SCHEMA_INVALID"  # noqa: PT017
