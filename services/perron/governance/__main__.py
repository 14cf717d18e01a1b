"""`python -m perron.governance` serves governance."""

from perron.chassis.server import run
from perron.governance.app import build
from perron.governance.settings import Settings

if __name__ == "__main__":
    run(Settings, build)
