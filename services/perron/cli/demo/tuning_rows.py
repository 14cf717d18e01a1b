"""What the chapter on fine-tuning shows, said beforehand.

Where nothing can be trained the same rows are told as not shown.
"""

from perron.cli.demo.foundation import EXCHANGES
from perron.cli.demo.stage import Row

LOSS_FALL = 1.5
"""By how much the validation loss must fall, in nats a token; it falls by about twice as much."""

RECORDED = Row(
    "3-free",
    f"{EXCHANGES} exchanges, recorded and eligible, read back by their owner word for word, become two files",
)
ATTESTED = Row("1.2-api", "no file without the member's word for the rights in it, kept with who and when")
PLAN = Row("1.2-api", "where the plan gives no fine-tuning no file is taken: ENTITLEMENT_MISSING")
DECIDED = Row("3-paid", "the files are data with a decision of their own: the platform never trains on them")
ESTIMATED = Row("1.2-api", "a dry run says tokens, steps and price beforehand, and leaves no job behind")
LEARNED = Row(
    "1.2-api", f"a job trains an adapter, and its loss on the validation file falls by {LOSS_FALL} or more"
)
STAMPED = Row(
    "1.2-api", "the server stamps where a model comes from: job, base, hyperparameters, both files' digests"
)
USABLE = Row("1.2-api", "its owner is admitted to it by name and by id, as soon as the job has ended")
HIDDEN = Row("1.2-conf", "for another workspace of the same organization it does not exist, word for word")
DOWNGRADED = Row(
    "1.2-api", "back on the free plan no new job is taken, and the model that exists is used as before"
)
UNTRAINED = Row(
    "1.2-conf",
    "there what its base answers is eligible for training; what it answers never is, as an agent neither",
)
AGENT = Row(
    "2-create",
    "the job made the agent that it promised, for the member who asked; admitted, it is this model that runs",
)
DELETED = Row(
    "1.2-api",
    "deleted: neither it nor its agent is admitted at the next call, MODEL_DELETED, and no base instead",
)
ERASED = Row("1.2-api", "and its erasure is told: not one object of it is left in storage")

ALL = (
    RECORDED,
    PLAN,
    ATTESTED,
    DECIDED,
    ESTIMATED,
    LEARNED,
    STAMPED,
    USABLE,
    HIDDEN,
    AGENT,
    DOWNGRADED,
    UNTRAINED,
    DELETED,
    ERASED,
)
"""In the order in which they are played."""
