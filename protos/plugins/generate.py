"""Generates gen/ from protos/: Python code with its types, and the descriptors with their comments.

Only files named `*_pb2*` are ever removed, so that what is written by hand beside them stays; a file that
did not change is not touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"


def main() -> int:
    """Generates everything, replaces what differs, and imports each module once; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        buf("generate", "-o", str(fresh))
        buf("build", ".", "--as-file-descriptor-set", "-o", str(fresh / "all.binpb"))
        replace_generated(fresh / "python", GEN / "python")
        write_if_changed(GEN / "descriptors.binpb", descriptors((fresh / "all.binpb").read_bytes()))
    for package in ("perron/api", "buf"):
        if (GEN / "python" / package).is_dir():
            write_if_changed(GEN / "python" / package / "py.typed", b"")
    return check_imports()


def buf(*arguments: str) -> None:
    """Runs buf in protos/ with this interpreter first on the path; exits with buf's code if it fails."""
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([str(Path(scripts, "buf")), *arguments], cwd=PROTOS, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def replace_generated(fresh: Path, target: Path) -> None:
    """Makes the generated files under `target` those of `fresh`, and removes what is gone."""
    for types in fresh.rglob("*_pb2_grpc.pyi"):
        # protoc-gen-mypy_grpc writes types for files without a service too.
        if not types.with_suffix(".py").exists():
            types.unlink()
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for name in sorted(wanted):
        write_if_changed(target / name, (fresh / name).read_bytes())
    for stale in sorted(target.rglob("*_pb2*")):
        if stale.is_file() and stale.suffix in {".py", ".pyi"} and stale.relative_to(target) not in wanted:
            stale.unlink()
    for cache in sorted(target.rglob("__pycache__")):
        shutil.rmtree(cache, ignore_errors=True)
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def descriptors(image: bytes) -> bytes:
    """Returns the descriptor set with Perron's comments only, without other people's and bare positions."""
    files = FileDescriptorSet.FromString(image)
    for file in files.file:
        if not file.name.startswith("perron/"):
            file.ClearField("source_code_info")
            continue
        commented = [
            place
            for place in file.source_code_info.location
            if place.leading_comments or place.trailing_comments or place.leading_detached_comments
        ]
        del file.source_code_info.location[:]
        file.source_code_info.location.extend(commented)
    return files.SerializeToString(deterministic=True)


def write_if_changed(path: Path, content: bytes) -> None:
    """Writes `content` to `path` unless it is there already."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def check_imports() -> int:
    """Imports every generated module in a fresh process, to find a broken one; returns its exit code."""
    roots = sorted((GEN / "python").rglob("*_pb2*.py"))
    modules = [".".join(path.relative_to(GEN / "python").with_suffix("").parts) for path in roots]
    program = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    environment = os.environ | {"PYTHONPATH": str(GEN / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", program, *modules], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
