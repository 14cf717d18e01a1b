"""What may be trained: what the operator lists, as safetensors, without code of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from perron.chassis.errors import SetupError
from perron.trainer import bases

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def made(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral", **config}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def listed(folder: Path, text: str) -> str:
    path = folder / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_base_is_a_folder_or_a_commit_of_the_hub(tmp_path: Path) -> None:
    made(tmp_path / "models" / "tiny")
    fetched = made(tmp_path / "hub")
    asked = []

    def fetch(repository: str, revision: str) -> Path:
        asked.append((repository, revision))
        return fetched

    hub = f"{{repository: example/small-1, revision: {COMMIT}}}"

    found = bases.load(
        listed(
            tmp_path,
            "models:\n"
            '  - {name: "*"}\n'
            f"  - {{name: tiny, trainable: true, folder: tiny, methods: [LORA]}}\n"
            f"  - {{name: small-1, trainable: true, hub: {hub}}}\n"
            f"  - {{name: closed, folder: {tmp_path}/models/tiny}}\n"
            "currency: EUR\n",
        ),
        tmp_path / "models",
        fetch,
    )

    assert found == {
        "tiny": bases.Base("tiny", (tmp_path / "models" / "tiny").resolve()),
        "small-1": bases.Base("small-1", fetched, COMMIT),
    }
    assert asked == [("example/small-1", COMMIT)]


@pytest.mark.parametrize(
    "entry",
    [
        "folder: absent",
        "folder: pickled",
        "folder: coded",
        "folder: unreadable",
        "hub: {repository: example/small-1}",
        "hub: {repository: example/small-1, revision: main}",
        "nothing: here",
    ],
)
def test_an_unfit_base_is_left_out_and_the_others_stay(entry: str, tmp_path: Path) -> None:
    made(tmp_path / "good")
    (made(tmp_path / "pickled") / "model.safetensors").rename(tmp_path / "pickled" / "model.bin")
    made(tmp_path / "coded", auto_map={"AutoModel": "theirs.Model"})
    (made(tmp_path / "unreadable") / "config.json").write_text("{", encoding="utf-8")
    models = (
        "models:\n  - {name: good, trainable: true, folder: %s/good}\n  - {name: bad, trainable: true, %s}\n"
    )

    entry = entry.replace("folder: ", f"folder: {tmp_path}/")

    found = bases.load(
        listed(tmp_path, models % (tmp_path, entry)),
        tmp_path,
        lambda _repository, _revision: tmp_path / "absent",
    )

    assert list(found) == ["good"]


@pytest.mark.parametrize(
    "text",
    ["", "models: 3", "models: [1]", "models: [{trainable: true}]", "models: []", "models: [{name: x}]", "{"],
)
def test_a_list_without_a_base_to_train_prevents_the_start(text: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="PERRON_TRAINER_MODELS_FILE"):
        bases.load(listed(tmp_path, text), tmp_path)


def test_a_list_that_is_not_there_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        bases.load(str(tmp_path / "models.yaml"), tmp_path)
