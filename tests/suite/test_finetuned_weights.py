"""A job from beginning to end with the trainer that a suite starts; what is downloaded knows more."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from perron.api.finetuning.v1 import job_pb2
from perron.cli import training
from perron.cli.suite import Suite
from tests.suite.customers import PAID, Customers, customers, exchange
from tests.suite.trainers import ASKED
from tests.suite.tuners import Tuner, tuner
from tests.unit.trainer.chats_of_tests import lines, sums
from tests.unit.trainer.test_training import perplexity

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TRAINED, SEEN, HELD_OUT = sums(64), sums(12, start=3), sums(12, start=5)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Customers]:
    with Suite(tmp_path / "var", trainer=True) as running, customers(running) as opened:
        yield opened


def test_a_downloaded_adapter_loads_in_plain_peft_and_lowers_the_perplexity_of_held_out_lines(
    made: Customers, tmp_path: Path
) -> None:
    assert set(lines(HELD_OUT).splitlines()).isdisjoint(lines(TRAINED + SEEN).splitlines())
    customer = made.new(PAID)
    ada = tuner(made, customer)
    training_file, validation_file = ada.upload(lines(TRAINED)), ada.upload(lines(SEEN))
    job = ada.create_job(
        [training_file.file_id],
        validation_file_ids=[validation_file.file_id],
        method=job_pb2.TRAINING_METHOD_LORA,
        hyperparameters=ASKED,
    )
    events = list(ada.watch(job.job_id))
    done = events[-1].job
    assert done.state == job_pb2.Job.STATE_SUCCEEDED
    measured = [event.metrics for event in events if event.HasField("metrics")]
    losses = [one.loss for one in measured if one.source == job_pb2.Metrics.SOURCE_VALIDATION]
    assert losses[-1] < losses[0] / 2
    assert customer.admit(exchange(), model=done.model_id).effective_model.startswith("ft:tiny:")

    folder = downloaded(ada, done.model_id, tmp_path / "downloaded")

    base = training.tiny_base(tmp_path / "var")
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    before = perplexity(plain, tokenizer, HELD_OUT)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    assert perplexity(adapted, tokenizer, HELD_OUT) < before / 2


def downloaded(ada: Tuner, model_id: str, folder: Path) -> Path:
    """A model as it comes over the wire, its digests checked."""
    folder.mkdir()
    digests = {one.name: one.sha256 for one in ada.model(model_id).artifacts}
    for part in ada.download(model_id):
        if part.HasField("artifact"):
            path = folder / part.artifact.name
            path.touch(exist_ok=False)
        elif part.chunk:
            with path.open("ab") as content:
                content.write(part.chunk)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert found == digests
    return folder
