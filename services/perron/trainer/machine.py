"""What this machine can train with, asked without the libraries that would take seconds to load."""

import os
import shutil
import subprocess

from perron.api.finetuning.v1 import worker_service_pb2 as worker_pb2
from perron.chassis.errors import SetupError

_ASK_SECONDS = 20
_MEBIBYTE = 1024 * 1024


def capabilities(device: str) -> worker_pb2.Capabilities:
    """Returns device and memory; `device` is "cpu", "cuda" or "auto".

    Raises SetupError for "cuda" without a GPU.
    """
    gpu = 0 if device == "cpu" else _gpu_bytes()
    if device == "cuda" and not gpu:
        raise SetupError("PERRON_TRAINER_DEVICE: nvidia-smi finds no GPU")
    if gpu:
        return worker_pb2.Capabilities(device=worker_pb2.DEVICE_CUDA, memory_bytes=gpu)
    return worker_pb2.Capabilities(
        device=worker_pb2.DEVICE_CPU,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def _gpu_bytes() -> int:
    """The memory of the first GPU; 0 where there is none."""
    ask = shutil.which("nvidia-smi")
    if ask is None:
        return 0
    try:
        said = subprocess.run(  # noqa: S603 (a fixed question)
            [ask, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            check=True,
            timeout=_ASK_SECONDS,
        ).stdout
        return int(said.split()[0]) * _MEBIBYTE
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
