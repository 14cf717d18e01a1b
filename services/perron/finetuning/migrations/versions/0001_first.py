"""The first tables of finetuning: jobs and events, models and artifacts, files and their blobs."""

import sqlalchemy as sa
from alembic import op

from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade() -> None:
    create_chassis_tables()
    _create_jobs()
    _create_models()
    _create_files()


def _create_jobs() -> None:
    op.create_table(
        "allowances",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("stored_bytes_max", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("base_model", sa.Text, nullable=False),
        sa.Column("base_model_revision", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("hyperparameters", sa.Text, nullable=False),
        sa.Column("suffix", sa.Text, nullable=False),
        sa.Column("auto_start", sa.Boolean, nullable=False),
        sa.Column("estimate", sa.Text, nullable=False),
        sa.Column("warnings", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("steps", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("failure_reason", sa.Text, nullable=False),
        sa.Column("failure_text", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("agent_name", sa.Text, nullable=False),
        sa.Column("agent_state", sa.Text, nullable=False),
        sa.Column("agent_reason", sa.Text, nullable=False),
        sa.Column("agent_text", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("lease_id", sa.Text, nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("lease_expire_time", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger, nullable=False),
    )
    op.create_index("jobs_by_workspace", "jobs", ["workspace_id", "id"])
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_index("jobs_by_lease", "jobs", ["lease_id"])
    op.create_index(
        "jobs_open",
        "jobs",
        ["organization_id"],
        sqlite_where=sa.text("end_time = 0"),
        postgresql_where=sa.text("end_time = 0"),
    )
    op.create_index(
        "jobs_leased",
        "jobs",
        ["lease_expire_time"],
        sqlite_where=sa.text("lease_expire_time > 0"),
        postgresql_where=sa.text("lease_expire_time > 0"),
    )
    op.create_index(
        "jobs_promising",
        "jobs",
        ["id"],
        sqlite_where=sa.text("agent_state = 'PROMISED' AND state = 'SUCCEEDED'"),
        postgresql_where=sa.text("agent_state = 'PROMISED' AND state = 'SUCCEEDED'"),
    )
    op.create_table(
        "job_configurations",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("blob_id", sa.Text, nullable=False, unique=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "job_files",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("blob_id", sa.Text, nullable=False),
        sa.Column("validation", sa.Boolean, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
    )
    op.create_index("job_files_by_file", "job_files", ["file_id"])
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("once", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("job_events_once", "job_events", ["job_id", "once"], unique=True)
    op.create_table(
        "rates",
        sa.Column("base_model", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("tokens_per_second", sa.Float, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("checkpoint_id", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("base_model", sa.Text, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("erasure", sa.Text, nullable=False),
        sa.Column("erasure_time", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("models_by_workspace", "models", ["workspace_id", "id"])
    op.create_index("models_by_job", "models", ["job_id", "step"])
    op.create_index(
        "models_to_erase",
        "models",
        ["id"],
        sqlite_where=sa.text("erasure IN ('PENDING', 'DEFERRED')"),
        postgresql_where=sa.text("erasure IN ('PENDING', 'DEFERRED')"),
    )
    op.create_table(
        "artifacts",
        sa.Column("blob_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("artifacts_by_model", "artifacts", ["model_id"])
    op.create_index("artifacts_by_job", "artifacts", ["job_id"])
    op.create_table(
        "holdings",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.Column("release_time", sa.BigInteger, nullable=False),
    )
    op.create_index("holdings_by_model", "holdings", ["model_id"])
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("party", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("secret_digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.Column("revoke_time", sa.BigInteger, nullable=False),
        sa.Column("last_download_time", sa.BigInteger, nullable=False),
    )
    op.create_index("transfers_by_organization", "transfers", ["organization_id", "id"])
    op.create_index("transfers_by_model", "transfers", ["model_id", "id"])


def _create_files() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("runs", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("blobs_by_organization", "blobs", ["organization_id", "state"])
    op.create_index("blobs_by_state", "blobs", ["state", "id"])
    op.create_index("blobs_by_key", "blobs", ["key_id", "state"])
    op.create_index("blobs_by_owner", "blobs", ["owner_id"])
    op.create_table(
        "workspace_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "workspace_keys_one_open",
        "workspace_keys",
        ["workspace_id"],
        unique=True,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_index("workspace_keys_by_state", "workspace_keys", ["state", "id"])
    op.create_table(
        "files",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("blob_id", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("examples", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("turns", sa.BigInteger, nullable=False),
        sa.Column("system_turns", sa.BigInteger, nullable=False),
        sa.Column("user_turns", sa.BigInteger, nullable=False),
        sa.Column("assistant_turns", sa.BigInteger, nullable=False),
        sa.Column("tool_turns", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.Text, nullable=False),
        sa.Column("error_count", sa.BigInteger, nullable=False),
        sa.Column("line_digests", sa.LargeBinary, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("attest_time", sa.BigInteger, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("subscription_end_time", sa.BigInteger, nullable=False),
        sa.Column("job_bound_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("files_by_workspace", "files", ["workspace_id", "id"])
    op.create_index("files_by_organization", "files", ["organization_id"])
    op.create_index(
        "files_to_expire",
        "files",
        ["expire_time"],
        sqlite_where=sa.text("expire_time > 0"),
        postgresql_where=sa.text("expire_time > 0"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("blob_id", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("stream", sa.BigInteger, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("job_bound_time", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
    )
    op.create_index("uploads_by_organization", "uploads", ["organization_id"])
    op.create_index("uploads_to_expire", "uploads", ["expire_time"])
