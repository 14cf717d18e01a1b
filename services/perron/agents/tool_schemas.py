"""Schemas of tools: what a function takes and what an answer looks like, as JSON Schema.

Perron applies no schema; gateways and model servers do, with libraries of their own. So what is taken in must
be harmless to all of them. What a newcomer gets wrong: a schema is a program. It fetches (a `$ref` to another
host), it does not end (a `$ref` to itself), and it doubles with each line (definitions that apply the one
before twice). Refusals say rule and place, never the schema's text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final
from urllib.parse import unquote

from perron.agents import patterns
from perron.agents.strict_json import Pointer, RuleBrokenError, parse
from perron.chassis.errors import InvalidArgument

BYTES_MAX: Final = 16 * 1024
PATTERN_CHARACTERS_MAX: Final = 1024
APPLIED_MAX: Final = 1000

_DIALECTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
)

_ONE_OR_LIST: Final = frozenset({
    "additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "contentSchema", "else", "if",
    "items", "not", "oneOf", "prefixItems", "propertyNames", "then", "unevaluatedItems",
    "unevaluatedProperties",
})  # fmt: skip
_BY_NAME: Final = frozenset({
    "$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties",
})  # fmt: skip
_SAME_VALUE: Final = frozenset({
    "allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then",
})  # fmt: skip
"""Keywords that hold schemas; the last ones apply them to the value itself, not to a part of it."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.$-]{1,64}")
_POINTER_CHARACTERS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class _Schema:
    """A schema within the text: its place, its keywords, and which schema applies it to its own value."""

    pointer: Pointer
    keywords: Mapping[str, Any]
    applied_by: Pointer | None


def check_parameters(text: str, field: str) -> None:
    """Checks the schema of a function's parameters. Raises InvalidArgument, TOOL_SCHEMA_INVALID."""
    _check(text, field, of_object=True)


def check_answer(text: str, field: str) -> None:
    """Checks the schema of an answer. Raises InvalidArgument, TOOL_SCHEMA_INVALID."""
    _check(text, field, of_object=False)


def _check(text: str, field: str, *, of_object: bool) -> None:
    try:
        _examine(text, of_object=of_object)
    except RuleBrokenError as broken:
        raise InvalidArgument(
            "TOOL_SCHEMA_INVALID",
            broken.rule,
            field=field,
            metadata={"rule": broken.rule, "pointer": _shown(broken.pointer)},
        ) from None


def _examine(text: str, *, of_object: bool) -> None:
    if len(text.encode(errors="surrogatepass")) > BYTES_MAX:
        raise RuleBrokenError(f"a schema has at most {BYTES_MAX} bytes")
    top = parse(text)
    if not isinstance(top, dict):
        raise RuleBrokenError("a schema is an object")
    if of_object and top.get("type") != "object":
        raise RuleBrokenError('the parameters of a function are of type "object"', ("type",))
    dialect = top.get("$schema", _DIALECTS[0])
    if not isinstance(dialect, str) or dialect.removesuffix("#") not in _DIALECTS:
        raise RuleBrokenError("the dialect is draft 2020-12, 2019-09 or 07", ("$schema",))
    _check_form(top, dialect, ())
    schemas = {one.pointer: one for one in _schemas(top, (), None)}
    _check_identifiers(schemas.values())
    _check_patterns(schemas.values())
    targets = _targets(schemas)
    for target in set().union(*targets.values()):  # where a dialect does not know the keyword around it
        _check_form(schemas[target].keywords, dialect, target)
    _check_work(schemas.values(), targets)


def _schemas(keywords: Mapping[str, Any], pointer: Pointer, applied_by: Pointer | None) -> Iterator[_Schema]:
    """Yields a schema and those within it."""
    yield _Schema(pointer, keywords, applied_by)
    for keyword, value in keywords.items():
        owner = pointer if keyword in _SAME_VALUE else None
        for place, one in _held(keyword, value):
            if isinstance(one, dict):
                yield from _schemas(one, pointer + place, owner)
            elif isinstance(one, bool):
                yield _Schema(pointer + place, {}, owner)


def _held(keyword: str, value: Any) -> Iterator[tuple[Pointer, Any]]:
    """Yields what a keyword holds in the places of schemas. All else is data, whatever it looks like."""
    if keyword in _BY_NAME and isinstance(value, dict):
        yield from (((keyword, name), one) for name, one in value.items())
    elif keyword in _ONE_OR_LIST and isinstance(value, list):
        yield from (((keyword, str(index)), one) for index, one in enumerate(value))
    elif keyword in _ONE_OR_LIST:
        yield (keyword,), value


def _check_form(keywords: Mapping[str, Any], dialect: str, pointer: Pointer) -> None:
    """Checks keywords by the schema of their dialect, which the library holds: nothing is fetched."""
    import jsonschema_rs  # 7 MB and 30 ms, when the first schema comes

    try:
        jsonschema_rs.meta.validate({**keywords, "$schema": dialect})
    except jsonschema_rs.ValidationError as error:
        place = (*pointer, *map(str, error.instance_path))
        raise RuleBrokenError("a keyword has a value that its dialect allows", place) from None


def _check_identifiers(schemas: Iterable[_Schema]) -> None:
    for one in schemas:
        if "$id" in one.keywords:
            raise RuleBrokenError("a schema has no $id, which moves its references", (*one.pointer, "$id"))
        if one.pointer and "$schema" in one.keywords:
            raise RuleBrokenError("the dialect is named at the top only", (*one.pointer, "$schema"))


def _check_patterns(schemas: Iterable[_Schema]) -> None:
    characters = 0
    for one in schemas:
        named = one.keywords.get("patternProperties")
        found: list[tuple[Pointer, Any]] = [(("pattern",), one.keywords.get("pattern"))]
        if isinstance(named, dict):
            found += [(("patternProperties", name), name) for name in named]
        for place, pattern in found:
            if not isinstance(pattern, str):
                continue
            characters += len(pattern)
            if characters > PATTERN_CHARACTERS_MAX:
                rule = f"the patterns of a schema have at most {PATTERN_CHARACTERS_MAX} characters together"
                raise RuleBrokenError(rule, one.pointer + place)
            if rule_broken := patterns.broken_rule(pattern):
                raise RuleBrokenError(rule_broken, one.pointer + place)


def _targets(schemas: Mapping[Pointer, _Schema]) -> dict[Pointer, set[Pointer]]:
    """Returns the places to which each schema refers, all of them schemas of the text."""
    anchors = {
        "#" + one.keywords[keyword]: one.pointer
        for one in schemas.values()
        for keyword in ("$anchor", "$dynamicAnchor")
        if isinstance(one.keywords.get(keyword), str)
    }
    targets: dict[Pointer, set[Pointer]] = {}
    for one in schemas.values():
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword not in one.keywords:
                continue
            reference, place = one.keywords[keyword], (*one.pointer, keyword)
            if not isinstance(reference, str) or not reference.startswith("#"):
                raise RuleBrokenError('a reference stays within the text: it begins with "#"', place)
            target = anchors.get(reference, _pointed_at(reference))
            if target is None or target not in schemas:
                raise RuleBrokenError("a reference leads to a schema of the same text", place)
            targets.setdefault(one.pointer, set()).add(target)
    return targets


def _pointed_at(reference: str) -> Pointer | None:
    """Reads a reference as JSON Pointer in a fragment (RFC 6901, section 6); None where it is none."""
    path = unquote(reference.removeprefix("#"))
    if path and not path.startswith("/"):
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])


def _check_work(schemas: Iterable[_Schema], targets: Mapping[Pointer, set[Pointer]]) -> None:
    """Checks how many schemas a single value is held against: no circle, and no doubling line by line."""
    applies = {pointer: list(found) for pointer, found in targets.items()}
    for one in schemas:
        if one.applied_by is not None:
            applies.setdefault(one.applied_by, []).append(one.pointer)
    work: dict[Pointer, int] = {}
    try:
        for pointer in TopologicalSorter(applies).static_order():
            work[pointer] = 1 + sum(work[other] for other in applies.get(pointer, ()))
            if work[pointer] > APPLIED_MAX:
                raise RuleBrokenError(f"at most {APPLIED_MAX} schemas apply to one value", pointer)
    except CycleError as error:
        raise RuleBrokenError("a schema does not apply itself to the same value", error.args[1][0]) from None


def _shown(pointer: Pointer) -> str:
    """Returns a JSON Pointer in which keys that are not plain words are "?", cut at 256 characters."""
    steps = (step if _PLAIN_KEY.fullmatch(step) else "?" for step in pointer)
    return "".join(f"/{step}" for step in steps)[:_POINTER_CHARACTERS_MAX]
