"""Decisions: what may happen to one piece of data, said once and stored before it is answered.

The judgement itself is a pure function of the case. The directives in the case are read from the store for
every batch, so a directive that was acknowledged a moment ago is in the next decision.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Final

from perron.chassis.errors import PerronError
from perron.governance.directives import combined
from perron.governance.errors import missing, request_id_reused
from perron.governance.model import DataKind, DecideCommand, Decision, Directives, Ruling
from perron.governance.outcomes import is_kept
from perron.governance.rulings import Rulings
from perron.governance.store import Store, key_of
from perron.governance.terms import Case, Rulebook, is_fine_tuned

_NAMESPACE: Final = bytes.fromhex("0f8f2a526a355d0e8f0c6a1f6f0f5e31")
_HOUR_US: Final = 3_600_000_000
_IN_FLIGHT_DEFAULT_US: Final = _HOUR_US
_IN_FLIGHT_MAX_US: Final = 24 * _HOUR_US
_NO_DIRECTIVES: Final = Directives()

_Scope = tuple[str, str]


class Decisions:
    """Makes decisions by the rulebook; `new_id` draws the 16 bytes of an id."""

    def __init__(self, rulebook: Rulebook, rulings: Rulings, new_id: Callable[[], bytes]) -> None:
        self._rulebook = rulebook
        self._rulings = rulings
        self._new_id = new_id

    def decide(self, store: Store, commands: Sequence[DecideCommand]) -> list[Decision | PerronError]:
        """Makes and stores one decision for each command; a refusal stands in the place of its decision.

        A command whose request id was seen answers the decision made then, or InvalidArgument
        (REQUEST_ID_REUSED) where it asks for something else.
        """
        buried = store.buried({command.organization_id for command in commands})
        directives = store.directives(
            {(command.organization_id, command.workspace_id) for command in commands}
        )
        now_us = store.now_us()
        in_effect = self._rulebook.in_effect(now_us)
        known: dict[Hashable, tuple[int, Ruling]] = {}
        unknown: dict[Hashable, Ruling] = {}
        keys: list[Hashable] = []
        for command in commands:
            if buried and _is_buried(command, buried):
                keys.append(None)
                continue
            in_force = _NO_DIRECTIVES
            if directives:
                in_force = combined(directives.get((command.organization_id, command.workspace_id), ()))
            key = _ruling_key(command, in_force, in_effect)
            keys.append(key)
            if key in known or key in unknown:
                continue
            found = self._rulings.find(key)
            if found is None:
                unknown[key] = self._ruling(command, in_force, now_us)
            else:
                known[key] = found
        if unknown:
            known |= self._rulings.intern(store, unknown)
        results: list[Decision | PerronError] = []
        made: list[Decision] = []
        for command, key in zip(commands, keys, strict=True):
            if key is None:
                results.append(missing("organization or workspace"))
                continue
            number, ruling = known[key]
            decision = self._decision(command, number, ruling, now_us)
            made.append(decision)
            results.append(decision)
        if made and store.insert_decisions(made) != len(made):
            return _replayed(store, commands, results)
        return results

    def _ruling(self, command: DecideCommand, in_force: Directives, now_us: int) -> Ruling:
        judgement = self._rulebook.judge(
            Case(
                terms_class=command.terms_class,
                subscribed=bool(command.subscription_id),
                data_kind=command.data_kind,
                channel=command.channel,
                documents=command.documents,
                zero_retention=in_force.zero_retention,
                opted_out=in_force.opted_out(command.as_of_us),
                fine_tuned=is_fine_tuned(command.model),
            ),
            now_us,
        )
        return Ruling(
            organization_id=command.organization_id,
            workspace_id=command.workspace_id,
            plan=command.plan,
            terms_class=command.terms_class,
            subscription_id=command.subscription_id,
            terms_version=judgement.terms_version,
            data_kind=command.data_kind,
            channel=command.channel,
            outcome=judgement.outcome,
        )

    def _decision(self, command: DecideCommand, number: int, ruling: Ruling, now_us: int) -> Decision:
        until_us = command.in_flight_until_us or now_us + _IN_FLIGHT_DEFAULT_US
        return Decision(
            decision=_derived_id(command) if command.request_id else self._new_id(),
            ruling=ruling,
            ruling_number=number,
            as_of_us=command.as_of_us,
            in_flight_until_us=min(until_us, now_us + _IN_FLIGHT_MAX_US),
            data_subject=command.data_subject,
        )


def keep_content(decision: Decision) -> bool:
    """Tells whether the content of the exchange should be sent to Put."""
    return is_recorded(decision.ruling) and not decision.discards


def is_recorded(ruling: Ruling) -> bool:
    """Tells whether a ruling lets content be kept at all."""
    return ruling.data_kind is DataKind.INFERENCE and is_kept(ruling.outcome)


def _derived_id(command: DecideCommand) -> bytes:
    """Computes the UUIDv5 (RFC 9562) of who asks, for whom, and with which request id."""
    # Ids hold no slash and a UUID is compared by value, so the joined name is unambiguous.
    name = f"{command.caller_key_id}/{command.organization_id}/{command.request_id.lower()}"
    drawn = bytearray(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    drawn[6] = drawn[6] & 0x0F | 0x50
    drawn[8] = drawn[8] & 0x3F | 0x80
    return bytes(drawn)


def _is_buried(command: DecideCommand, buried: frozenset[_Scope]) -> bool:
    return (command.organization_id, "") in buried or (
        command.organization_id,
        command.workspace_id,
    ) in buried


def _ruling_key(command: DecideCommand, in_force: Directives, in_effect: int) -> Hashable:
    """Returns all that a ruling depends on, so that a known one is found without judging again."""
    return (
        command.organization_id,
        command.workspace_id,
        command.plan,
        command.subscription_id,
        command.terms_class,
        command.data_kind,
        command.channel,
        command.documents,
        in_force.zero_retention,
        in_force.opted_out(command.as_of_us),
        is_fine_tuned(command.model),
        in_effect,
    )


def _replayed(
    store: Store, commands: Sequence[DecideCommand], results: Sequence[Decision | PerronError]
) -> list[Decision | PerronError]:
    """Puts the stored decision in the place of each that was made again; that is never wider than both."""
    keys = [
        key_of(one.ruling.organization_id, one.decision) if isinstance(one, Decision) else None
        for one in results
    ]
    stored = store.decisions([key for key in keys if key is not None])
    replayed: list[Decision | PerronError] = []
    for command, key, result in zip(commands, keys, results, strict=True):
        if not isinstance(result, Decision) or key is None:
            replayed.append(result)
        elif _asks_for(command, stored[key]):
            replayed.append(replace(stored[key], discards=not keep_content(result)))
        else:
            replayed.append(request_id_reused())
    return replayed


def _asks_for(command: DecideCommand, decision: Decision) -> bool:
    ruling = decision.ruling
    if is_fine_tuned(command.model) and ruling.outcome.training_eligible:
        return False  # made for a base model: wider than what is asked for now
    return (command.workspace_id, command.data_kind, command.channel, command.data_subject) == (
        ruling.workspace_id,
        ruling.data_kind,
        ruling.channel,
        decision.data_subject,
    )
