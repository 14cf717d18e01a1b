"""Storage: where sealed content lies, a local folder or a bucket, by URL.

    /var/lib/perron/objects
    s3://bucket/prefix?region=eu-west-3&endpoint=https://storage.example

Credentials of a bucket come from the environment by the usual names (AWS_ACCESS_KEY_ID …), never from the
URL. Objects are small and written whole: an object is there with all its bytes or not at all, so nothing here
speaks of multipart uploads, which leave parts behind that no listing shows. What a newcomer gets wrong: keys
are made by this service. No text of a caller is ever part of one.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from perron.chassis import telemetry
from perron.chassis.clock import SystemClock
from perron.chassis.errors import SetupError, Unavailable

T = TypeVar("T")
_DRAFT: Final = re.compile(r"#\d+$")
_RETRIES: Final = 2
_RETRY_SECONDS: Final = 10
_OPTIONS: Final = frozenset({"region", "endpoint", "virtual_hosted_style_request"})

_log = telemetry.logger("storage")


class MissingObjectError(Exception):
    """There is no object of that key."""


class StoredObject(NamedTuple):
    """One object of a listing; `modified` is the storage's time in microseconds since 1970."""

    key: str
    size: int
    modified_us: int


class Storage:
    """Objects by key. Whatever goes wrong on the way to them is Unavailable (STORAGE_UNAVAILABLE)."""

    def __init__(self, url: str) -> None:
        """Opens the storage; raises SetupError for a URL that is none."""
        self._folder: Path | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="content")
        try:
            self._store = self._open(url)
        except (BaseError, OSError, ValueError) as error:
            raise SetupError(f"storage {_shown(url)}: {_reason(error)}") from None

    async def aside(self, work: Callable[[], T]) -> T:
        """Runs work on content beside the event loop, one after the other.

        In many threads each would keep memory of its own for the largest piece it ever saw.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def put(self, key: str, content: bytes) -> None:
        """Writes an object whole, in the place of the one of the same key if there is one."""
        await self._ask(obstore.put_async(self._store, key, content, use_multipart=False))
        if self._folder is not None:
            await self._ask(self.aside(partial(_sync, self._folder / key)))

    async def get(self, key: str) -> bytes:
        """Returns an object. Raises MissingObjectError."""
        found = await self._ask(obstore.get_async(self._store, key))
        return bytes(await self._ask(found.bytes_async()))

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """Returns the bytes of an object from `start` to before `end`. Raises MissingObjectError."""
        return bytes(await self._ask(obstore.get_range_async(self._store, key, start=start, end=end)))

    async def delete(self, key: str) -> None:
        """Deletes an object; one that is gone already is passed over."""
        try:
            await self._ask(obstore.delete_async(self._store, key))
        except MissingObjectError:
            return

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Yields the objects whose keys begin with the prefix, which ends with a slash."""
        pages = obstore.list(self._store, prefix=prefix)
        while True:
            try:
                page = await self._ask(anext(pages))
            except StopAsyncIteration:
                return
            for one in page:
                yield StoredObject(
                    str(one["path"]), int(one["size"]), int(one["last_modified"].timestamp() * 1_000_000)
                )

    async def delete_drafts(self, older_than: timedelta) -> int:
        """Deletes what writers that were killed left behind in a local folder; returns how many."""
        if self._folder is None:
            return 0
        return await self._ask(self.aside(partial(_delete_drafts, self._folder, older_than)))

    def _open(self, url: str) -> Any:
        parts = urlsplit(url)
        if parts.scheme == "s3":
            given = dict(parse_qsl(parts.query))
            if unknown := sorted(given.keys() - _OPTIONS):
                raise ValueError(f"there is no option {unknown[0]}")
            config: Any = given
            plaintext = given.get("endpoint", "").startswith("http://")
            return S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                config=config,
                client_options={"allow_http": plaintext, "connect_timeout": "3s", "timeout": "30s"},
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
            )
        if parts.scheme not in {"", "file"} or parts.netloc:
            raise ValueError("name a folder or s3://bucket/prefix")
        folder = Path(parts.path).absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        return LocalStore(folder, automatic_cleanup=True)

    async def _ask(self, question: Awaitable[T]) -> T:
        try:
            return await question
        except FileNotFoundError:
            raise MissingObjectError from None
        except (BaseError, OSError) as error:
            _log.warning("storage failed", reason=_reason(error))
            raise Unavailable(
                "STORAGE_UNAVAILABLE", "the storage of files and models cannot be reached or written to"
            ) from None


def _sync(path: Path) -> None:
    """Makes an object and its name durable."""
    for one in (path, path.parent, path.parent.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete_drafts(folder: Path, older_than: timedelta) -> int:
    # A local object is written beside its place and renamed; listings leave out what was never renamed.
    limit = SystemClock().now_us() / 1_000_000 - older_than.total_seconds()
    drafts = [path for path in folder.rglob("*#*") if _DRAFT.search(path.name) and path.is_file()]
    old = [path for path in drafts if path.stat().st_mtime <= limit]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _reason(error: Exception) -> str:
    # The text of a foreign exception may hold addresses and requests; the first words of our own do not.
    return str(error) if type(error) is ValueError else getattr(error, "strerror", "") or type(error).__name__


def _shown(url: str) -> str:
    return url.partition("?")[0]
