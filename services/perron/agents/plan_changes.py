"""Changes of plan: tells whoever follows agents what an organization's agents lost or got back by one.

An event of identity says that a plan changed, not what it gives; that is asked here, under a lease. What a
newcomer gets wrong: nothing is decided by it. A call that comes before the event is judged by the plan that
it carries, and so is one that comes after.
"""

from collections.abc import Mapping, Sequence

from perron.agents.peers import Plans
from perron.agents.plan_store import Heard, PlanStore
from perron.agents.visibility import Entitlements
from perron.chassis.database import Database, Transaction
from perron.chassis.leases import Lease

_ORGANIZATIONS_MAX = 128


class PlanChanges:
    """Looks at changes of plan."""

    def __init__(self, database: Database, plans: Plans) -> None:
        self._database = database
        self._plans = plans

    async def look(self, lease: Lease) -> bool:
        """Looks at what was heard of; tells whether there is more. Raises Unavailable where identity is."""
        heard = await self._database.read(lambda tx: PlanStore(tx).heard(_ORGANIZATIONS_MAX))
        if not heard:
            return False
        given = await self._plans.entitlements([one.workspace_id for one in heard if one.workspace_id])

        def tell(tx: Transaction) -> int:
            lease.fence(tx)
            return _tell(PlanStore(tx), heard, given)

        told = await self._database.write(tell)
        return bool(told) and len(heard) == _ORGANIZATIONS_MAX


def _tell(store: PlanStore, heard: Sequence[Heard], given: Mapping[str, Entitlements]) -> int:
    """Publishes what really changed; returns of how many organizations it is known now.

    An organization without a workspace to ask by has nothing to lose any more. One whose workspace identity
    does not know is left for later: the event of its deletion is on its way.
    """
    told = 0
    for one in heard:
        entitlements = given.get(one.workspace_id) if one.workspace_id else one.entitlements
        if entitlements is None:
            continue
        if _is_narrower(entitlements, one.entitlements):
            store.publish("agents.narrowed", organization_id=one.organization_id)
        if _is_narrower(one.entitlements, entitlements):
            store.publish("agents.restored", organization_id=one.organization_id)
        store.saw(one, entitlements)
        told += 1
    return told


def _is_narrower(one: Entitlements, other: Entitlements) -> bool:
    """Tells whether something is missing in one that the other gives."""
    return bool(other.channels - one.channels) or (other.sharing and not one.sharing)
