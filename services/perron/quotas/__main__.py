"""`python -m perron.quotas` serves quotas."""

from perron.chassis.server import run
from perron.quotas.app import build
from perron.quotas.settings import Settings

if __name__ == "__main__":
    run(Settings, build)
