"""What a plan gives of fine-tuning: whether at all, how many jobs at a time, how many bytes stored.

Both counts are exact whatever happens at once: callers of one organization queue up at its row of
`allowances`, and what is there is counted anew behind that lock; no counter can drift. A downgrade stops new
jobs and uploads, never what exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from perron.finetuning import errors
from perron.finetuning.store import Store

_MAX: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Allowance:
    """The counts that a plan gives."""

    jobs_max: int
    stored_bytes_max: int


def allowance(entitlements: Mapping[str, str]) -> Allowance:
    """Reads a plan's entitlements; raises FailedPrecondition (ENTITLEMENT_MISSING) without fine-tuning."""
    if entitlements.get("fine_tuning") != "yes":
        raise errors.entitlement_missing("fine_tuning")
    return Allowance(_count(entitlements, "fine_tuning_jobs"), _count(entitlements, "fine_tuning_bytes"))


def require_job(store: Store, organization_id: str, given: Allowance) -> None:
    """Raises ResourceExhausted (JOBS_TOO_MANY) unless one more job fits; holds until the commit."""
    store.lock_allowance(organization_id, given.stored_bytes_max)
    foresee_job(store, organization_id, given.jobs_max)


def foresee_job(store: Store, organization_id: str, jobs_max: int) -> None:
    """Raises what `require_job` would now; it holds nothing, so that is asked again."""
    if store.count_open_jobs(organization_id) >= jobs_max:
        raise errors.jobs_too_many(jobs_max)


def foresee_bytes(store: Store, organization_id: str, more: int, stored_bytes_max: int) -> None:
    """Raises what `require_bytes` would now; it holds nothing, so that is asked again."""
    if store.count_stored_bytes(organization_id) + more > stored_bytes_max:
        raise errors.stored_bytes_exceeded(stored_bytes_max)


def require_bytes(store: Store, organization_id: str, more: int, stored_bytes_max: int | None = None) -> None:
    """Raises ResourceExhausted (STORED_BYTES_EXCEEDED) unless `more` bytes fit; holds until the commit.

    A worker brings no plan: without `stored_bytes_max` it is what the plan gave when a person last came.
    """
    most = store.lock_allowance(organization_id, stored_bytes_max)
    if store.count_stored_bytes(organization_id) + more > most:
        raise errors.stored_bytes_exceeded(most)


def _count(entitlements: Mapping[str, str], name: str) -> int:
    written = entitlements.get(name, "")
    if not (written.isascii() and written.isdigit()):
        raise errors.entitlement_missing(name)
    return min(int(written), _MAX)
