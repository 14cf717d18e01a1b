"""`python -m perron.admission` serves admission."""

from perron.admission.app import build
from perron.admission.settings import Settings
from perron.chassis.server import run

if __name__ == "__main__":
    run(Settings, build)
