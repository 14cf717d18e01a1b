"""`python -m perron.cli` is `perron`."""

import sys

from perron.cli import app


def main() -> None:
    """Runs the command line of this process and ends it with the exit code."""
    sys.exit(app.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
