"""The leash: services that one process starts end when it has ended, also where it was killed.

Their starter holds one end of a pipe and never writes; each of them has the other end as its standard input.
Whatever ends the starter closes the pipe, and the service then asks itself to end, as SIGTERM would.
`perron serve` holds nothing, so nothing of this happens in production.

What a newcomer gets wrong: Linux could send a signal at the parent's death instead (PR_SET_PDEATHSIG), but it
does so when the *thread* ends that started the child, and other systems do not.
"""

import os
import runpy
import signal
import sys
import threading

_STDIN = 0


def _end_with_the_starter() -> None:
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(service: str) -> None:
    """Runs a service, as `python -m` would, until it ends or the pipe closes."""
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    runpy.run_module(f"perron.{service}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])
