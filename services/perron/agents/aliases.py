"""Aliases: names that gateways ask for, each for one version of an agent or for its latest.

An alias is moved in one row, so no caller ever meets it between two agents. Whoever moves one owns or
administers both what it leaves and what it comes to stand for.
"""

from dataclasses import dataclass, replace

from perron.agents import errors, finding, naming
from perron.agents.model import Agent, Alias, Attestation, Occasion
from perron.agents.name_store import NameStore
from perron.agents.naming import Name
from perron.agents.visibility import Person
from perron.chassis.errors import NotFound
from perron.chassis.interceptors.access import Call


@dataclass(frozen=True, slots=True)
class Target:
    """What an alias is to stand for; version 0 is the latest."""

    agent_id: str
    version: int


def create(store: NameStore, call: Call, person: Person, name: Name, target: Target) -> Alias:
    """Makes an alias. Raises InvalidArgument (NAME_RESERVED), AlreadyExists (NAME_TAKEN) and as `move`."""
    if store.once(call, name.text) is not None:
        return _seen(store, person, name.text)
    _hold(store, person)
    agent = _target(store, person, target)
    naming.admit(store, name, lambda readings: store.alias_is_taken(person.workspace_id, readings))
    now_us = store.now_us()
    alias = Alias(
        workspace_id=person.workspace_id,
        alias=name.text,
        agent_id=agent.agent_id,
        version=target.version,
        attestation=Attestation(person.member_id, now_us, Occasion.ALIAS),
        create_us=now_us,
        update_us=now_us,
        revision=1,
    )
    (reading,) = name.readings
    store.insert_alias(alias, reading)
    _record(store, call, person, alias, "alias.created")
    return alias


def move(store: NameStore, call: Call, person: Person, alias: str, target: Target, etag: str) -> Alias:
    """Lets an alias stand for something else.

    Raises NotFound, PermissionDenied (ROLE_MISSING), Aborted (ETAG_STALE).
    """
    if store.once(call, alias) is not None:
        return _seen(store, person, alias)
    _hold(store, person)
    found = _managed(store, person, alias, etag)
    _target(store, person, target)
    moved = replace(
        found,
        agent_id=target.agent_id,
        version=target.version,
        update_us=store.now_us(),
        revision=found.revision + 1,
    )
    store.update_alias(moved)
    _record(store, call, person, moved, "alias.moved")
    return moved


def delete(store: NameStore, call: Call, person: Person, alias: str, etag: str) -> None:
    """Deletes an alias. Raises as `move`."""
    if store.once(call, alias) is not None:
        return
    _hold(store, person)
    found = _managed(store, person, alias, etag)
    store.delete_alias(found)
    _record(store, call, person, found, "alias.deleted")


def list_aliases(store: NameStore, person: Person, agent_id: str, after: str, rows_max: int) -> list[Alias]:
    """Returns aliases of agents that a person sees, by name; of one agent where it is named."""
    if agent_id:
        finding.seen(store, person, agent_id)
    return store.aliases(person, agent_id, after, rows_max)


def _hold(store: NameStore, person: Person) -> None:
    store.refuse_buried(person.organization_id, person.workspace_id)
    store.hold_workspace(person.organization_id, person.workspace_id)


def _target(store: NameStore, person: Person, target: Target) -> Agent:
    agent = finding.managed(store, person, target.agent_id)
    store.version(agent, target.version)
    return agent


def _seen(store: NameStore, person: Person, name: str) -> Alias:
    """Returns an alias of an agent that a person sees. Raises NotFound."""
    alias = store.alias(person.workspace_id, name)
    try:
        finding.seen(store, person, alias.agent_id)
    except NotFound:
        raise errors.missing("alias") from None
    return alias


def _managed(store: NameStore, person: Person, name: str, etag: str) -> Alias:
    alias = _seen(store, person, name)
    finding.managed(store, person, alias.agent_id)
    if etag and etag != alias.etag:
        raise errors.etag_stale()
    return alias


def _record(store: NameStore, call: Call, person: Person, alias: Alias, kind: str) -> None:
    store.audit(call, alias.agent_id, person.organization_id, action=f"{kind} {alias.alias}")
    store.publish(
        kind,
        organization_id=person.organization_id,
        workspace_id=person.workspace_id,
        resource_id=alias.agent_id,
        version=alias.version,
    )
