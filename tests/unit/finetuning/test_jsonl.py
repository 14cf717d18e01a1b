"""Training files: every rule with its line and byte, whatever the pieces in which a file comes."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.api.finetuning.v1 import file_pb2
from perron.finetuning.examples import weigh
from perron.finetuning.jsonl import FAULTS_MAX, LINE_BYTES_MAX, Fault, Report, Validator
from perron.finetuning.line_rules import FaultError, Rule
from perron.finetuning.strict_json import parse
from tests.scale import times
from tests.unit.finetuning.horrors import (
    ANSWER,
    CALL,
    CALLS,
    FAULTY,
    GOOD,
    RESULT,
    USER,
    called,
    chat,
    marked,
    with_tools,
)


def validated(content: bytes, piece: int = 1 << 20) -> Report:
    validator = Validator(b"k" * 32)
    for at in range(0, len(content), piece):
        validator.feed(content[at : at + piece])
    return validator.finish()


@pytest.mark.parametrize(("rule", "line"), FAULTY, ids=lambda value: value if isinstance(value, Rule) else "")
def test_each_horror_gets_its_own_rule_with_line_and_byte(rule: Rule, line: str) -> None:
    broken, column = marked(line)
    number = 1 if rule is Rule.BYTE_ORDER_MARK else 3
    report = validated(b"\n".join([*[GOOD] * (number - 1), broken, GOOD]) + b"\n")
    assert list(report.faults) == [Fault(number, column, rule)]
    assert report.counts.examples == number
    assert not report.valid


def test_bytes_that_are_not_utf8_are_told_by_their_place() -> None:
    at = GOOD.index(b"q")
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc3"):
        report = validated(GOOD[:at] + "é".encode() + bad + GOOD[at + 1 :])
        assert list(report.faults) == [Fault(1, at + 3, Rule.NOT_UTF8)]


def test_a_line_that_never_ends_is_a_fault_and_not_a_burden() -> None:
    size = times(8, 200) * 1024 * 1024
    validator = Validator(b"k" * 32)
    validator.feed(GOOD + b"\n")
    tracemalloc.start()
    for _ in range(size // 65_536):
        validator.feed(b"x" * 65_536)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    validator.feed(b"\n" + GOOD)
    report = validator.finish()
    assert list(report.faults) == [Fault(2, LINE_BYTES_MAX + 1, Rule.LINE_TOO_LONG)]
    assert report.counts.examples == 2
    assert peak < 4 * LINE_BYTES_MAX


def test_the_longest_line_is_read_and_one_byte_more_is_not() -> None:
    line = chat('{"role":"user","content":"%s"}', ANSWER).encode()
    fits = line.replace(b"%s", b"x" * (LINE_BYTES_MAX - len(line) + 2))
    assert len(fits) == LINE_BYTES_MAX
    for piece in (1000, 1 << 22):
        assert validated(fits, piece).valid
        assert validated(fits.replace(b"xx", b"xxx", 1), piece).faults[0].rule is Rule.LINE_TOO_LONG


def test_a_million_empty_objects_are_counted_and_a_hundred_told() -> None:
    count = times(50_000, 1_000_000)
    validator = Validator(b"k" * 32)
    tracemalloc.start()
    for _ in range(count // 1000):
        validator.feed(b"{}\n" * 1000)
    report = validator.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.faults_total == count
    assert [(one.line, one.rule) for one in report.faults] == [
        (number, Rule.MESSAGES_MISSING) for number in range(1, FAULTS_MAX + 1)
    ]
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_a_file_without_lines_is_empty(content: bytes) -> None:
    rule = Rule.LINE_BLANK if content else Rule.FILE_EMPTY
    assert list(validated(content).faults) == [Fault(1, 1, rule)]


@pytest.mark.parametrize(
    "text",
    ["\u2028", "\\u000b", "\x85", "\x7f", "👩\u200d🔧", ': \\":', "\\u0000"],
)
def test_only_the_newline_ends_a_line(text: str) -> None:
    line = chat(f'{{"role":"user","content":"{text}"}}', ANSWER).encode()
    report = validated(line + b"\r\n" + line)
    assert report.valid
    assert report.counts.lines == 2


def test_crlf_and_a_missing_last_newline_change_nothing() -> None:
    plain = validated(GOOD + b"\n" + GOOD + b"\n")
    assert plain.valid
    assert validated(GOOD + b"\r\n" + GOOD) == plain
    assert not validated(GOOD + b"\n\n").valid


def test_examples_turns_roles_and_bytes_of_text_are_counted() -> None:
    system = '{"role":"system","content":"é"}'
    weighted = '{"role":"assistant","content":"ab","weight":0}'
    report = validated(
        "\n".join([
            chat(system, USER, CALLS, RESULT, ANSWER, tools=True),
            chat(USER, weighted, USER, ANSWER),
        ]).encode()
    )  # fmt: skip
    counts = report.counts
    assert report.valid
    assert (counts.lines, counts.examples, counts.turns) == (2, 2, 9)
    assert counts.roles == {"system": 1, "user": 3, "assistant": 4, "tool": 1}
    assert counts.text_bytes == (2 + 1 + 3 + 1 + 1) + (1 + 2 + 1 + 1)
    assert counts.trained_bytes == (3 + 1) + 1
    assert (counts.longest_text_bytes, counts.longest_turns) == (8, 5)


def test_calls_in_parallel_are_paired_in_any_order() -> None:
    two = f'{{"role":"assistant","content":null,"tool_calls":[{CALL},{CALL.replace("c1", "c2")}]}}'
    other = RESULT.replace("c1", "c2")
    assert validated(called(two, other, RESULT, ANSWER).encode()).valid
    assert not validated(called(two, RESULT, ANSWER).encode()).valid


RICH = with_tools('{"name":"f","description":"d","strict":true,"parameters":{"a":[{"b":1},{}],"c":{}}}')[:-1]
TWO = f'{{"role":"assistant","content":null,"tool_calls":[{CALL},{CALL.replace("c1", "c2")}]}}'
ORDINARY = [
    GOOD.decode(),
    RICH + "}",
    called(TWO, RESULT.replace("c1", "c2"), RESULT[:-1] + ',"name":"f"}', ANSWER[:-1] + ',"weight":0.5}'),
]


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_example_is_not_read_twice(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perron.finetuning.examples.has_duplicate_keys", lambda _: pytest.fail("read twice"))
    assert validated(line.encode()).valid


@given(st.sampled_from(ORDINARY), st.data())
def test_no_key_comes_twice_unnoticed(line: str, data: st.DataObject) -> None:
    class Pairs(list[tuple[str, Any]]):
        pass

    objects: list[Pairs] = []

    def gathered(pairs: list[tuple[str, Any]]) -> Pairs:
        objects.append(Pairs(pairs))
        return objects[-1]

    whole = json.loads(line, object_pairs_hook=gathered)
    chosen = data.draw(st.sampled_from([one for one in objects if one]))
    chosen.insert(data.draw(st.integers(0, len(chosen))), data.draw(st.sampled_from(chosen)))

    def written(value: object) -> str:
        if isinstance(value, Pairs):
            return "{" + ",".join(f"{json.dumps(key)} : {written(inner)}" for key, inner in value) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        return json.dumps(value)

    (fault,) = validated(written(whole).encode()).faults
    assert fault.rule is Rule.DUPLICATE_KEY


@given(st.data())
def test_the_pieces_in_which_a_file_comes_change_nothing(data: st.DataObject) -> None:
    lines = [GOOD, *(marked(line)[0] for _, line in FAULTY if len(line) < 500), b"\xff", b"\r"]
    chosen = data.draw(st.lists(st.sampled_from(lines), max_size=6))
    content = b"\n".join(chosen)
    whole = validated(content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    validator = Validator(b"k" * 32)
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        validator.feed(content[start:end])
    assert validator.finish() == whole


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.just("c") | JSON},
    optional={
        "weight": st.sampled_from([0, 1, 0.5, 2, None]) | JSON,
        "tool_calls": st.just([json.loads(CALL)]) | JSON,
        "tool_call_id": st.just("c1") | JSON,
        "name": JSON,
    },
)
EXAMPLE = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, max_size=4)},
    optional={"tools": st.just([{"function": {"name": "f"}}]) | JSON, "more": JSON},
)


@given(EXAMPLE | JSON, st.booleans())
def test_what_the_fast_reader_refuses_is_always_explained(value: object, ascii_only: bool) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    report = validated(line)
    if weigh(line) is None:
        (fault,) = report.faults
        assert fault.column <= len(line)
        # Its own writer makes no syntax errors: "not JSON" would be "nobody knows why".
        assert fault.rule is not Rule.NOT_JSON
    else:
        assert report.valid


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")))
def test_no_bytes_are_beyond_the_validator(content: bytes) -> None:
    report = validated(content)
    assert report.faults_total >= 1
    assert all(one.line >= 1 and one.column >= 1 for one in report.faults)


@given(JSON)
def test_the_strict_reader_reads_what_json_means(value: object) -> None:
    written = json.dumps(value, allow_nan=True)
    try:
        node = parse(written)
    except FaultError as fault:
        assert fault.rule in {Rule.NUMBER_NOT_FINITE, Rule.LONE_SURROGATE}  # noqa: PT017 (the rule is the point)
        return
    assert node.place == 0


def test_every_rule_stands_in_the_contract() -> None:
    named = {name.removeprefix("RULE_") for name, _ in file_pb2.LineError.Rule.items()} - {"UNSPECIFIED"}
    assert {rule.value for rule in Rule} == named


def test_every_rule_is_shown_here() -> None:
    shown = {rule for rule, _ in FAULTY} | {Rule.NOT_UTF8, Rule.LINE_TOO_LONG, Rule.FILE_EMPTY}
    assert shown == set(Rule)
