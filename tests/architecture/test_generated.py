"""What is generated and committed is what the contract says now."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

from tests.rpcs import ROOT


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "gen", tmp_path / "gen", ignore=shutil.ignore_patterns("__pycache__"))

    subprocess.run(
        [sys.executable, "protos/plugins/generate.py"], cwd=tmp_path, check=True, capture_output=True
    )

    assert list(differing(ROOT / "gen", tmp_path / "gen")) == []


def differing(committed: Path, fresh: Path) -> list[str]:
    """The files that are not the same in both, relative to the first."""
    ignored = {"__pycache__"}
    names = {
        path.relative_to(root)
        for root in (committed, fresh)
        for path in root.rglob("*")
        if path.is_file() and not ignored & set(path.parts)
    }
    same = (committed.joinpath, fresh.joinpath)
    return sorted(
        str(name)
        for name in names
        if not all(at(name).is_file() for at in same)
        or not filecmp.cmp(*(at(name) for at in same), shallow=False)
    )
