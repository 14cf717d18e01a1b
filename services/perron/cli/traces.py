"""Reads traces back from the files that the services write where no collector is set.

A caller's trace is one tree through all services. Work that several callers shared, a batch with its
transaction, is a trace of its own; each caller's span carries a link to it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Calls that nobody made on purpose are never "the last call".
_BACKGROUND = ("grpc.health.", "EventService/", "GetSigningKeys", "grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Link:
    """A span of another trace that this one took part in."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """One finished piece of work; times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    links: tuple[Link, ...] = ()

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Node:
    """A span with what happened below it, in the order of time."""

    span: Span
    children: tuple["Node", ...]

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Span]]:
        """Every span of the tree with its depth, parents first."""
        yield depth, self.span
        for child in self.children:
            yield from child.walk(depth + 1)


def read(folder: Path, trace_id: str) -> list[Span]:
    """Every span of a trace in the files of the folder, earliest first; `trace_id` may be abbreviated."""
    wanted = f'"trace_id":"{trace_id}'.encode()
    found = {span.span_id: span for span in _spans(folder, wanted) if span.trace_id.startswith(trace_id)}
    return sorted(found.values(), key=lambda span: span.start_ns)


def last(folder: Path) -> str:
    """The trace of the newest call; empty where there is none."""
    newest = max(
        (span for span in _spans(folder, b'"kind":"SERVER"') if _on_purpose(span)),
        key=lambda span: span.start_ns,
        default=None,
    )
    return newest.trace_id if newest else ""


def trees(spans: Sequence[Span]) -> list[Node]:
    """The spans as trees; one call gives exactly one.

    A span whose parent was recorded nowhere is a root: the caller's own span, for instance, is the caller's
    to keep.
    """
    known = {span.span_id for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def node(span: Span) -> Node:
        return Node(span, tuple(node(child) for child in below.get(span.span_id, ())))

    return [node(span) for span in below.get("", ())]


def connected(roots: Sequence[Node]) -> bool:
    """Whether the trees are one: one root, or all below one span that the caller kept to itself."""
    return len({root.span.parent_id or root.span.span_id for root in roots}) == 1


def _spans(folder: Path, containing: bytes) -> Iterator[Span]:
    for path in sorted(folder.glob("*.jsonl*")):
        with path.open("rb") as lines:
            for line in lines:
                # The last line may still be written; it is read next time.
                if containing in line and line.endswith(b"\n"):
                    entry = json.loads(line)
                    links = tuple(Link(**link) for link in entry.pop("links", ()))
                    yield Span(**entry, links=links)


def _on_purpose(span: Span) -> bool:
    return span.kind == "SERVER" and not any(name in span.name for name in _BACKGROUND)
