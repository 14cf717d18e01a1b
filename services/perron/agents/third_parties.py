"""Third parties: what agents reach beyond this platform, and what a workspace has said to know of.

A tool that reaches one is allowed as it is declared, except under zero retention: there it is refused until
an admin of the workspace has acknowledged the third party (clause 2-conf). What a newcomer gets wrong: an
acknowledgement changes no agent; it is looked at each time one is resolved.
"""

from perron.agents import errors
from perron.agents.model import Acknowledgement
from perron.agents.sharing_store import SharingStore
from perron.chassis.interceptors.access import Call


def acknowledge(store: SharingStore, call: Call, third_party: str) -> Acknowledgement:
    """Records that the caller's workspace knows of a third party. Done already: nothing changes."""
    caller = call.caller
    if store.once(call, third_party) is None:
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        if store.acknowledge(caller.workspace_id, third_party, caller.member_id):
            _tell(store, call, third_party, "third_party.acknowledged")
    return found(store, caller.workspace_id, third_party)


def withdraw(store: SharingStore, call: Call, third_party: str) -> None:
    """Takes an acknowledgement back. Raises NotFound where there is none."""
    if store.once(call, third_party) is not None:
        return
    if not store.withdraw(call.caller.workspace_id, third_party):
        raise errors.missing("acknowledgement")
    _tell(store, call, third_party, "third_party.withdrawn")


def found(store: SharingStore, workspace_id: str, third_party: str) -> Acknowledgement:
    """Returns an acknowledgement. Raises NotFound where there is none, or none any more."""
    one = store.acknowledgements(workspace_id, exactly=third_party)
    if not one:
        raise errors.missing("acknowledgement")
    return one[0]


def _tell(store: SharingStore, call: Call, third_party: str, kind: str) -> None:
    caller = call.caller
    store.audit(call, third_party, caller.organization_id)
    store.publish(kind, organization_id=caller.organization_id, workspace_id=caller.workspace_id)
