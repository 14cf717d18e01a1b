"""The network of one job: a base from a local folder, and the part of it that is trained.

What a newcomer gets wrong: with frozen random embeddings an adapter learns next to nothing, so a small base
has its embeddings and its head trained with the adapter. A large one keeps them: they would outweigh it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from perron.trainer.model import Hyperparameters, Lora, Method, Reason, TrainingFailedError

ADAPTER: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"

_TINY_PARAMETERS_MAX: Final = 10_000_000
_ALL_LINEAR: Final = "all-linear"
_LENGTH_DEFAULT: Final = 2048
_TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


class Network:
    """A base on a device, with the part of it that a method trains."""

    def __init__(
        self, folder: str, name: str, hyperparameters: Hyperparameters, device: torch.device, *, bf16: bool
    ) -> None:
        """Loads the base in `folder`; `name` is what the weights written later say they belong to."""
        self.device = device
        self._folder = Path(folder)
        self._name = name
        self._bf16 = bf16
        self._method = hyperparameters.method
        base: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            # A frozen base is only read, so half precision is enough; what is trained is kept in full.
            dtype=torch.bfloat16 if bf16 and self._method is Method.LORA else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        self.parameters: int = sum(parameter.numel() for parameter in base.parameters())
        self.length_max: int = getattr(base.config, "max_position_embeddings", 0) or _LENGTH_DEFAULT
        torch.manual_seed(hyperparameters.seed)
        self.module: Any = self._adapted(base, hyperparameters.lora) if self._method is Method.LORA else base
        for _, parameter in self.trained():
            parameter.data = parameter.data.float()
        self.module.to(device)

    @property
    def is_tiny(self) -> bool:
        """Whether the base is one to try things with: a few million weights at most."""
        return self.parameters <= _TINY_PARAMETERS_MAX

    @property
    def precision(self) -> str:
        """How the arithmetic is done: bf16 or fp32."""
        return "bf16" if self._bf16 else "fp32"

    @property
    def parameters_trained(self) -> int:
        """How many weights change."""
        return sum(parameter.numel() for _, parameter in self.trained())

    def trained(self) -> Iterator[tuple[str, Any]]:
        """Yields what is trained, by name, always in the same order."""
        return ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)

    def logits(self, tokens: Any, positions: Any) -> Any:
        """Returns the scores of each next token.

        A position that does not follow its neighbour begins another chat, which sees nothing of those
        before it: that is how rows are packed, and how their padding is kept apart.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            return self.module(input_ids=tokens, position_ids=positions, use_cache=False).logits

    def save(self, folder: Path) -> None:
        """Writes the weights as safetensors, byte for byte the same for the same weights."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._method is Method.FULL:
            self.module.save_pretrained(folder, max_shard_size="1TB")
            for name in _TOKENIZER:
                if (self._folder / name).is_file():
                    shutil.copyfile(self._folder / name, folder / name)
            return
        state = get_peft_model_state_dict(self.module, save_embedding_layers=False)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / ADAPTER
        )
        config = self.module.peft_config["default"].to_dict() | {
            "base_model_name_or_path": self._name,  # not the folder, which is this machine's affair
            "inference_mode": True,
        }
        text = json.dumps(config, indent=2, sort_keys=True, default=sorted)  # what is a set has no order
        (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")

    def _adapted(self, base: Any, lora: Lora) -> Any:
        try:
            return get_peft_model(
                base,
                LoraConfig(
                    task_type="CAUSAL_LM",
                    r=lora.rank,
                    lora_alpha=lora.alpha,
                    lora_dropout=lora.dropout,
                    target_modules=list(lora.target_modules) or _ALL_LINEAR,
                    modules_to_save=_ends(base) if self.is_tiny else None,
                ),
            )
        except ValueError:
            raise TrainingFailedError(
                Reason.TARGET_MODULES_UNKNOWN, "the base model has none of the target modules"
            ) from None


def tokenizer_of(folder: str) -> Any:
    """Reads the tokenizer beside a base model, with its chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not tokenizer.chat_template or not tokenizer.is_fast:
        raise TrainingFailedError(
            Reason.CHAT_TEMPLATE_UNFIT, "the base model has no chat template, or no fast tokenizer"
        )
    return tokenizer


def _ends(base: Any) -> list[str]:
    """The names of the embeddings and of the head, as the architecture calls them."""
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    return [name.rpartition(".")[2] for name, module in base.named_modules() if module in ends]
