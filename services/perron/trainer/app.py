"""What a trainer is made of, and its life: from the settings to the last wiped folder."""

import asyncio
import contextlib
import signal
from importlib.util import find_spec
from typing import Final

from perron.chassis import exporters, telemetry
from perron.chassis.channels import Peer
from perron.chassis.errors import SetupError
from perron.chassis.settings import refuse_to_start
from perron.trainer import bases, machine
from perron.trainer.scratch import Scratch
from perron.trainer.settings import Settings
from perron.trainer.worker import Worker

_LIBRARIES: Final = ("torch", "transformers", "peft", "safetensors")  # looked for, not loaded: children do


def run() -> None:
    """Trains until SIGTERM or SIGINT. What prevents a start is one line on standard error and exit code 2."""
    settings = Settings.load()
    try:
        asyncio.run(_run(settings))
    except SetupError as error:
        refuse_to_start("trainer", str(error))


async def _run(settings: Settings) -> None:
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise SetupError(f"{', '.join(missing)} missing: pip install 'perron[trainer]'")
    end_telemetry = exporters.start("trainer", ratio=0, level=settings.log_level)
    peer = Peer("finetuning", settings.finetuning_target, settings.own_key(), ca_file=settings.peer_ca_file)
    scratch = Scratch(settings.scratch())
    try:
        capabilities = machine.capabilities(settings.device)
        worker = Worker(
            peer,
            settings.worker_name(),
            await asyncio.to_thread(bases.load, settings.models_file, settings.models_folder),
            scratch,
            capabilities,
            device=settings.device,
            threads=settings.threads,
            poll_seconds=settings.poll_seconds,
            idle_seconds=settings.idle_seconds,
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        telemetry.logger("worker").info("waiting for jobs", finetuning=settings.finetuning_target)
        await worker.run(stop)
        telemetry.logger("worker").info("stopped")
    finally:
        await peer.aclose()
        scratch.close()
        with contextlib.suppress(Exception):  # a collector that is gone must not hold the process
            await asyncio.to_thread(end_telemetry)
