"""What a child process may not have: the worker's key, the environment, the network.

The environment is made here, name by name, so nothing is inherited by accident. The network goes with a
namespace of its own, which holds no device but a loopback that is down; where the system permits none (macOS,
a container without user namespaces), Python's sockets are refused by an audit hook instead, which code in
other languages could pass by. Which of the two holds is reported with every job.

What a newcomer gets wrong: a user namespace can be entered only while the process has one thread, so this
comes before any library that starts some.
"""

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NAMESPACE: Final = "namespace"
REFUSED: Final = "refused"

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_NEW_USER: Final = 0x10000000  # CLONE_NEWUSER

_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_FIXED: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it, sums on a GPU differ from run to run
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def environment(inherited: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Returns the whole environment of a child: nothing of the worker's settings, and homes in `scratch`."""
    kept = {name: inherited[name] for name in _KEPT if name in inherited}
    homes = {"HOME": str(scratch), "TMPDIR": str(scratch), "HF_HOME": str(scratch / "hub"), "USER": "trainer"}
    return kept | _FIXED | homes


def leave_network() -> str:
    """Gives the network up for the rest of this process; returns NAMESPACE or REFUSED, whichever holds."""
    sys.addaudithook(_refuse_sockets)
    user = os.getuid()
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (AttributeError, OSError):  # no Linux
        return REFUSED
    if unshare(_NEW_NETWORK) == 0:
        return NAMESPACE
    if unshare(_NEW_USER | _NEW_NETWORK) == 0:
        # Without this line the process would be nobody, also to its own files' names.
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1\n", encoding="ascii")
        return NAMESPACE
    return REFUSED


def _refuse_sockets(event: str, _arguments: tuple[Any, ...]) -> None:
    if event == "socket.__new__" or event.startswith("socket.get"):
        raise PermissionError(f"{event} is refused: a training process has no network")
