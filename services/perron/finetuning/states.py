"""The life of a job as one table: from which state which verb leads where. What is not in it does not happen.

    QUEUED → VALIDATING → VALIDATED → STARTED ⇄ RUNNING → SUCCEEDED

A job ends as FAILED_VALIDATION before it could start, as FAILED or CANCELLED at any time; a running one that
is cancelled waits in CANCELLATION_REQUESTED until its worker has acknowledged, or its lease has run out.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from perron.finetuning.model import JobState as S


class Verb(StrEnum):
    """What moves a job."""

    VALIDATE = "VALIDATE"
    APPROVE = "APPROVE"
    REFUSE = "REFUSE"
    START = "START"
    LEASE = "LEASE"
    REQUEUE = "REQUEUE"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    CANCEL = "CANCEL"
    ACKNOWLEDGE = "ACKNOWLEDGE"


FINAL: Final = frozenset({S.SUCCEEDED, S.FAILED_VALIDATION, S.FAILED, S.CANCELLED})
"""States that no verb leads out of."""

NEEDING_FILES: Final = frozenset({S.QUEUED, S.VALIDATING, S.STARTED, S.RUNNING})
"""States in which a job needs its files. One that waits for StartJob does not: it may wait for ever."""

TRANSITIONS: Final[Mapping[tuple[S, Verb], S]] = {
    (S.QUEUED, Verb.VALIDATE): S.VALIDATING,
    (S.QUEUED, Verb.CANCEL): S.CANCELLED,
    (S.QUEUED, Verb.FAIL): S.FAILED,
    (S.VALIDATING, Verb.APPROVE): S.VALIDATED,
    (S.VALIDATING, Verb.REFUSE): S.FAILED_VALIDATION,
    (S.VALIDATING, Verb.CANCEL): S.CANCELLED,
    (S.VALIDATING, Verb.FAIL): S.FAILED,
    (S.VALIDATED, Verb.START): S.STARTED,
    (S.VALIDATED, Verb.CANCEL): S.CANCELLED,
    (S.VALIDATED, Verb.FAIL): S.FAILED,
    (S.STARTED, Verb.LEASE): S.RUNNING,
    (S.STARTED, Verb.CANCEL): S.CANCELLED,
    (S.STARTED, Verb.FAIL): S.FAILED,
    (S.RUNNING, Verb.REQUEUE): S.STARTED,
    (S.RUNNING, Verb.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, Verb.FAIL): S.FAILED,
    (S.RUNNING, Verb.CANCEL): S.CANCELLATION_REQUESTED,
    (S.CANCELLATION_REQUESTED, Verb.ACKNOWLEDGE): S.CANCELLED,
}
