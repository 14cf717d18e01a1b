"""The store of identity, bound to one open transaction: rows in, nouns out.

`Store` is what the domain gets for everything but the hot questions, which read through `hot_store`.
Constraint errors leave as domain errors; a row that is missing is raised as NotFound.
"""

from perron.identity.hot_store import HotStore
from perron.identity.key_store import KeyStore
from perron.identity.member_store import MemberStore
from perron.identity.organization_store import OrganizationStore


class Store(OrganizationStore, MemberStore, KeyStore):
    """Organizations, workspaces, members and keys, with what every mutation owes beside its effect."""

    @property
    def hot(self) -> HotStore:
        """The questions that batches ask, in this same transaction."""
        return HotStore(self.tx)

    def now_us(self) -> int:
        """Returns the store's time in microseconds since 1970."""
        return self.tx.now_us()
