"""Recorded exchanges without a network: questions about the standard library, answered by its own docstrings.

The pairs depend on nothing but the Python version, so two runs on one machine play the same text in the same
order.
"""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

# Modules with much prose, importable everywhere without a side effect.
MODULES = (
    "argparse", "array", "ast", "asyncio", "base64", "bisect", "calendar", "cmd", "codecs", "collections",
    "concurrent.futures", "configparser", "contextlib", "csv", "datetime", "decimal", "difflib",
    "email.message", "enum", "fractions", "ftplib", "functools", "gettext", "gzip", "hashlib", "heapq",
    "hmac", "html", "http.client", "inspect", "io", "ipaddress", "itertools", "json", "locale", "logging",
    "mailbox", "math", "mimetypes", "multiprocessing", "numbers", "operator", "optparse", "os", "pathlib",
    "pickle", "platform", "plistlib", "pprint", "queue", "random", "re", "sched", "secrets", "selectors",
    "shelve", "shlex", "shutil", "signal", "smtplib", "socket", "sqlite3", "statistics", "string", "struct",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "time", "timeit", "tokenize", "traceback",
    "types", "unittest", "urllib.parse", "urllib.request", "uuid", "warnings", "wave", "weakref",
    "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip

# A text has about one token for four characters; close enough where no model server counts.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer.

    `subject` is the dotted name of the object asked about.
    """

    subject: str
    question: str
    answer: str

    @property
    def question_tokens(self) -> int:
        """The size of the question in tokens, at least 1."""
        return tokens(self.question)

    @property
    def answer_tokens(self) -> int:
        """The size of the answer in tokens, at least 1."""
        return tokens(self.answer)


def chat(exchange: Exchange) -> dict[str, list[dict[str, str]]]:
    """The line of a training file that teaches to answer so."""
    return {
        "messages": [
            {"role": "user", "content": exchange.question},
            {"role": "assistant", "content": exchange.answer},
        ]
    }


def exchanges(count: int = 500) -> list[Exchange]:
    """Returns `count` exchanges of very different lengths, the same ones at every call.

    Raises ValueError when this Python carries fewer documented objects, for instance under `-OO`.
    """
    every = sorted(_documented(), key=lambda exchange: exchange.subject)
    if count > len(every):
        raise ValueError(f"{count} exchanges wanted, but only {len(every)} objects carry a docstring here")
    # Evenly spread over the alphabet, so that few exchanges still meet many modules.
    return [every[index * len(every) // count] for index in range(count)]


def tokens(text: str) -> int:
    """Estimates the tokens of a text, at least 1."""
    return max(1, -(-len(text) // CHARACTERS_PER_TOKEN))


def _documented() -> Iterator[Exchange]:
    seen: set[str] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for subject, answer in _objects(name, module):
            if answer not in seen:
                seen.add(answer)
                yield Exchange(subject, f"What does {subject} do in Python, and how is it used?", answer)


def _objects(name: str, module: ModuleType) -> Iterator[tuple[str, str]]:
    for attribute in sorted(vars(module)):
        member = vars(module)[attribute]
        if attribute.startswith("_") or not (inspect.isroutine(member) or inspect.isclass(member)):
            continue
        # What a module merely imported is another module's object.
        if getattr(member, "__module__", name) not in {name, f"_{name}", f"{name}.{attribute}"}:
            continue
        text = inspect.getdoc(member)
        if text:
            yield f"{name}.{attribute}", text
        if inspect.isclass(member):
            yield from _methods(f"{name}.{attribute}", member)


def _methods(name: str, owner: type) -> Iterator[tuple[str, str]]:
    for attribute in sorted(vars(owner)):
        member = vars(owner)[attribute]
        # The docstring written here: an inherited one is asked about where it was written.
        text = getattr(member, "__doc__", None)
        if (
            not attribute.startswith("_")
            and inspect.isroutine(member)
            and isinstance(text, str)
            and text.strip()
        ):
            yield f"{name}.{attribute}", inspect.cleandoc(text)
