"""The one answer that may be remembered: who stands behind a service's own key, for at most one second.

Every call between services presents such a key. All other answers are asked for every time.
"""

import asyncio
import hashlib
from typing import Final

from perron.chassis.interceptors.access import CallerKind, Verified

_SECONDS: Final = 1.0
_ANSWERS_MAX: Final = 1024


class RememberedServices:
    """Answers about service keys, by digest; what is not a valid service key is never kept."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[float, Verified]] = {}

    def find(self, credential: str) -> Verified | None:
        """Returns the answer of the last second, if there is one."""
        kept = self._answers.get(_digest(credential))
        if kept is None or kept[0] <= asyncio.get_running_loop().time():
            return None
        return kept[1]

    def keep(self, credential: str, answer: Verified, asked: float) -> None:
        """Keeps an answer for a second from `asked`, the event loop's time at which it was asked for."""
        if answer.state != "VALID" or answer.caller is None or answer.caller.kind is not CallerKind.SERVICE:
            return
        if len(self._answers) >= _ANSWERS_MAX:
            self._answers.clear()
        self._answers[_digest(credential)] = (asked + _SECONDS, answer)


def _digest(credential: str) -> bytes:
    return hashlib.blake2b(credential.encode(), digest_size=16).digest()
