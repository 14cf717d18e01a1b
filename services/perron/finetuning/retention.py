"""How long a file lives beside its deletion, by the decision that governance made when it was announced.

A subscription that has ended leaves 30 days of notice. Zero retention binds a file to jobs: it lives while a
job needs it, and at most 24 hours without one. What decisions may say one day and this code does not know is
taken for zero retention: the narrowest that still lets a file be trained on.
"""

from dataclasses import replace
from typing import Final

from perron.finetuning.file_model import Retention

HOUR_US: Final = 3_600_000_000
NOTICE_US: Final = 30 * 24 * HOUR_US
WITHOUT_JOB_US: Final = 24 * HOUR_US
AT_ONCE_US: Final = 1
"""An instant long ago: of what ends with its workspace."""


def expire_us(retention: Retention, needed_until_us: int = 0) -> int:
    """Returns when a file ends; 0 for never. `needed_until_us` is until when a job has needed it."""
    ends = []
    if retention.subscription_end_us:
        ends.append(retention.subscription_end_us + NOTICE_US)
    if retention.job_bound_us:
        ends.append(max(retention.job_bound_us, needed_until_us) + WITHOUT_JOB_US)
    return min(ends, default=0)


def bound_to_jobs(retention: Retention, now_us: int) -> Retention:
    """Returns a retention as zero retention leaves it: what is bound already stays as it is."""
    return retention if retention.job_bound_us else replace(retention, job_bound_us=now_us)
