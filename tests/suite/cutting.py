"""A way between callers and a service that breaks off, as networks do, after so many bytes."""

import contextlib
import socket
import threading
from typing import Self


class Cutting:
    """Passes on what is sent, and ends each of the first `cuts` connections after `bytes_max` bytes."""

    def __init__(self, target: str, *, bytes_max: int, cuts: int) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._bytes_max = bytes_max
        self._piece = min(16 * 1024, bytes_max // 4)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = [self._listener]
        self.cuts = cuts
        self.connections = 0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            _close(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                caller, _ = self._listener.accept()
                service = socket.create_connection(self._target)
                self._ends += [caller, service]
                self.connections += 1
                passed = [0]
                for one, other in ((caller, service), (service, caller)):
                    threading.Thread(target=self._pass_on, args=(one, other, passed), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, passed: list[int]) -> None:
        with contextlib.suppress(OSError):  # the other end went first
            while piece := source.recv(self._piece):
                sink.sendall(piece)
                with self._lock:
                    passed[0] += len(piece)
                    if passed[0] > self._bytes_max and self.cuts:
                        self.cuts -= 1
                        break
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
