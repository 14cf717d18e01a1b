"""The house is laid out the same in every room, and its namespace stays whole."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rpcs import ROOT

SERVICES = ROOT / "services" / "perron"
ROOMS = ("identity", "quotas", "governance", "agents", "admission", "finetuning")
LINES_MAX = 400

EVERY_ROOM = ("__init__.py", "__main__.py", "app.py", "convert.py", "errors.py", "model.py", "settings.py")
ROOMS_WITH_STORE = ("store.py", "tables.py", "migrations")

WIRING = re.compile(
    r"^(__main__|app|settings|convert|tables|peers|store|\w+_store|\w+_servicer|verification|\w+_convert|"
    r"wire|answers|secret_files|first_start)$"
)
"""Modules that may know the wire, the store or the environment. All others are the domain."""

BETWEEN_SERVICES = frozenset(
    {"admissions", "authoring", "effective_models", "exchanges", "plan_changes", "resolve_calls"}
)
"""Modules that pass on the questions and answers of other services, and wait for them."""

BYTES = frozenset({"pace", "receiving", "sealed_blobs", "storage"})
"""Finetuning's modules that move bytes to and from the storage, and wait for them."""

FOREIGN_TO_DOMAIN = frozenset({"grpc", "google", "sqlalchemy", "os", "asyncio", "uuid_utils", "perron.api"})


def modules(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("root", ["services/perron", "gen/python/perron", "gen/python/perron/api"])
def test_the_namespace_has_no_module_of_its_own(root: str) -> None:
    """One `__init__.py` here would hide the other root, and every import of it would fail."""
    assert not (ROOT / root / "__init__.py").exists()


def test_nothing_shadows_a_package_that_is_installed() -> None:
    """A folder `google` in gen/python would hide the real one."""
    roots = {
        path.name for root in ("services", "gen/python") for path in (ROOT / root).iterdir() if path.is_dir()
    }

    assert roots - {"__pycache__"} == {"perron", "buf"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_service_has_the_same_files(room: str) -> None:
    wanted = EVERY_ROOM if room == "admission" else EVERY_ROOM + ROOMS_WITH_STORE

    assert [name for name in wanted if not (SERVICES / room / name).exists()] == []
    assert list((SERVICES / room).glob("*_servicer.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_the_domain_knows_neither_wire_nor_store_nor_environment(room: str) -> None:
    foreign = {
        f"{path.relative_to(SERVICES)}: {name}"
        for path in (SERVICES / room).glob("*.py")
        if not WIRING.match(path.stem) and path.stem not in BETWEEN_SERVICES | BYTES
        for name in imported(path)
        if any(name == other or name.startswith(f"{other}.") for other in FOREIGN_TO_DOMAIN)
    }

    assert foreign == set()


@pytest.mark.parametrize("room", ROOMS)
def test_the_domain_asks_its_clock_for_the_time(room: str) -> None:
    own_time = {
        f"{path.relative_to(SERVICES)}:{node.lineno}"
        for path in (SERVICES / room).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("datetime", "now"), ("time", "time"), ("time", "time_ns"), ("date", "today")}
    }

    assert own_time == set()


@pytest.mark.parametrize("room", [*ROOMS, "chassis", "cli", "client"])
def test_every_module_says_what_it_is_for(room: str) -> None:
    silent = [
        str(path.relative_to(SERVICES))
        for path in modules(SERVICES / room)
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]

    assert silent == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules(ROOT / "services", ROOT / "tests")
        if (count := len(path.read_text("utf-8").splitlines())) > LINES_MAX
    }

    assert long == {}


def test_no_service_blocks_its_event_loop_by_sleeping() -> None:
    sleeping = [
        str(path.relative_to(SERVICES))
        for path in modules(*(SERVICES / room for room in (*ROOMS, "chassis")))
        if re.search(r"\btime\.sleep\b|from time import .*\bsleep\b", path.read_text("utf-8"))
    ]

    assert sleeping == []


def test_nothing_is_left_for_later_in_a_comment() -> None:
    marks = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules(ROOT / "services", ROOT / "tests", ROOT / "protos")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if marks.search(line)
    ]

    assert left == []


def test_the_law_of_imports_is_kept() -> None:
    linted = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert linted.returncode == 0, linted.stdout[-3000:]


def imported(path: Path) -> Iterator[str]:
    """The modules that a module imports when it runs; imports for annotations alone do not count."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
