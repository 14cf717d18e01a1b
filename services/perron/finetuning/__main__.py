"""`python -m perron.finetuning` serves finetuning."""

from perron.chassis.server import run
from perron.finetuning.app import build
from perron.finetuning.settings import Settings

if __name__ == "__main__":
    run(Settings, build)
