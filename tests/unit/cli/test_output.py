import json
from datetime import timedelta

import pytest

from perron.api.quotas.v1 import limit_pb2
from perron.chassis.errors import FieldViolation, QuotaViolation, ResourceExhausted
from perron.cli import options, output


def limit() -> limit_pb2.Limit:
    return limit_pb2.Limit(
        scope=limit_pb2.LIMIT_SCOPE_KEY, metric=limit_pb2.METRIC_TOKENS, window=limit_pb2.WINDOW_DAY, amount=7
    )


def test_people_read_plain_words_and_machines_the_names_of_the_contract(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert output.readable(limit()) == {"scope": "key", "metric": "tokens", "window": "day", "amount": 7}
    output.show(limit(), as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "scope": "LIMIT_SCOPE_KEY",
        "metric": "METRIC_TOKENS",
        "window": "WINDOW_DAY",
        "amount": "7",
    }


def test_words_on_the_command_line_are_the_words_that_are_printed() -> None:
    for enum in (limit_pb2.Metric.DESCRIPTOR, limit_pb2.Window.DESCRIPTOR, limit_pb2.LimitScope.DESCRIPTOR):
        for value in enum.values:
            if value.number:
                word = output.enum_word(enum, value.number)
                assert options.enum_value(enum, word, "") == value.number
                assert options.enum_value(enum, word.upper().replace("-", "_"), "") == value.number


def test_an_empty_list_is_said_beside_the_answer_and_is_an_empty_list_for_machines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show_list([], ("name",), as_json=True, empty="nobody is here")
    assert json.loads(capsys.readouterr().out) == []


def test_a_refusal_names_fields_limits_and_the_time_of_return() -> None:
    error = ResourceExhausted(
        "LIMIT_REACHED",
        "The limit is reached.",
        metadata={"lifted_by": "an upgrade"},
        violations=[FieldViolation("model", "is unknown")],
        quota=[QuotaViolation("API key", "600 requests per minute")],
        retry_after=timedelta(seconds=2.5),
    )
    assert output.error_fields(error) == {
        "code": "RESOURCE_EXHAUSTED",
        "reason": "LIMIT_REACHED",
        "message": "The limit is reached.",
        "metadata": {"lifted_by": "an upgrade"},
        "violations": {"model": "is unknown"},
        "limits": {"API key": "600 requests per minute"},
        "retry_after_seconds": 2.5,
    }


def test_text_from_outside_is_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.show({"name": "[bold red]not markup[/bold red]"}, as_json=False)
    assert "[bold red]not markup[/bold red]" in capsys.readouterr().out
