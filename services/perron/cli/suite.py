"""The suite as processes: started, watched and ended by whoever holds the `with`.

`up`, `demo`, the suite tests and the bench all start it through this one piece, so what they see is what
runs. Identity comes first, because every other service needs a key that only identity can mint; the rest
start together. A trainer runs beside them where it is asked for.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from perron.chassis.errors import SetupError
from perron.cli import listening, minting, training
from perron.cli.listening import SERVICES
from perron.cli.training import TRAINER

# Who asks whom: a service goes down before those it asks, or with them where they ask each other.
STOP_ORDER = (("admission", TRAINER), ("agents", "finetuning"), ("governance", "quotas"), ("identity",))
PEERS: Mapping[str, tuple[str, ...]] = {
    "admission": ("identity", "quotas", "governance", "agents", "finetuning"),
    "quotas": ("identity",),
    "governance": ("identity",),
    "agents": ("identity", "governance", "finetuning"),
    "finetuning": ("identity", "governance", "agents"),
    TRAINER: ("finetuning",),
}
STORES = ("identity", "quotas", "governance", "agents", "finetuning")

# What wraps the keys of records, agents and files, and where those are kept: each apart from the others.
_ROOTS = {"governance": "root", "agents": "agents-root", "finetuning": "finetuning-root"}
_VAULTS = {"governance": "vault", "agents": "agents-vault", "finetuning": "finetuning-vault"}

# Secrets that services read and never write: what seals admission ids, and the roots.
_SECRETS = ("sealing", *_ROOTS.values())

_CHILDREN = (*SERVICES, TRAINER)

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Suite:
    """The services with their data in one folder, each its own process on loopback.

    `ports` is the port of admission, the others follow; 0 draws free ones. `environment` is added to every
    service's own. With `trainer` a worker that fine-tunes runs too. After `start`: `endpoints` and `pids` by
    service, `operator_key` and `gateway_key`.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        ports: int = 0,
        environment: Mapping[str, str] | None = None,
        services: Sequence[str] = SERVICES,
        trainer: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.endpoints: dict[str, str] = {}
        self.first_start = False
        self._ports = ports
        self._environment = dict(environment or {})
        self._services = tuple(name for name in SERVICES if name in services)
        self._trainer = trainer
        self._progress = progress
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[str, int] = {}
        self._leash: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """The process of each service that runs, and of the trainer."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    @property
    def operator_key(self) -> str:
        """The key of the first operator, who has every role."""
        return self._key("operator")

    @property
    def gateway_key(self) -> str:
        """The service key of a gateway, for Admit and Complete."""
        return self._key("gateway")

    def start(self) -> None:
        """Brings everything up until all are SERVING; SetupError says in one line what prevents it."""
        for name in ("keys", "logs", "traces"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.first_start = not self._key_path("operator").exists()
        for name in _SECRETS:
            if not (self.folder / "keys" / name).exists():
                write_private(self.folder / "keys" / name, secrets.token_hex(32) + "\n")
        self.endpoints = listening.addresses(self._services, self._ports)
        self._leash = os.pipe()
        tiny = training.tiny_base(self.folder)
        draft = tiny.with_name("tiny.draft")
        making = training.TinyBase(draft) if self._trainer and not tiny.exists() else None
        self._migrate("identity")
        self._launch("identity")
        rest = tuple(name for name in self._services if name != "identity")
        for name in rest:
            if name in STORES:
                self._migrate(name)
        missing = [name for name in (*rest, "gateway", TRAINER) if not self._key_path(name).exists()]
        if missing:
            self._await_serving(("identity",))
            self._mint(missing)
        for name in rest:
            self._launch(name)
        self._await_serving(self._services)
        if making is not None:
            self._progress("making a tiny base model")
            making.made()
            draft.replace(tiny)
        if self._trainer:
            self._launch(TRAINER)
        self._write_whereabouts()

    def stop(self) -> None:
        """Ends every process, in the order that lets calls in flight finish; kills what does not go."""
        for names in STOP_ORDER:
            going = [self._processes[name] for name in names if name in self._processes]
            for process in going:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in going:
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._processes.clear()
        for end in self._leash:
            os.close(end)
        self._leash = ()

    def kill(self, service: str) -> None:
        """Ends one service without warning, as a crash would."""
        self._processes[service].kill()
        self._processes[service].wait()

    def terminate(self, service: str) -> int:
        """Asks one service to end, waits, and returns its exit status."""
        self._processes[service].send_signal(signal.SIGTERM)
        return self._processes[service].wait(STOP_SECONDS)

    def restart(self, service: str) -> None:
        """Brings one service back where it listened before and returns when it is SERVING."""
        if service in self.pids:
            self.terminate(service)
        self._launch(service)
        if service in self.endpoints:
            self._await_serving((service,))

    def died(self) -> dict[str, str]:
        """One line about each process that ended by itself; nothing while all run."""
        return {
            name: f"{name} ended with status {process.returncode}: {self._last_line(name)}"
            for name, process in self._processes.items()
            if process.poll() is not None
        }

    def environment(self, service: str) -> dict[str, str]:
        """What a service is configured with, beside what the caller's own environment says."""
        prefix = f"PERRON_{service.upper()}_"
        settings = {} if service == TRAINER else self._of_a_service(service)
        peers = [peer for peer in PEERS.get(service, ()) if peer in self.endpoints]
        settings |= {f"{peer.upper()}_TARGET": self.endpoints[peer] for peer in peers}
        keys = self.folder / "keys"
        match service:
            case "identity":
                settings["BOOTSTRAP_KEY_FILE"] = str(self._key_path("operator"))
                settings["PEPPER_FILE"] = str(keys / "pepper")
                settings["SIGNING_KEYS_FILE"] = str(keys / "signing")
            case "governance" | "agents" | "finetuning":
                settings["ROOT_KEY_FILE"] = str(keys / _ROOTS[service])
                settings["VAULT_FOLDER"] = str(self.folder / _VAULTS[service])
                if service == "finetuning":
                    given = self._given("PERRON_FINETUNING_STORAGE_URL")
                    settings["STORAGE_URL"] = given or str(self.folder / "storage")
            case "admission":
                settings["SEALING_KEY_FILE"] = str(keys / "sealing")
            case "trainer":
                settings |= training.settings(self.folder, self._given("PERRON_FINETUNING_MODELS_FILE"))
            case _:
                pass
        if service != "identity":
            settings["KEY_FILE"] = str(self._key_path(service))
        own = {prefix + name: str(value) for name, value in settings.items()}
        # A trace is looked at by whoever has just made the call.
        own["OTEL_BSP_SCHEDULE_DELAY"] = "500"
        return own | {
            name: value
            for name, value in self._environment.items()
            if not name.startswith(
                tuple(f"PERRON_{other.upper()}_" for other in _CHILDREN if other != service)
            )
        }

    def _of_a_service(self, service: str) -> dict[str, str]:
        """What trainers have not: an address, spans in a file, a store."""
        settings = {"LISTEN_ADDRESS": self.endpoints[service], "TRACE_FILE": str(self._trace_path(service))}
        if service in STORES:
            settings["DATABASE_URL"] = self._database_url(service)
        return settings

    def _migrate(self, service: str) -> None:
        from perron.chassis.migrations import runner  # alembic is a fifth of a second that few commands need

        self._progress(f"migrating {service}")
        runner.migrate(service, self._database_url(service))

    def _launch(self, service: str) -> None:
        self._progress(f"starting {service}")
        log = self.folder / "logs" / f"{service}.log"
        self._log_starts[service] = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stream:
            self._processes[service] = subprocess.Popen(
                [sys.executable, "-m", "perron.cli.leash", service],
                env=_inherited() | self.environment(service),
                stdin=self._leash[0],
                stdout=stream,
                stderr=stream,
                # Ctrl-C in the terminal reaches us alone; we end the services in their order.
                start_new_session=True,
            )

    def _await_serving(self, services: Sequence[str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        for name in services:
            with grpc.insecure_channel(
                self.endpoints[name], (("grpc.initial_reconnect_backoff_ms", 50),)
            ) as channel:
                while not listening.is_serving(channel):
                    if self._processes[name].poll() is not None:
                        raise SetupError(f"{name} did not start: {self._last_line(name)}")
                    if time.monotonic() > deadline:
                        raise SetupError(
                            f"{name} is not ready after {START_SECONDS:.0f} s: see {self.folder}/logs"
                        )
                    time.sleep(0.05)

    def _mint(self, names: Sequence[str]) -> None:
        self._progress("minting service keys")
        for name, secret in minting.service_keys(self.endpoints["identity"], self.operator_key, names):
            write_private(self._key_path(name), secret + "\n")

    def _write_whereabouts(self) -> None:
        (self.folder / "endpoints.json").write_text(
            json.dumps(self.endpoints, indent=2) + "\n", encoding="utf-8"
        )
        keys = {"operator": self.operator_key, "gateway": self.gateway_key}
        write_private(self.folder / "credentials.json", json.dumps(keys, indent=2) + "\n")

    def _database_url(self, service: str) -> str:
        url = self._given(f"PERRON_{service.upper()}_DATABASE_URL")
        return url or f"sqlite:///{self.folder / service}.sqlite"

    def _given(self, name: str) -> str:
        return self._environment.get(name) or os.environ.get(name) or ""

    def _key_path(self, name: str) -> Path:
        return self.folder / "keys" / f"{name}.key"

    def _key(self, name: str) -> str:
        return self._key_path(name).read_text(encoding="utf-8").strip()

    def _trace_path(self, service: str) -> Path:
        return self.folder / "traces" / f"{service}.jsonl"

    def _last_line(self, service: str) -> str:
        with (self.folder / "logs" / f"{service}.log").open("rb") as log:
            log.seek(self._log_starts[service])
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix(f"perron {service}: ") if lines else "it said nothing"


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as stream:
        stream.write(text)
    draft.replace(path)


def _inherited() -> dict[str, str]:
    # A person's own key, and whatever else is for the command line, is none of the services' business.
    ours = tuple(f"PERRON_{name.upper()}_" for name in _CHILDREN)
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PERRON_") or name.startswith(ours) or name == "PERRON_PLAINTEXT"
    }
