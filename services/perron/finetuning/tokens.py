"""How many tokens a file has, by the rule of a base model's tokenizer, from what was counted in its text.

The text is not read again: every rule here is a sum over bytes, turns and examples. Byte-level tokenizers are
counted exactly, but for the tools that examples declare; others are estimated by their bytes per token.
"""

from dataclasses import dataclass
from typing import Final

from perron.finetuning.jsonl import Counts


@dataclass(frozen=True, slots=True)
class TokenRule:
    """What a tokenizer with its chat template makes of a text."""

    bytes_per_token: float = 1.0
    per_turn: int = 2
    per_example: int = 1


BYTE_LEVEL: Final = TokenRule()
"""One token for each byte, one for a turn's role and one for its end, one for the beginning of an example."""


def count(counts: Counts, rule: TokenRule = BYTE_LEVEL) -> int:
    """Returns the tokens of a file."""
    text = -(-counts.text_bytes // rule.bytes_per_token)
    return int(text) + rule.per_turn * counts.turns + rule.per_example * counts.examples
