"""Files and uploads between the wire and the domain."""

from perron.api.finetuning.v1 import file_pb2, file_service_pb2
from perron.finetuning.file_model import File, Upload, UploadCommand


def upload_command(request: file_service_pb2.CreateUploadRequest) -> UploadCommand:
    """Reads what is announced."""
    return UploadCommand(request.display_name, request.bytes, request.sha256)


def upload(found: Upload) -> file_pb2.Upload:
    """Writes an upload."""
    message = file_pb2.Upload(
        upload_id=found.upload_id,
        workspace_id=found.workspace_id,
        display_name=found.display_name,
        bytes=found.bytes,
        sha256=found.sha256,
        received_bytes=found.received_bytes,
        file_id=found.file_id,
    )
    message.create_time.FromMicroseconds(found.create_us)
    message.expire_time.FromMicroseconds(found.expire_us)
    return message


def file(found: File, *, with_errors: bool = True) -> file_pb2.File:
    """Writes a file; in lists without its line errors."""
    roles = found.statistics.roles
    message = file_pb2.File(
        file_id=found.file_id,
        organization_id=found.organization_id,
        workspace_id=found.workspace_id,
        display_name=found.display_name,
        state=file_pb2.File.State.Value(f"STATE_{found.state}"),
        bytes=found.bytes,
        sha256=found.sha256,
        statistics=file_pb2.FileStatistics(
            examples=found.statistics.examples,
            tokens=found.statistics.tokens,
            turns=found.statistics.turns,
            system_turns=roles["system"],
            user_turns=roles["user"],
            assistant_turns=roles["assistant"],
            tool_turns=roles["tool"],
        ),
        error_count=found.faults_total,
        attestation=file_pb2.Attestation(member_id=found.member_id),
        decision_id=found.retention.decision_id,
    )
    message.attestation.time.FromMicroseconds(found.attest_us)
    message.create_time.FromMicroseconds(found.create_us)
    if found.expire_us:
        message.expire_time.FromMicroseconds(found.expire_us)
    if with_errors:
        message.errors.extend(
            file_pb2.LineError(
                line=one.line, column=one.column, rule=file_pb2.LineError.Rule.Value(f"RULE_{one.rule}")
            )
            for one in found.faults
        )
    return message
