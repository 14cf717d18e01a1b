"""`python -m perron.trainer` runs a worker."""

from perron.trainer.app import run

if __name__ == "__main__":
    run()
