"""What a checkpoint holds beside its weights, so that a run goes on as if nothing had happened.

One more safetensors file: the optimizer's moments and the trained weights as they are in memory, and in its
header how far the run was. The weights beside it are a fine-tuned model in their own right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from perron.trainer.model import STATE, Reason, TrainingFailedError
from perron.trainer.networks import Network

_STANDING: Final = "standing"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")

Standing = TypeVar("Standing")


def save(folder: Path, network: Network, optimizer: torch.optim.Optimizer, standing: object) -> None:
    """Writes the state of a run beside its weights."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in network.trained():
        tensors[f"weight/{name}"] = parameter.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        folder / STATE,
        # One entry: the order of several is not the same in every process.
        metadata={_STANDING: msgspec.json.encode(standing).decode()},
    )


def load(
    folder: Path, network: Network, optimizer: torch.optim.Optimizer, standing: type[Standing]
) -> Standing:
    """Reads the state into network and optimizer; raises TrainingFailedError where it does not fit them."""
    try:
        with safe_open(folder / STATE, "pt") as file:
            found = msgspec.json.decode(file.metadata()[_STANDING], type=standing)
            for name, parameter in network.trained():
                weight = file.get_tensor(f"weight/{name}")
                parameter.data.copy_(
                    weight.reshape(parameter.shape)
                )  # copying alone would spread a smaller one
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(found.step)),  # type: ignore[attr-defined]
                } | {moment: file.get_tensor(f"{moment}/{name}").to(parameter.device) for moment in _MOMENTS}
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError, msgspec.MsgspecError):
        raise TrainingFailedError(
            Reason.CHECKPOINT_UNFIT, "the checkpoint's state does not fit the network"
        ) from None
    return found
