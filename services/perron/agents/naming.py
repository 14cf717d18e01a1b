"""Naming: what every name that a member gives goes through, be it an agent's or an alias.

Somebody vouches for it (clause 2-name), it is printable, no mark of the operator's is in it, and nothing in
the workspace looks like it. An agent's name and an alias may look alike: nobody meets one in the place of the
other.
"""

from collections.abc import Callable
from dataclasses import dataclass

from perron.agents import errors, names
from perron.agents.look_alikes import readings
from perron.agents.store import Store


@dataclass(frozen=True, slots=True)
class Name:
    """A name in the form in which it is kept, and by what it is compared; `field` is where it was given."""

    text: str
    field: str
    readings: frozenset[str]


def agent_name(text: str, *, is_attested: bool, field: str = "display_name") -> Name:
    """Reads the name of an agent. Raises InvalidArgument, FailedPrecondition (NAME_NOT_ATTESTED)."""
    name = names.display_name(text, field)
    require_attested(is_attested=is_attested)
    return Name(name, field, readings(name))


def alias(text: str, *, is_attested: bool) -> Name:
    """Reads an alias. Raises as `agent_name`."""
    name = names.alias(text)
    require_attested(is_attested=is_attested)
    return Name(name, "alias", frozenset({names.alias_reading(name)}))


def require_attested(*, is_attested: bool) -> None:
    """Raises FailedPrecondition (NAME_NOT_ATTESTED) where nobody vouches for the name."""
    if not is_attested:
        raise errors.name_not_attested()


def admit(store: Store, name: Name, is_taken: Callable[[frozenset[str]], bool]) -> None:
    """Raises InvalidArgument (NAME_RESERVED) or AlreadyExists (NAME_TAKEN) for a name that is not free."""
    if store.are_reserved(names.keys_within(name.text)):
        raise errors.name_reserved(name.field)
    if is_taken(name.readings):
        raise errors.name_taken(name.field)
