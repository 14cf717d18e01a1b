import pytest
import typer

from perron.api.finetuning.v1 import job_pb2
from perron.cli import hyperparameters


def test_each_kind_of_hyperparameter_is_read_as_the_contract_types_it() -> None:
    words = (
        "epochs=4",
        "learning_rate=5e-3",
        "learning_rate_decay=Linear",
        "warmup_ratio=0",
        "packing=yes",
        "seed = 9007199254740992",
        "lora.rank=4",
        "lora.target_modules=q_proj, v_proj",
    )
    found = hyperparameters.read(words)

    assert found == job_pb2.Hyperparameters(
        epochs=4,
        learning_rate=5e-3,
        learning_rate_decay=job_pb2.LEARNING_RATE_DECAY_LINEAR,
        warmup_ratio=0,
        packing=True,
        seed=2**53,
        lora=job_pb2.LoraParameters(rank=4, target_modules=["q_proj", "v_proj"]),
    )
    assert found.HasField("warmup_ratio")
    assert not hyperparameters.read([]).HasField("lora")


def test_every_field_of_the_contract_can_be_set() -> None:
    fields = {field.name for field in job_pb2.Hyperparameters.DESCRIPTOR.fields} - {"lora"}
    lora = {f"lora.{field.name}" for field in job_pb2.LoraParameters.DESCRIPTOR.fields}
    assert set(hyperparameters.names()) == fields | lora
    for name in hyperparameters.names():
        value = "linear" if name.endswith("decay") and name.startswith("learning") else "1"
        assert hyperparameters.read([f"{name}={'yes' if name == 'packing' else value}"]).ByteSize()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("epochs", "'epochs' is not name=value"),
        ("epoch=3", "there is no 'epoch'; did you mean epochs?"),
        ("lora=4", "there is no 'lora'"),
        ("lora.rnk=4", "did you mean lora.rank?"),
        ("epochs.of=4", "there is no 'epochs.of'"),
        ("=4", "there are epochs, "),
        ("epochs=4.5", "epochs is a whole number, not '4.5'"),
        ("epochs=99999999999", "epochs is a whole number"),
        ("learning_rate=fast", "learning_rate is a number"),
        ("packing=perhaps", "packing is yes or no"),
        ("learning_rate_decay=steep", "'steep' is none of cosine, linear"),
    ],
)
def test_what_cannot_be_read_is_told_by_name(word: str, told: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf".*{told.replace('?', '[?]')}.*"):
        hyperparameters.read([word])
