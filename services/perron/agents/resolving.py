"""Resolving: what a name means to a person in a channel right now, for a whole batch from one snapshot.

The version is pinned here: whatever happens to the agent afterwards, this answer speaks of one version. What
a newcomer gets wrong: an agent that the person may not see is missing in the same words as one that never
was, behind an alias and in the list of handoffs too. That it is disabled or not published is told only to
those who see it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from perron.agents import errors
from perron.agents.model import AgentState
from perron.agents.resolve_store import AgentOf, FoundAgent, Pin, ResolveStore
from perron.agents.seals import Seals
from perron.agents.visibility import Channel, Person, effective_channels, sees
from perron.chassis.errors import PerronError, Unavailable

_BY_ALIAS: Final = "agent:"
_NOTHING: Final = ("", 0)


class ResolveCommand(NamedTuple):
    """One agent wanted, by id or as "agent:" and an alias, for the person of a passport."""

    agent: str
    channel: Channel
    person: Person
    passport: str
    trace_parent: str = ""

    def __repr__(self) -> str:
        return f"ResolveCommand({self.agent!r}, {self.channel!r}, {self.person!r})"


class Content(NamedTuple):
    """A configuration as it was sealed, and what is looked at on the way: its model and its handoffs."""

    model: str
    handoffs: tuple[str, ...]
    configuration: bytes

    def __repr__(self) -> str:
        return f"Content({self.model!r}, {self.handoffs!r})"


class Resolved(NamedTuple):
    """One version, pinned; `handoffs` are those that the person may use in the channel.

    `unacknowledged` are the third parties that its workspace has not acknowledged: refused under zero
    retention.
    """

    command: ResolveCommand
    pin: Pin
    third_parties: tuple[str, ...]
    unacknowledged: tuple[str, ...]
    handoffs: tuple[str, ...]
    content: Content


class _Opened(NamedTuple):
    pin: Pin
    third_parties: tuple[str, ...]
    content: Content


class Resolving:
    """Resolves batches. `read` looks into a configuration."""

    def __init__(self, seals: Seals, read: Callable[[bytes], Content]) -> None:
        self._seals = seals
        self._read = read

    def resolve(
        self, store: ResolveStore, commands: Sequence[ResolveCommand]
    ) -> list[Resolved | PerronError]:
        """Resolves each command, or refuses it."""
        pins = _pins(store, commands)
        versions = self._opened(store, {pin for pin in pins if not isinstance(pin, PerronError)})
        opened = [pin if isinstance(pin, PerronError) else versions[pin] for pin in pins]
        found = [
            (command.person, one)
            for command, one in zip(commands, opened, strict=True)
            if isinstance(one, _Opened)
        ]
        targets = store.agents(
            {(target, person.member_id) for person, one in found for target in one.content.handoffs}
        )
        acknowledged = store.acknowledged(
            {(person.workspace_id, party) for person, one in found for party in one.third_parties}
        )
        return [
            one if isinstance(one, PerronError) else _resolved(command, one, targets, acknowledged)
            for command, one in zip(commands, opened, strict=True)
        ]

    def _opened(self, store: ResolveStore, pins: Collection[Pin]) -> dict[Pin, _Opened | PerronError]:
        found = store.versions(pins)
        plain = self._seals.open_all([(*pin, version.sealed) for pin, version in found.items()])
        opened: dict[Pin, _Opened | PerronError] = dict.fromkeys(pins, errors.missing("agent"))
        for (pin, version), configuration in zip(found.items(), plain, strict=True):
            opened[pin] = (
                configuration
                if isinstance(configuration, Unavailable)
                else _Opened(pin, version.third_parties, self._read(configuration))
            )
        return opened


def _pins(store: ResolveStore, commands: Sequence[ResolveCommand]) -> list[Pin | PerronError]:
    """Returns which version each command means, or why its person may not use it."""
    aliases = store.aliases({_alias(command) for command in commands if command.agent.startswith(_BY_ALIAS)})
    meant = [
        aliases.get(_alias(command), _NOTHING) if command.agent.startswith(_BY_ALIAS) else (command.agent, 0)
        for command in commands
    ]
    agents = store.agents(
        {(pin[0], command.person.member_id) for command, pin in zip(commands, meant, strict=True)}
    )
    pins: list[Pin | PerronError] = []
    for command, pin in zip(commands, meant, strict=True):
        agent = _usable(agents.get((pin[0], command.person.member_id)), command)
        pins.append(
            agent if isinstance(agent, PerronError) else (agent.agent_id, pin[1] or agent.latest_version)
        )
    return pins


def _usable(agent: FoundAgent | None, command: ResolveCommand) -> FoundAgent | PerronError:
    """Returns the agent where the command's person may use it in the command's channel, or why not."""
    person = command.person
    if agent is None or not sees(person, agent, is_named=agent.is_named):
        return errors.missing("agent")
    if agent.state is not AgentState.ACTIVE:
        return errors.agent_disabled()
    if command.channel not in effective_channels(agent.channels, person.entitlements):
        because = "agent" if command.channel in person.entitlements.channels else "plan"
        return errors.agent_not_published(command.channel.value, because)
    return agent


def _resolved(
    command: ResolveCommand,
    opened: _Opened,
    targets: Mapping[AgentOf, FoundAgent],
    acknowledged: Collection[tuple[str, str]],
) -> Resolved:
    person = command.person
    pin, third_parties, content = opened
    unacknowledged = [party for party in third_parties if (person.workspace_id, party) not in acknowledged]
    handoffs = [
        target
        for target in content.handoffs
        if not isinstance(_usable(targets.get((target, person.member_id)), command), PerronError)
    ]
    return Resolved(command, pin, third_parties, tuple(unacknowledged), tuple(handoffs), content)


def _alias(command: ResolveCommand) -> tuple[str, str]:
    return command.person.workspace_id, command.agent.removeprefix(_BY_ALIAS)
