"""A base model small enough for a laptop: Mistral's architecture, random weights, a tokenizer of bytes.

It knows nothing and learns quickly: everything from the first upload to the last weight can be tried with it
in seconds. The seed is fixed, so the same versions of the libraries write the same bytes on every machine.

    python -m perron.trainer.tiny FOLDER     prints how many parameters it has
"""

import sys
from pathlib import Path
from typing import Final

SEED: Final = 20250206
LENGTH_MAX: Final = 2048

_BEGIN, _END, _PADDING = "<s>", "</s>", "<pad>"
_SPECIAL: Final = (_BEGIN, _END, _PADDING, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>")

# Every turn is its role, its text, its calls and an end; so a turn added changes nothing before it.
_CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% if tools %}{{ '<|tools|>' + (tools | tojson) + eos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] or '') }}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make(folder: Path) -> int:
    """Writes the base model into `folder` as safetensors with its tokenizer; returns its parameters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # one printable letter for each byte
    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BEGIN,
        eos_token=_END,
        pad_token=_PADDING,
        chat_template=_CHAT_TEMPLATE,
        model_max_length=LENGTH_MAX,
        clean_up_tokenization_spaces=False,
    )
    torch.manual_seed(SEED)
    network = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(vocabulary),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=24,
            max_position_embeddings=LENGTH_MAX,
            sliding_window=None,
            tie_word_embeddings=False,
            bos_token_id=vocabulary[_BEGIN],
            eos_token_id=vocabulary[_END],
            pad_token_id=vocabulary[_PADDING],
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    parameters: int = network.num_parameters()
    return parameters


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))  # noqa: T201 (a command)
