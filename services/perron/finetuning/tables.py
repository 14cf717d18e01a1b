"""The tables of finetuning.

A checkpoint is a row of `models` that names its step: it is a fine-tuned model too. Bytes lie sealed in
storage; a row of `blobs` holds the only key to each. Instants are microseconds since 1970, UTC; 0 is never.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from perron.chassis import tables

metadata: Final = MetaData()
chassis_tables: Final = tables.define(metadata)

# What an organization may use. The row is what concurrent callers queue up at; it is counted anew each time.

allowances: Final = Table(
    "allowances",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("stored_bytes_max", BigInteger, nullable=False),
)

# Jobs.

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("base_model_revision", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("hyperparameters", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("auto_start", Boolean, nullable=False),
    Column("estimate", Text, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("failure_reason", Text, nullable=False),
    Column("failure_text", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("agent_name", Text, nullable=False),
    Column("agent_state", Text, nullable=False),
    Column("agent_reason", Text, nullable=False),
    Column("agent_text", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease_id", Text, nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("lease_expire_time", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger, nullable=False),
    Index("jobs_by_workspace", "workspace_id", "id"),
    Index("jobs_by_state", "state", "id"),
    Index("jobs_by_lease", "lease_id"),
    Index(
        "jobs_open",
        "organization_id",
        sqlite_where=text("end_time = 0"),
        postgresql_where=text("end_time = 0"),
    ),
    Index(
        "jobs_leased",
        "lease_expire_time",
        sqlite_where=text("lease_expire_time > 0"),
        postgresql_where=text("lease_expire_time > 0"),
    ),
    Index(
        "jobs_promising",
        "id",
        sqlite_where=text("agent_state = 'PROMISED' AND state = 'SUCCEEDED'"),
        postgresql_where=text("agent_state = 'PROMISED' AND state = 'SUCCEEDED'"),
    ),
)

job_configurations: Final = Table(
    "job_configurations",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("blob_id", Text, nullable=False, unique=True),
    Column("sealed", LargeBinary, nullable=False),
)
"""What agents of jobs will be told, sealed; the row of the blob holds the only key."""

job_files: Final = Table(
    "job_files",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("file_id", Text, nullable=False),
    Column("blob_id", Text, nullable=False),
    Column("validation", Boolean, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Index("job_files_by_file", "file_id"),
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("once", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("job_events_once", "job_id", "once", unique=True),
)

rates: Final = Table(
    "rates",
    metadata,
    Column("base_model", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("tokens_per_second", Float, nullable=False),
    Column("update_time", BigInteger, nullable=False),
)

# Models.

models: Final = Table(
    "models",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("checkpoint_id", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("erasure", Text, nullable=False),
    Column("erasure_time", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("models_by_workspace", "workspace_id", "id"),
    Index("models_by_job", "job_id", "step"),
    Index(
        "models_to_erase",
        "id",
        sqlite_where=text("erasure IN ('PENDING', 'DEFERRED')"),
        postgresql_where=text("erasure IN ('PENDING', 'DEFERRED')"),
    ),
)

artifacts: Final = Table(
    "artifacts",
    metadata,
    Column("blob_id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("artifacts_by_model", "model_id"),
    Index("artifacts_by_job", "job_id"),
)

holdings: Final = Table(
    "holdings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("release_time", BigInteger, nullable=False),
    Index("holdings_by_model", "model_id"),
)

transfers: Final = Table(
    "transfers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("gate", Text, nullable=False),
    Column("party", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False, unique=True),
    Column("create_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("revoke_time", BigInteger, nullable=False),
    Column("last_download_time", BigInteger, nullable=False),
    Index("transfers_by_organization", "organization_id", "id"),
    Index("transfers_by_model", "model_id", "id"),
)

# Files, uploads, and the sealed bytes of everything.

blobs: Final = Table(
    "blobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("runs", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("blobs_by_organization", "organization_id", "state"),
    Index("blobs_by_state", "state", "id"),
    Index("blobs_by_key", "key_id", "state"),
    Index("blobs_by_owner", "owner_id"),
)
"""`runs` says which writer wrote which parts; `wrapped_key` is empty from the promise to erase on."""

workspace_keys: Final = Table(
    "workspace_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index(
        "workspace_keys_one_open",
        "workspace_id",
        unique=True,
        sqlite_where=text("state = 'OPEN'"),
        postgresql_where=text("state = 'OPEN'"),
    ),
    Index("workspace_keys_by_state", "state", "id"),
)
"""OPEN wraps new data keys; RETIRING loses its last ones to the next; DROPPING leaves the vault; DROPPED
stays, as the vault's drop list; LOST is missing in the vault.
"""

files: Final = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("blob_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("examples", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("turns", BigInteger, nullable=False),
    Column("system_turns", BigInteger, nullable=False),
    Column("user_turns", BigInteger, nullable=False),
    Column("assistant_turns", BigInteger, nullable=False),
    Column("tool_turns", BigInteger, nullable=False),
    Column("errors", Text, nullable=False),
    Column("error_count", BigInteger, nullable=False),
    Column("line_digests", LargeBinary, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("attest_time", BigInteger, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("subscription_end_time", BigInteger, nullable=False),
    Column("job_bound_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("files_by_workspace", "workspace_id", "id"),
    Index("files_by_organization", "organization_id"),
    Index(
        "files_to_expire",
        "expire_time",
        sqlite_where=text("expire_time > 0"),
        postgresql_where=text("expire_time > 0"),
    ),
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("blob_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("file_id", Text, nullable=False),
    Column("stream", BigInteger, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("job_bound_time", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Index("uploads_by_organization", "organization_id"),
    Index("uploads_to_expire", "expire_time"),
)
