"""The refusals of finetuning, each built in one place so that its details are the same everywhere."""

from perron.chassis.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)


def not_found() -> NotFound:
    """Builds the answer for what does not exist and for what is another tenant's."""
    return NotFound(
        "RESOURCE_NOT_FOUND", "The workspace, file, job, model or what was asked for does not exist."
    )


def field_invalid(field: str, text: str) -> InvalidArgument:
    """Builds the refusal of a value that its form allows and its meaning does not."""
    return InvalidArgument("FIELD_INVALID", text, field=field)


def entitlement_missing(entitlement: str) -> FailedPrecondition:
    """Builds the refusal of what the plan does not give."""
    return FailedPrecondition(
        "ENTITLEMENT_MISSING",
        f"The plan does not give {entitlement}.",
        metadata={"entitlement": entitlement},
    )


def jobs_too_many(jobs: int) -> ResourceExhausted:
    """Builds the refusal of one more job than the plan lets be under way."""
    return ResourceExhausted(
        "JOBS_TOO_MANY",
        f"The plan gives {jobs} jobs at a time, and so many are under way.",
        metadata={"jobs": str(jobs)},
    )


def stored_bytes_exceeded(most: int) -> ResourceExhausted:
    """Builds the refusal of more bytes than the plan lets be stored."""
    return ResourceExhausted(
        "STORED_BYTES_EXCEEDED",
        f"Files and models of the organization would be more than the {most} bytes that the plan gives.",
        metadata={"bytes": str(most)},
    )


def base_model_not_trainable() -> FailedPrecondition:
    """Builds the refusal of a base model that the operator does not let be trained."""
    return FailedPrecondition(
        "BASE_MODEL_NOT_TRAINABLE", "There is no such base model that may be trained: see ListBaseModels."
    )


def file_not_valid() -> FailedPrecondition:
    """Builds the refusal of a file whose lines broke rules."""
    return FailedPrecondition("FILE_NOT_VALID", "Lines of the file broke rules, and its content is gone.")


def upload_offset_wrong(received_bytes: int) -> FailedPrecondition:
    """Builds the refusal of a stream that does not go on where what is stored ends."""
    return FailedPrecondition(
        "UPLOAD_OFFSET_WRONG",
        f"{received_bytes} bytes are stored: go on from there.",
        metadata={"received_bytes": str(received_bytes)},
    )


def upload_taken_over() -> Aborted:
    """Builds the refusal of a stream whose upload another stream goes on with."""
    return Aborted("UPLOAD_TAKEN_OVER", "Another stream goes on with this upload.")


def digest_mismatch() -> InvalidArgument:
    """Builds the refusal of bytes that are not the ones announced."""
    return InvalidArgument("DIGEST_MISMATCH", "The bytes are not those of the announced SHA-256.")


def job_not_startable(state: str) -> FailedPrecondition:
    """Builds the refusal to start a job that does not wait for it."""
    return FailedPrecondition(
        "JOB_NOT_STARTABLE", f"The job is {state}; it can be started once.", metadata={"state": state}
    )


def agent_not_available() -> FailedPrecondition:
    """Builds the refusal of a job that is to make an agent where none can be made."""
    return FailedPrecondition(
        "AGENT_NOT_AVAILABLE", "No agents can be made by jobs in this installation.", field="agent"
    )


def lease_lost() -> Aborted:
    """Builds the refusal of a worker whose lease has ended or passed to another."""
    return Aborted("LEASE_LOST", "The lease has ended: wipe the scratch folder and ask for the next job.")


def weights_missing() -> InvalidArgument:
    """Builds the refusal of a model that has no weights."""
    return InvalidArgument(
        "WEIGHTS_REFUSED", "No artifact named is weights.", field="blob_ids", metadata={"rule": "missing"}
    )


def model_deleted() -> FailedPrecondition:
    """Builds the answer for a model whose use its owner ended."""
    return FailedPrecondition("MODEL_DELETED", "The model was deleted; no other takes its place.")


def model_archived() -> FailedPrecondition:
    """Builds the answer for a model that its owner took out of use."""
    return FailedPrecondition("MODEL_ARCHIVED", "The model is archived; unarchive it first.")


def etag_stale() -> Aborted:
    """Builds the refusal of a change that is based on an older version."""
    return Aborted("ETAG_STALE", "The etag is not the present one; read the resource again.")


def distributor_unknown() -> PermissionDenied:
    """Builds the refusal of a distributor that is not on the operator's list."""
    return PermissionDenied(
        "DISTRIBUTOR_UNKNOWN", "There is no such distributor; another party needs a recorded consent."
    )


def transfer_ended() -> PermissionDenied:
    """Builds the refusal of a transfer that was revoked, is over, or whose model was deleted."""
    return PermissionDenied("TRANSFER_ENDED", "The transfer was revoked or is over.")


def transfer_key_unknown() -> Unauthenticated:
    """Builds the refusal of a secret that is no transfer's key."""
    return Unauthenticated("CREDENTIAL_INVALID", "The secret is not the key of a transfer.")
