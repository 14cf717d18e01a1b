"""`samples`: prints the recorded exchanges that the demo and the benches play."""

import json
import sys
from typing import Annotated

import typer

from perron.cli import output, samples
from perron.cli.output import AsJson


def print_samples(
    count: Annotated[int, typer.Option(min=1, max=2000, help="How many.")] = 500,
    chat: Annotated[bool, typer.Option("--chat", help="As the lines of a training file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print recorded exchanges: questions about Python's standard library, answered by its own docstrings.

    With --json one object a line: subject, question, answer. With --chat one chat a line, to fine-tune with.
    """
    found = samples.exchanges(count)
    if chat:
        for one in found:
            sys.stdout.write(json.dumps(samples.chat(one), ensure_ascii=False) + "\n")
        return
    if as_json:
        for one in found:
            fields = {"subject": one.subject, "question": one.question, "answer": one.answer}
            sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
        return
    rows = [
        {
            "subject": one.subject,
            "tokens": one.question_tokens + one.answer_tokens,
            "answer": _first_line(one.answer),
        }
        for one in found
    ]
    output.show_list(rows, ("subject", "tokens", "answer"), as_json=False, empty="")


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:72]
