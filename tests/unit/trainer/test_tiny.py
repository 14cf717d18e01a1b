"""The base model for laptops: small, of Mistral's architecture, and the same bytes wherever it is made."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from perron.cli import app, output, training
from perron.trainer import bases, tiny
from tests.unit.trainer.chats_of_tests import digest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_it_is_made_the_same_twice(base: Path, tmp_path: Path) -> None:
    parameters = tiny.make(tmp_path)

    assert 100_000 < parameters < 900_000
    assert {path.name: digest(path) for path in tmp_path.iterdir()} == {
        path.name: digest(path) for path in base.iterdir()
    }


def test_it_is_a_mistral_of_safetensors_without_code(base: Path) -> None:
    bases.examine(base)

    assert AutoConfig.from_pretrained(base).architectures == ["MistralForCausalLM"]
    assert not list(base.glob("*.bin"))


@pytest.mark.parametrize("text", ["plain", "ünïcödé 😀", "\x00\x7f\u2028", "  spaces "])
def test_its_tokenizer_loses_no_byte(text: str, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]

    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text


def test_the_command_makes_it(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["models", "make-tiny", str(tmp_path / "tiny"), "--json"]) == output.OK

    assert json.loads(capsys.readouterr().out)["parameters"] > 100_000
    assert digest(tmp_path / "tiny" / "model.safetensors") == digest(base / "model.safetensors")


def test_the_command_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "find_spec", lambda _name: None)

    assert app.run(["models", "make-tiny", str(tmp_path / "tiny")]) == output.USAGE
    assert "extra" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()
