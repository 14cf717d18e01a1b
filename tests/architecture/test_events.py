"""An event that is not documented is a surprise, and one that nobody sends is a promise not kept."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.test_layout import ROOMS
from tests.rpcs import ROOT

PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
KINDS = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", PAGE, re.MULTILINE)
NOUNS = "|".join({kind.partition(".")[0] for kind in KINDS})


def literals() -> Iterator[str]:
    """What reads like a kind of event in the services, or like the beginning of one."""
    for room in ROOMS:
        for path in (ROOT / "services" / "perron" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and re.fullmatch(rf"({NOUNS})\.[a-z_]*", str(node.value)):
                    yield str(node.value)


SENT = set(literals())
BEGINNINGS = tuple(one for one in SENT if one.endswith((".", "_")))
FOLLOWED = {"organization.terminated"}
"""What services are ready for, though nobody sends it yet."""


def test_every_event_is_documented() -> None:
    assert sorted(SENT - set(BEGINNINGS) - set(KINDS) - FOLLOWED) == []
    assert sorted(one for one in BEGINNINGS if not any(kind.startswith(one) for kind in KINDS)) == []


def test_no_event_is_documented_that_nobody_sends() -> None:
    assert sorted(kind for kind in KINDS if kind not in SENT and not kind.startswith(BEGINNINGS)) == []


def test_the_page_names_each_event_once() -> None:
    assert KINDS
    assert len(KINDS) == len(set(KINDS))
