from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from perron.chassis.database import Database, Transaction
from perron.chassis.errors import FailedPrecondition, PermissionDenied
from perron.chassis.testing import BOTH, FakeClock
from perron.identity.commands import UpdateKey
from perron.identity.documents import Documents
from perron.identity.grants import Grant
from perron.identity.model import ALL_SCOPES, KeyState, OrganizationRole, WorkspaceRole
from perron.identity.store import Store
from perron.identity.tables import metadata, organizations
from tests.unit.identity.people import OLDER_PEPPER, PEPPER, House, admin, call

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)
INFERENCE = frozenset({"INFERENCE"})


async def test_a_key_names_its_member_with_roles_plan_and_terms(database: Database) -> None:
    house = House()
    founded = await database.write(lambda tx: house.found(Store(tx)))
    verdict = await database.read(lambda tx: house.verify(Store(tx), founded.key.secret))
    principal = verdict.principal
    assert verdict.state is KeyState.VALID
    assert principal.organization_id == founded.organization.organization_id
    assert principal.workspace_id == founded.workspace.workspace_id
    assert principal.member_id == founded.admin.member_id
    assert (principal.organization_role, principal.workspace_role) == (
        OrganizationRole.ADMIN,
        WorkspaceRole.ADMIN,
    )
    assert principal.grant.scopes == ALL_SCOPES
    assert (principal.plan, principal.terms_class, principal.tier) == ("free", "FREE", "free")
    assert principal.accepted == {"additional-terms": "2025-02-06", "terms-of-service": "2025-01-01"}


async def test_a_revoked_key_takes_its_descendants_with_it(database: Database) -> None:
    house = House()

    def mint(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        child = house.mint(store, founded, founded.key)
        return founded, child, house.mint(store, founded, child)

    founded, child, grandchild = await database.write(mint)
    await database.write(lambda tx: house.keys.revoke(Store(tx), call(admin(founded)), child.key.key_id))
    states = await database.read(
        lambda tx: [house.verify(Store(tx), key.secret).state for key in (founded.key, child, grandchild)]
    )
    assert states == [KeyState.VALID, KeyState.REVOKED, KeyState.REVOKED]


async def test_narrowing_a_key_narrows_what_was_minted_with_it(database: Database) -> None:
    house = House()

    def narrow(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        child = house.mint(store, founded, founded.key)
        grandchild = house.mint(store, founded, child)
        grant = Grant(INFERENCE, frozenset({"small"}), frozenset({"10.0.0.0/8"}), store.now_us() + 60_000_000)
        fields = frozenset({"scopes", "allowed_models", "allowed_networks", "expire_time"})
        house.keys.update(store, call(admin(founded)), UpdateKey(child.key.key_id, fields, "", "", grant))
        return grandchild

    grandchild = await database.write(narrow)

    def look(tx: Transaction, **fields: Any) -> Any:
        return house.verify(Store(tx), grandchild.secret, **fields)

    verdict = await database.read(lambda tx: look(tx, peer="10.1.2.3"))
    assert verdict.state is KeyState.VALID
    assert verdict.principal.grant.scopes == INFERENCE
    assert verdict.principal.grant.models == {"small"}
    assert (await database.read(look)).state is KeyState.NETWORK_NOT_ALLOWED
    wanted = frozenset({"KEYS_WRITE"})
    missing = await database.read(lambda tx: look(tx, peer="10.1.2.3", required_scopes=wanted))
    assert missing.state is KeyState.SCOPE_MISSING


async def test_a_key_expires_with_its_earliest_ancestor(database: Database, clock: FakeClock) -> None:
    house = House()

    def mint(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        brief = Grant(ALL_SCOPES, expire_us=store.now_us() + 1_000)
        return house.mint(store, founded, house.mint(store, founded, founded.key, brief))

    key = await database.write(mint)
    assert key.key.grant.expire_us is not None
    clock.advance(timedelta(microseconds=999))
    assert (await database.read(lambda tx: house.verify(Store(tx), key.secret))).state is KeyState.VALID
    clock.advance(timedelta(microseconds=1))
    assert (await database.read(lambda tx: house.verify(Store(tx), key.secret))).state is KeyState.EXPIRED


@pytest.mark.parametrize(
    ("grant", "field"),
    [
        (Grant(ALL_SCOPES), "scopes"),
        (Grant(INFERENCE, models=frozenset({"large"})), "allowed_models"),
        (Grant(INFERENCE, networks=frozenset({"0.0.0.0/0"})), "allowed_networks"),
        (Grant(INFERENCE, expire_us=2**53), "expire_time"),
    ],
)
async def test_a_key_is_never_wider_than_its_minter(database: Database, grant: Grant, field: str) -> None:
    house = House()

    def mint(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        bound = Grant(INFERENCE, frozenset({"small"}), frozenset({"10.0.0.0/8"}), store.now_us() + 60_000_000)
        parent = house.mint(store, founded, founded.key, bound)
        return house.mint(store, founded, parent, grant)

    with pytest.raises(PermissionDenied) as caught:
        await database.write(mint)
    assert caught.value.reason == "KEY_WIDER_THAN_MINTER"
    assert caught.value.violations[0].field == field


async def test_a_key_inherits_what_its_request_leaves_open(database: Database) -> None:
    house = House()

    def mint(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        bound = Grant(INFERENCE, frozenset({"small"}), frozenset({"10.0.0.0/8"}), store.now_us() + 60_000_000)
        parent = house.mint(store, founded, founded.key, bound)
        return bound, house.mint(store, founded, parent, Grant(INFERENCE))

    bound, child = await database.write(mint)
    assert child.key.grant == bound


async def test_a_fifth_ancestor_is_refused(database: Database) -> None:
    house = House()

    def chain(tx: Transaction) -> None:
        store = Store(tx)
        founded = house.found(store)
        key = founded.key
        for _ in range(4):
            key = house.mint(store, founded, key)
        assert len(key.key.ancestors) == 4
        house.mint(store, founded, key)

    with pytest.raises(FailedPrecondition, match="at most four"):
        await database.write(chain)


async def test_a_removed_owner_takes_keys_and_descendants_with_it(database: Database) -> None:
    house = House()

    def mint(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        return founded, house.mint(store, founded, founded.key)

    founded, child = await database.write(mint)
    await database.write(lambda tx: Store(tx).remove_member(founded.admin.member_id))
    for key in (founded.key, child):
        assert (
            await database.read(lambda tx, key=key: house.verify(Store(tx), key.secret))
        ).state is KeyState.OWNER_REMOVED


async def test_keys_of_a_terminated_organization_are_refused(database: Database) -> None:
    house = House()

    def terminate(tx: Transaction) -> str:
        founded = house.found(Store(tx))
        tx.execute(organizations.update().values(state="TERMINATED"))
        return founded.key.secret

    secret = await database.write(terminate)
    assert (await database.read(lambda tx: house.verify(Store(tx), secret))).state is KeyState.TERMINATED


async def test_minting_for_another_gives_the_minter_no_role_that_the_other_gains_later(
    database: Database,
) -> None:
    house = House()

    def promote(tx: Transaction) -> Any:
        store = Store(tx)
        founded = house.found(store)
        child = house.mint(store, founded, founded.key)
        # The first admin is demoted: its key, and what was minted with it, act as a plain member from now on.
        store.update_member(founded.admin, "ada", OrganizationRole.MEMBER, WorkspaceRole.MEMBER)
        return child

    child = await database.write(promote)
    principal = (await database.read(lambda tx: house.verify(Store(tx), child.secret))).principal
    assert (principal.organization_role, principal.workspace_role) == (
        OrganizationRole.MEMBER,
        WorkspaceRole.MEMBER,
    )


async def test_keys_under_an_older_pepper_are_found_until_it_is_given_up(database: Database) -> None:
    old = House((OLDER_PEPPER,))
    founded = await database.write(lambda tx: old.found(Store(tx)))
    for peppers, state in (((PEPPER, OLDER_PEPPER), KeyState.VALID), ((PEPPER,), KeyState.UNKNOWN)):
        house = House(peppers)
        verdict = await database.read(lambda tx, house=house: house.verify(Store(tx), founded.key.secret))
        assert verdict.state is state


async def test_past_its_accept_by_time_a_new_version_stops_keys_that_still_carry_their_principal(
    database: Database, clock: FakeClock
) -> None:
    house = House()
    founded = await database.write(lambda tx: house.found(Store(tx)))
    terms = next(each for each in house.documents.all if each.name == "additional-terms")
    newer = replace(
        terms,
        version="2026",
        effective_us=clock.now_us() + 1_000_000,
        accept_by_us=clock.now_us() + 2_000_000,
    )
    later = House(documents=Documents((*house.documents.all, newer)))
    clock.advance(timedelta(seconds=1))
    assert (
        await database.read(lambda tx: later.verify(Store(tx), founded.key.secret))
    ).state is KeyState.VALID
    clock.advance(timedelta(seconds=1))
    verdict = await database.read(lambda tx: later.verify(Store(tx), founded.key.secret))
    assert verdict.state is KeyState.TERMS_NOT_ACCEPTED
    assert verdict.principal.member_id == founded.admin.member_id


async def test_a_malformed_key_costs_no_query_and_a_batch_one_statement(database: Database) -> None:
    house = House()
    founded = await database.write(lambda tx: house.found(Store(tx)))
    statements = []

    def note(*execution: Any) -> None:
        statements.append(execution[2])

    def count(tx: Transaction, secrets: list[str]) -> Any:
        event.listen(tx.connection, "before_cursor_execute", note)
        try:
            return [house.verify(Store(tx), secret).state for secret in secrets]
        finally:
            event.remove(tx.connection, "before_cursor_execute", note)  # the connection serves others too

    typo = founded.key.secret[:-1] + ("A" if founded.key.secret[-1] != "A" else "B")
    assert await database.read(lambda tx: count(tx, [typo, "", "x" * 8192])) == [KeyState.MALFORMED] * 3
    assert statements == []
    assert await database.read(lambda tx: count(tx, [founded.key.secret])) == [KeyState.VALID]
    assert len(statements) == 1


async def test_no_secret_is_in_the_database(database: Database) -> None:
    house = House()
    founded = await database.write(lambda tx: house.found(Store(tx)))

    def every_value(tx: Transaction) -> list[str]:
        return [
            str(value)
            for table in metadata.sorted_tables
            for row in tx.execute(table.select())
            for value in row
        ]

    assert not any(founded.key.secret[9:52] in value for value in await database.read(every_value))
