"""Whether the trainer's extra is there. Without it, or with TRAINER=0, its tests are absent, not passed."""

import os
from importlib.util import find_spec

HAS_TRAINER = os.environ.get("TRAINER") != "0" and find_spec("torch") is not None
