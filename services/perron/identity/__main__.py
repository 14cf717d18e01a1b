"""Serves identity until it is told to stop: `python -m perron.identity`."""

from perron.chassis.server import run
from perron.identity.app import build
from perron.identity.settings import Settings

if __name__ == "__main__":
    run(Settings, build)
