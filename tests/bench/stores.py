"""The stores that measurements begin with, kept under var/bench/ from one run to the next.

`base` holds the tenants, their agents and no traffic; every run begins with a copy of it. `million` is
identity's store of the base with keys filled up to a million, by bulk insert: nobody has their secrets, and
their digests lie between those of the others. `crowded` is the base with a hundred thousand agents in its
first workspace.
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from perron.cli.suite import Suite
from tests.bench import agents, tenants

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "bench"
TIERS = Path(__file__).with_name("tiers.yaml")
MILLION = 1_000_000
_BLOCK = 100_000

ENVIRONMENT: Mapping[str, str] = {"PERRON_QUOTAS_TIERS_FILE": str(TIERS)}


def prepare() -> None:
    """Makes what is missing, or all of it where the code that made it has changed."""
    stamp, stamped = _stamp(), FOLDER / "stamp"
    if stamped.exists() and stamped.read_text() == stamp:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    print("filling a store with 1,000 keys …", flush=True)
    with Suite(FOLDER / "base", environment=ENVIRONMENT) as suite:
        tenants.populate(suite)
        settings = suite.environment("agents")
    agents.populate(FOLDER / "base", settings)
    print("filling a store with 1,000,000 keys …", flush=True)
    shutil.copytree(FOLDER / "base", FOLDER / "million")
    _fill(FOLDER / "million" / "identity.sqlite", MILLION)
    print("filling a workspace with 100,000 agents …", flush=True)
    shutil.copytree(FOLDER / "base", FOLDER / "crowded")
    agents.crowd(
        FOLDER / "crowded",
        {
            name: value.replace(str(FOLDER / "base"), str(FOLDER / "crowded"))
            for name, value in settings.items()
        },
    )
    stamped.write_text(stamp)


def copy_of_base(name: str) -> Path:
    """Makes a folder with the tenants and nothing else."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(FOLDER / "base", folder)


def size(folder: Path) -> int:
    """Bytes of all stores and of the vault, after their logs were written back."""
    total = 0
    for path in folder.rglob("*"):
        if path.suffix == ".sqlite":
            with sqlite3.connect(path, timeout=10) as store:
                busy = store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                assert not busy, f"{path} could not be checkpointed"
            store.close()
            total += path.stat().st_size
        elif path.is_file() and "vault" in path.parts:
            total += path.stat().st_size
    return total


def _fill(path: Path, rows: int) -> None:
    """Adds clones of customers' keys, each with an id and a random digest of its own."""
    store = sqlite3.connect(path)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=OFF")
    store.execute("PRAGMA cache_size=-400000")
    columns = [row[1] for row in store.execute("PRAGMA table_info(api_keys)")]
    names = ", ".join(columns)
    model = store.execute(
        f"SELECT {names} FROM api_keys WHERE kind = 'CUSTOMER' AND ancestors != ''"
    ).fetchall()
    present = store.execute("SELECT count(*) FROM api_keys").fetchone()[0]
    digest, key_id = columns.index("digest"), columns.index("key_id")

    def clones(numbers: range) -> Iterator[tuple[object, ...]]:
        # In the order of the primary key a block is written sequentially, not page by page at random.
        for number, drawn in zip(numbers, sorted(os.urandom(32) for _ in numbers), strict=True):
            row = list(model[number % len(model)])
            row[digest], row[key_id] = drawn, f"key_{number:026d}"
            yield tuple(row)

    insert = f"INSERT INTO api_keys ({names}) VALUES ({', '.join('?' * len(columns))})"
    for start in range(present, rows, _BLOCK):
        store.executemany(insert, clones(range(start, min(start + _BLOCK, rows))))
        store.commit()
    store.execute("ANALYZE")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()


def _stamp() -> str:
    """Changes with the contract, the migrations and the making of the stores."""
    made_from = [
        ROOT / "gen" / "descriptors.binpb",
        TIERS,
        Path(agents.__file__),
        Path(tenants.__file__),
        Path(__file__),
        *sorted((ROOT / "services" / "perron").glob("*/migrations/versions/*.py")),
    ]
    digest = hashlib.sha256()
    for path in made_from:
        digest.update(path.read_bytes())
    return digest.hexdigest()
