"""The tiny base that trainings start from. Without the extra, what needs it is not collected at all."""

from pathlib import Path

import pytest

from tests.extras import HAS_TRAINER

NEED_THE_EXTRA = ("test_chats.py", "test_resuming.py", "test_tiny.py", "test_training.py")

collect_ignore = [] if HAS_TRAINER else list(NEED_THE_EXTRA)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model."""
    from perron.trainer import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.make(folder)
    return folder
