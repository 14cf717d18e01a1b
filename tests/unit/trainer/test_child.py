"""What a child says of a fault is where it happened, never what stood in the files."""

import subprocess
import sys

import msgspec
import pytest

from perron.trainer import child
from perron.trainer.model import Failed, Reason

SECRET = "a line of a training file"


def test_a_defect_is_told_by_type_and_place_never_by_its_text() -> None:
    with pytest.raises(ValueError, match="line") as caught:
        raise ValueError(SECRET)
    failed = child._failed(caught.value)

    assert failed.reason is Reason.TRAINER_DEFECT
    assert failed.frames[-1].startswith("test_child.py:")
    assert "ValueError" in failed.message
    assert SECRET.encode() not in msgspec.json.encode(failed)


@pytest.mark.parametrize(
    "error", [MemoryError(SECRET), type("OutOfMemoryError", (RuntimeError,), {})(SECRET)]
)
def test_too_little_memory_is_told_as_what_it_is(error: Exception) -> None:
    assert child._failed(error) == Failed(
        Reason.OUT_OF_MEMORY, "the device has too little memory for this job"
    )


def test_a_child_ends_with_its_worker() -> None:
    """The thread that waits for the end of standard input, in a process that would otherwise go on."""
    code = (
        "import threading, time; from perron.trainer import child\n"
        "threading.Thread(target=child._end_with_worker, daemon=True).start()\n"
        "print('training', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "training\n"
        process.stdin.close()

        assert process.wait(60) == 1
