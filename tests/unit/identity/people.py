"""Who and what the unit tests of identity play with."""

from typing import Any

from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.testing import counting_ids
from perron.identity import documents, plans
from perron.identity.commands import CreateKey, CreateOrganization
from perron.identity.grants import Grant
from perron.identity.keys import Keys, MintedKey
from perron.identity.model import ALL_SCOPES, Acceptance, Verdict, VerifyItem
from perron.identity.organizations import Founded, Organizations
from perron.identity.secrets import Pepper
from perron.identity.store import Store
from perron.identity.verification import Verification

PEPPER = Pepper("p1", b"p" * 32)
OLDER_PEPPER = Pepper("p0", b"q" * 32)


def no_randomness() -> Any:
    """Bytes that count: every secret is another one, and the same in each run."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return drawn.to_bytes(4, "big") + bytes(size - 4)

    return draw


class House:
    """The domain of identity over a store, without a wire."""

    def __init__(self, peppers: tuple[Pepper, ...] = (PEPPER,), **catalogue: Any) -> None:
        self.ids = counting_ids()
        self.plans = plans.load("")
        self.documents = catalogue.get("documents") or documents.load("")
        self.verification = Verification(peppers, self.plans, self.documents)
        self.keys = Keys(self.verification, peppers, "test", self.ids, no_randomness())
        self.organizations = Organizations(self.plans, self.documents, self.keys, self.ids)

    def acceptances(self) -> tuple[Acceptance, ...]:
        return tuple(Acceptance(each.name, each.version, each.text_digest) for each in self.documents.all)

    def found(self, store: Store, email: str = "ada@acme.example") -> Founded:
        command = CreateOrganization("Acme", email, self.acceptances(), frozenset({"OFFERING"}), 0)
        return self.organizations.create(
            store, call(Caller(CallerKind.OPERATOR, key_id="key_operator")), command
        )

    def mint(
        self, store: Store, founded: Founded, parent: MintedKey, grant: Grant | None = None
    ) -> MintedKey:
        command = CreateKey("", "", "child", grant or Grant(scopes=ALL_SCOPES))
        return self.keys.create(store, call(admin(founded, parent)), command)

    def verify(self, store: Store, secret: str, **fields: Any) -> Verdict:
        return self.verification.verify(store.hot, [VerifyItem(secret, **fields)])[0]


def admin(founded: Founded, key: MintedKey | None = None) -> Caller:
    """The first admin of an organization, calling with a key."""
    return Caller(
        CallerKind.CUSTOMER,
        key_id=(key or founded.key).key.key_id,
        organization_id=founded.organization.organization_id,
        workspace_id=founded.workspace.workspace_id,
        member_id=founded.admin.member_id,
        organization_role="ADMIN",
        workspace_role="ADMIN",
        scopes=ALL_SCOPES,
    )


def call(caller: Caller) -> Call:
    return Call(caller, "perron.api.identity.v1.Test/Test")
