import subprocess
import sys

import pytest

from perron.cli import samples


def test_the_same_exchanges_come_in_every_process_in_the_same_order() -> None:
    program = "from perron.cli import samples; print(samples.exchanges())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_there_are_500_different_ones_of_very_different_lengths() -> None:
    exchanges = samples.exchanges(500)
    assert len({exchange.subject for exchange in exchanges}) == 500
    assert len({exchange.answer for exchange in exchanges}) == 500
    lengths = sorted(len(exchange.answer) for exchange in exchanges)
    assert lengths[-1] > 20 * lengths[50]
    assert all(exchange.answer_tokens >= 1 for exchange in exchanges)


def test_more_than_the_library_documents_is_refused() -> None:
    with pytest.raises(ValueError, match="docstring"):
        samples.exchanges(1_000_000)
