"""`python -m perron.agents` serves agents."""

from perron.agents.app import build
from perron.agents.settings import Settings
from perron.chassis.server import run

if __name__ == "__main__":
    run(Settings, build)
