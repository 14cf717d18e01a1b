"""Configurations: what is checked of their meaning, once the contract has checked the form of each field.

What a newcomer gets wrong: nothing here rebuilds a configuration. What is checked is a view of it; what is
sealed, and what a gateway gets in the end, are the very bytes that came.
"""

from dataclasses import dataclass, field
from typing import Final

from perron.agents import errors, texts, tool_schemas

BYTES_MAX: Final = 256 * 1024
FINE_TUNED: Final = "ft:"
_AGENTS_OWN: Final = ("agent:", "agt_")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration as its checks need it.

    `place` is where it stands in the request; texts and schemas come with their places.

    `called_names` are those of functions and connectors, `third_parties` what the tools reach, `content` the
    configuration itself.
    """

    place: str
    model: str
    texts: tuple[tuple[str, str], ...] = field(repr=False)
    schemas: tuple[tuple[str, str], ...] = field(repr=False)
    called_names: tuple[str, ...]
    third_parties: tuple[str, ...]
    needs_schema: bool
    response_schema: str = field(repr=False)
    guardrails: tuple[tuple[str, str], ...]
    handoffs: tuple[str, ...]
    content: bytes = field(repr=False)

    @property
    def is_fine_tuned(self) -> bool:
        """Whether finetuning has to be asked about the model."""
        return self.model.startswith(FINE_TUNED)


def check(configuration: Configuration) -> None:
    """Raises InvalidArgument (FIELD_INVALID, TOOL_SCHEMA_INVALID) for what cannot be meant."""
    base = configuration.place
    if len(configuration.content) > BYTES_MAX:
        raise errors.field_invalid(base, f"a configuration has at most {BYTES_MAX} bytes in all")
    if not configuration.model:
        raise errors.field_invalid(f"{base}.model", "name the model")
    if configuration.model.startswith(_AGENTS_OWN):
        raise errors.field_invalid(f"{base}.model", "the model is a base or fine-tuned model, not an agent")
    for where, text in configuration.texts:
        texts.check(text, where)
    if len(set(configuration.called_names)) != len(configuration.called_names):
        raise errors.field_invalid(f"{base}.tools", "functions and connectors have distinct names")
    if len(set(configuration.guardrails)) != len(configuration.guardrails):
        raise errors.field_invalid(f"{base}.guardrails", "a check stands at most once at each stage")
    if configuration.needs_schema != bool(configuration.response_schema):
        raise errors.field_invalid(
            f"{base}.response_format.schema", "a schema belongs to KIND_JSON_SCHEMA, and that kind has one"
        )
    for where, schema in configuration.schemas:
        tool_schemas.check_parameters(schema, where)
    if configuration.needs_schema:
        tool_schemas.check_answer(configuration.response_schema, f"{base}.response_format.schema")


def check_fine_tuned(configuration: Configuration) -> None:
    """Raises InvalidArgument where a job's agent is not over a fine-tuned model."""
    if not configuration.is_fine_tuned:
        raise errors.field_invalid(f"{configuration.place}.model", "the model is the one that the job made")
