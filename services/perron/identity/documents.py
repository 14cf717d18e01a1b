"""Documents: what organizations accept, from the installation's documents file (clause 1.1-use).

Versions of a document follow each other by effective time. Between a version's effective time and its
accept-by time the earlier acceptance still lets calls through; after it only an acceptance of that version
or a later one does.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perron.chassis.clock import to_us
from perron.chassis.errors import SetupError
from perron.identity import errors
from perron.identity.model import Acceptance
from perron.identity.records import Record, read_records


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document; `text_digest` is the SHA-256 of its text in UTF-8, in hexadecimal."""

    name: str
    version: str
    text: str
    text_digest: str
    effective_us: int
    accept_by_us: int


class Documents:
    """All versions of all documents of an installation, in the order of their file."""

    def __init__(self, documents: tuple[Document, ...]) -> None:
        self.all = documents
        self._by_version = {(document.name, document.version): document for document in documents}
        self._versions: dict[str, list[Document]] = {}
        for document in sorted(documents, key=lambda document: document.effective_us):
            self._versions.setdefault(document.name, []).append(document)
        # (accept-by, document, versions that satisfy it): all that Verify has to look at.
        self._bindings = tuple(
            (document.accept_by_us, name, frozenset(later.version for later in versions[index:]))
            for name, versions in self._versions.items()
            for index, document in enumerate(versions)
        )

    def get(self, name: str, version: str, now_us: int) -> Document:
        """Returns a version of a document, the newest in force where none is named. Raises NotFound."""
        found = self._by_version.get((name, version)) if version else self._in_force(name, now_us)
        if found is None:
            raise errors.not_found("document")
        return found

    def check(self, acceptances: Iterable[Acceptance]) -> None:
        """Raises InvalidArgument for an unknown document, FailedPrecondition for another text."""
        for acceptance in acceptances:
            document = self._by_version.get((acceptance.document, acceptance.version))
            if document is None:
                raise errors.document_unknown()
            if not hmac.compare_digest(document.text_digest, acceptance.text_digest):
                raise errors.digest_mismatch(acceptance.document)

    def require_all(self, acceptances: Iterable[Acceptance], now_us: int) -> None:
        """Raises FailedPrecondition unless every document in force is accepted."""
        accepted = self.newest({}, acceptances)
        for name, versions in self._versions.items():
            in_force = self._in_force(name, now_us)
            if in_force is None:
                continue
            enough = {later.version for later in versions[versions.index(in_force) :]}
            if accepted.get(name) not in enough:
                raise errors.acceptance_missing(name)

    def newest(self, accepted: Mapping[str, str], acceptances: Iterable[Acceptance]) -> dict[str, str]:
        """Returns what stands accepted after these acceptances: of each document the newest version."""
        standing = dict(accepted)
        for acceptance in acceptances:
            order = [document.version for document in self._versions[acceptance.document]]
            before = standing.get(acceptance.document)
            if before not in order or order.index(before) < order.index(acceptance.version):
                standing[acceptance.document] = acceptance.version
        return standing

    def overdue_from_us(self, accepted: Mapping[str, str]) -> int | None:
        """Returns the instant from which an acceptance is overdue; None where none ever is."""
        due = [by_us for by_us, name, enough in self._bindings if accepted.get(name) not in enough]
        return min(due, default=None)

    def _in_force(self, name: str, now_us: int) -> Document | None:
        return next(
            (
                document
                for document in reversed(self._versions.get(name, ()))
                if document.effective_us <= now_us
            ),
            None,
        )


def load(path: str) -> Documents:
    """Reads the documents file at `path`, or this package's own where it is empty. Raises SetupError."""
    source, records = read_records(path, "documents.yaml", "documents")
    documents = tuple(_document(record, source) for record in records)
    if len({(document.name, document.version) for document in documents}) != len(documents):
        message = f"{source}: a version of a document stands there twice"
        raise SetupError(message)
    return Documents(documents)


def _document(record: Record, source: str) -> Document:
    name, version, text = record.name("name"), record.version("version"), record.text("text")
    effective_us, accept_by_us = (
        to_us(record.instant("effective_time")),
        to_us(record.instant("accept_by_time")),
    )
    record.done()
    if accept_by_us < effective_us:
        message = f"{source}: {name} {version}: accept_by_time lies before effective_time"
        raise SetupError(message)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Document(name, version, text, digest, effective_us, accept_by_us)
