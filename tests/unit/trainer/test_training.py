"""What a training makes: weights that plain libraries load, that know more, and that a seed repeats."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from perron.trainer import chats, networks, training
from perron.trainer.model import (
    Evaluated,
    Finished,
    Hyperparameters,
    Lora,
    Method,
    Reason,
    Started,
    Stepped,
    TrainingFailedError,
)
from perron.trainer.plan import plan
from tests.unit.trainer.chats_of_tests import QUICK, chat, digest, only, sums, task, trained, written

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

ADAPTER = "output/model/adapter_model.safetensors"
FULL = replace(QUICK, method=Method.FULL, learning_rate=2e-3, epochs=1)


def perplexity(network: Any, tokenizer: Any, held_out: list[dict[str, Any]]) -> float:
    """Of the assistants' turns, computed without a line of Perron's."""
    loss, count = 0.0, 0
    for one in held_out:
        text = tokenizer.apply_chat_template(one["messages"], tokenize=False)
        prompt = tokenizer.apply_chat_template(
            one["messages"][:-1], tokenize=False, add_generation_prompt=True
        )
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        first = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            scores = network(tokens).logits[0, first - 1 : -1]
        answer = tokens[0, first:]
        loss += float(torch.nn.functional.cross_entropy(scores, answer, reduction="sum"))
        count += len(answer)
    return math.exp(loss / count)


def test_an_adapter_loads_in_plain_transformers_and_peft_and_knows_more(base: Path, tmp_path: Path) -> None:
    events = trained(task(base, tmp_path, replace(QUICK, epochs=6)))
    tokenizer = AutoTokenizer.from_pretrained(base)
    held_out = sums(12, start=3)
    before = perplexity(AutoModelForCausalLM.from_pretrained(base).eval(), tokenizer, held_out)

    network = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "output" / "model"
    ).eval()
    after = perplexity(network, tokenizer, held_out)

    assert after < before / 5
    # What was reported is what the weights say, so the loss curve can be believed.
    assert only(events, Evaluated)[0].loss == pytest.approx(math.log(before), rel=1e-3)
    assert only(events, Evaluated)[-1].loss == pytest.approx(math.log(after), rel=1e-3)


def test_all_weights_load_in_plain_transformers_with_their_tokenizer(base: Path, tmp_path: Path) -> None:
    trained(task(base, tmp_path, FULL))
    folder = tmp_path / "output" / "model"
    before = AutoModelForCausalLM.from_pretrained(base).eval()
    after = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    held_out = sums(12, start=3)

    assert perplexity(after, tokenizer, held_out) < perplexity(before, tokenizer, held_out) / 2
    assert {
        name
        for name, tensor in after.named_parameters()
        if tensor.equal(dict(before.named_parameters())[name])
    } == set()


@pytest.mark.parametrize("asked", [QUICK, FULL], ids=["LORA", "FULL"])
def test_a_seed_decides_every_byte(asked: Hyperparameters, base: Path, tmp_path: Path) -> None:
    weights = {
        name: digests(tmp_path / name, trained(task(base, tmp_path / name, replace(asked, seed=seed))))
        for name, seed in (("first", 5), ("second", 5), ("other", 6))
    }

    assert weights["first"] == weights["second"]
    assert weights["first"] != weights["other"]


def digests(folder: Path, _events: Any) -> dict[str, str]:
    return {path.name: digest(path) for path in (folder / "output" / "model").iterdir()}


def test_the_loss_is_the_weighted_mean_over_the_assistants_tokens(base: Path, tmp_path: Path) -> None:
    """Worked out by hand with plain transformers, for two chats of which one turn counts thrice."""
    one = chat("first?", "first, a longer answer than the other")
    two = chat("second?", "second")
    two["messages"][1]["weight"] = 3
    told = replace(
        task(base, tmp_path, replace(QUICK, epochs=1)),
        training_files=(written(tmp_path / "two.jsonl", [one, two]),),
        validation_files=(),
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    network = AutoModelForCausalLM.from_pretrained(base)
    loss = weight = 0.0
    for example in (chats.example(one, tokenizer), chats.example(two, tokenizer)):
        tokens, weights = torch.tensor([list(example.tokens)]), torch.tensor(list(example.weights))[1:]
        scores = network(tokens).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(scores, tokens[0, 1:], reduction="none")
        loss += float((each * weights).sum())
        weight += float(weights.sum())

    (step,) = only(trained(told), Stepped)

    assert step.loss == pytest.approx(loss / weight, rel=1e-4)


def test_chats_that_share_a_row_see_nothing_of_each_other(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    network = AutoModelForCausalLM.from_pretrained(base).eval()
    examples = [chats.example(chat(f"{n} is?", f"{n} it is"), tokenizer) for n in ("one", "seventeen", "six")]
    lengths = [len(example.tokens) for example in examples]

    tokens, positions, _ = training.collated(((0, 1), (2,)), examples)
    with torch.no_grad():
        packed = network(tokens, position_ids=positions, use_cache=False).logits
        alone = [network(torch.tensor([list(example.tokens)])).logits[0] for example in examples]
        straight = torch.arange(tokens.shape[1]).repeat(2, 1)
        blind = network(tokens, position_ids=straight, use_cache=False).logits

    second = slice(lengths[0], lengths[0] + lengths[1])
    torch.testing.assert_close(packed[0, : lengths[0]], alone[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed[0, second], alone[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed[1, : lengths[2]], alone[2], atol=1e-4, rtol=1e-4)
    # Without positions that begin anew, the second chat would read the first.
    assert not torch.allclose(blind[0, second], alone[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("asked", [QUICK, FULL], ids=["LORA", "FULL"])
def test_in_bf16_it_learns_and_keeps_what_it_trains_in_full(
    asked: Hyperparameters, base: Path, tmp_path: Path
) -> None:
    """As on a GPU; the arithmetic is the same on a processor."""
    asked = replace(asked, epochs=3)
    network = networks.Network(str(base), "tiny", asked, torch.device("cpu"), bf16=True)
    tokenizer = networks.tokenizer_of(str(base))
    examples = [chats.example(one, tokenizer) for one in sums(32)]
    events: list[Any] = []
    steps = plan([len(example.tokens) for example in examples], asked)

    run = training.Training(network, asked, steps, examples, examples, output=tmp_path, report=events.append)
    run.run()

    first, *_, last = (event.loss for event in only(events, Evaluated))
    assert last < first - 1
    assert network.precision == "bf16"
    assert {parameter.dtype for _, parameter in network.trained()} == {torch.float32}


def test_accumulating_gradients_changes_nothing_but_memory(base: Path, tmp_path: Path) -> None:
    plain = replace(QUICK, lora=Lora(rank=4), epochs=1)
    at_once = trained(task(base, tmp_path / "a", replace(plain, batch_size=8, accumulation_steps=1)))
    in_parts = trained(task(base, tmp_path / "b", replace(plain, batch_size=2, accumulation_steps=4)))

    assert [step.loss for step in only(at_once, Stepped)] == pytest.approx(
        [step.loss for step in only(in_parts, Stepped)], rel=1e-3
    )


def test_gradients_are_clipped_at_what_was_asked(base: Path, tmp_path: Path) -> None:
    none = replace(QUICK, lora=Lora(rank=4), gradient_norm_max=1e-12, epochs=1)

    events = trained(task(base, tmp_path, none))

    # So small a step is lost in the optimizer's epsilon: nothing is learned.
    first, last = only(events, Evaluated)
    assert last.loss == pytest.approx(first.loss, rel=1e-3)
    assert only(events, Stepped)[0].gradient_norm > 1


def test_training_ends_early_when_the_validation_loss_stops_falling(base: Path, tmp_path: Path) -> None:
    patient = replace(QUICK, epochs=30, evaluation_steps=2, patience_evaluations=2, learning_rate=1e-9)

    events = trained(task(base, tmp_path, patient))

    assert only(events, Finished) == [
        Finished(step=4, tokens=only(events, Stepped)[-1].tokens, stopped_early=True)
    ]
    assert only(events, Started)[0].steps == 60


def test_only_the_modules_that_were_named_are_adapted(base: Path, tmp_path: Path) -> None:
    trained(
        task(base, tmp_path, replace(QUICK, lora=Lora(rank=4, target_modules=("q_proj", "v_proj")), epochs=1))
    )

    config = json.loads((tmp_path / "output/model/adapter_config.json").read_text("utf-8"))

    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "tiny"  # and not a folder of this machine


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (replace(QUICK, lora=Lora(target_modules=("no_such",))), Reason.TARGET_MODULES_UNKNOWN),
        (replace(QUICK, learning_rate=1e30, gradient_norm_max=0), Reason.LOSS_NOT_FINITE),
        (replace(QUICK, length_max=3), Reason.NOTHING_TO_LEARN),
    ],
)
def test_what_cannot_be_trained_says_why(
    asked: Hyperparameters, reason: Reason, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailedError) as caught:
        trained(task(base, tmp_path, asked))

    assert caught.value.reason is reason
