"""Reserved names: the operator's list of marks that no agent and no alias may bear or look like.

The list is looked at when a name is given. Who bears one already keeps it.
"""

from collections.abc import Sequence

from perron.agents import names
from perron.agents.name_store import NameStore
from perron.chassis.interceptors.access import Call

_LIST = "reserved_names"


def change(store: NameStore, call: Call, added: Sequence[str], removed: Sequence[str]) -> int:
    """Adds and removes reserved names, and returns how many there are; what is in both is added.

    Raises InvalidArgument (FIELD_INVALID) for what is no name.
    """
    wanted = {
        names.listed_as(names.display_name(mark, f"add[{place}]")): (
            names.display_name(mark, f"add[{place}]"),
            names.mark_keys(mark, f"add[{place}]"),
        )
        for place, mark in enumerate(added)
    }
    unwanted = {
        names.listed_as(names.display_name(mark, f"remove[{place}]")) for place, mark in enumerate(removed)
    }
    if store.once(call, _LIST) is None:
        store.release(unwanted - wanted.keys())
        store.reserve(wanted)
        store.audit(call, _LIST, "")
    return store.count_reserved()


def list_names(store: NameStore, after: str, rows_max: int) -> list[tuple[str, str]]:
    """Returns (place in the list, name) of reserved names, from after a place on."""
    return store.reserved_names(after, rows_max)
