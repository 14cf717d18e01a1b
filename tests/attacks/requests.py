"""A valid request for every RPC, made from its descriptor: an RPC of tomorrow is attacked unasked.

A field is filled by its name from the world's ids, else by its type within its declared bounds. What cannot
be guessed stands in `_BY_RPC`.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.attacks.people import Tenant
from tests.attacks.things import ATTACKED_MODEL, MODEL
from tests.attacks.tuning import BASE_MODEL, DISTRIBUTOR
from tests.attacks.world import World
from tests.rpcs import Rpc, is_map, is_repeated, messages_of, rules

Field = FieldDescriptor
SKIP: Final = object()
"""Leave the field as it is."""

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR


def _new_name() -> str:
    """A name that nobody bears yet, also one that an alias may be."""
    return f"a{uuid.uuid4().hex[:12]}"


def _tuned() -> str:
    """The name of a fine-tuned model."""
    return "ft:attacked-1"


_WANTED_AGENT: Final = {"display_name": _new_name, "model": _tuned}
_OF_A_LEASE: Final = {"blob_ids": "ids:artifact_id", "kind": 1, "name": "weights.safetensors"}
_OF_AN_ENDED_LEASE: Final = {"lease_id": "spare:lease_id", "blob_ids": "spare:artifact_id"}


def _new_job() -> str:
    """The id of a job that nobody has heard of yet."""
    return f"job_{uuid.uuid4().int % 10**26:026}"


_BY_RPC: Final[Mapping[str, Mapping[str, object]]] = {
    # A destructive call takes what may be used up.
    "DeleteWorkspace": {"workspace_id": "spare:workspace_id"},
    "RemoveMember": {"member_id": "spare:member_id", "workspace_id": SKIP},
    "RevokeApiKey": {"key_id": "spare:key_id"},
    "UpdateApiKey": {"key_id": "spare:key_id", "update_mask": ["display_name"], "expire_time": SKIP},
    "UpdateMember": {"member_id": "spare:member_id", "update_mask": ["display_name"]},
    "AddMember": {"workspace_id": "spare:other_workspace_id", "member_id": "spare:member_id"},
    "CreateApiKey": {"owner_member_id": SKIP, "allowed_models": SKIP, "allowed_networks": SKIP},
    "ReviewZeroRetention": {"zero_retention_request_id": "spare:zero_retention_request_id"},
    "RequestZeroRetention": {"workspace_id": "spare:other_workspace_id"},
    "SetTrainingPreference": {"workspace_id": "spare:workspace_id"},
    "DeleteAgent": {"agent_id": "spare:agent_id"},
    "DisableAgent": {"agent_id": "spare:agent_id"},
    "PublishAgent": {"agent_id": "spare:agent_id"},
    "UnpublishAgent": {"agent_id": "spare:agent_id"},
    "UpdateAgent": {"agent_id": "spare:agent_id", "display_name": _new_name, "owner_member_id": SKIP},
    "CreateAgent": {"display_name": _new_name},
    "CreateAgentForJob": _WANTED_AGENT | {"job_id": _new_job},
    "ValidateAgentForJob": _WANTED_AGENT,
    "GetAgentVersion": {"version": 1},
    "RestoreAgentVersion": {"agent_id": "spare:agent_id", "version": 1},
    "ExportAgent": {"version": 1},
    "SetSharing": {"agent_id": "spare:agent_id", "mode": 2, "member_ids": "spare:member_id"},
    "ImportAgent": {"display_name": _new_name},
    "ListAgents": {"owner_member_id": SKIP, "state": SKIP},
    "CreateAlias": {"alias": _new_name, "version": 1},
    "MoveAlias": {"alias": "spare:alias", "version": 1},
    "DeleteAlias": {"alias": "spare:alias"},
    "SetReservedNames": {"add": _new_name, "remove": _new_name},
    "WithdrawAcknowledgement": {"third_party": "spare:third_party"},
    # The neighbour of what is attacked must not be narrowed by it.
    "SetCap": {"model": ATTACKED_MODEL, "key_id": SKIP},
    "DeleteCap": {"model": "spare:limited_model", "key_id": SKIP},
    "SetOverride": {"model": ATTACKED_MODEL, "key_id": SKIP},
    "DeleteOverride": {"model": "spare:limited_model", "key_id": SKIP},
    "ListLimits": {"key_id": SKIP},
    "GetUsage": {"key_id": SKIP},
    "ChangePlan": {"plan": "scale-2"},
    "Put": {"agent_id": SKIP, "agent_version": SKIP},
    "BatchPut": {"agent_id": SKIP, "agent_version": SKIP},
    "GetTerms": {"document": "additional-terms", "version": "2025-02-06"},
    "GetDocument": {"version": SKIP},
    "CreateOrganization": {"acceptances": "world:documents"},
    "AcceptTerms": {"acceptances": "world:documents"},
    "DeleteFile": {"file_id": "spare:file_id"},
    "CreateJob": {
        "base_model": BASE_MODEL,
        "training_file_ids": "ids:file_id",
        "validation_file_ids": "ids:validation_file_id",
        "dry_run": False,
        "auto_start": False,  # it would be lent, and then its cancellation waits for a worker
        "display_name": _new_name,
        "model": SKIP,
    },
    "StartJob": {"job_id": "spare:waiting_job_id"},
    "CancelJob": {"job_id": "spare:waiting_job_id"},
    "UpdateModel": {"model_id": "spare:model_id"},
    "ArchiveModel": {"model_id": "spare:model_id"},
    "UnarchiveModel": {"model_id": "spare:model_id"},
    "DeleteModel": {"model_id": "spare:model_id"},
    "Resolve": {"model": "ids:model_name"},
    "BatchResolve": {"model": "ids:model_name"},
    "DownloadModel": {"holding_id": SKIP, "artifact": SKIP},
    "RenewHolding": {"holding_id": "spare:holding_id", "ttl": 2 * _DAY},
    "ReleaseHolding": {"holding_id": "spare:holding_id"},
    "AuthorizeTransfer": {"distributor": DISTRIBUTOR},
    "RevokeTransfer": {"transfer_id": "spare:transfer_id"},
    "DownloadTransfer": {"secret": "ids:transfer_secret", "artifact": SKIP},
    "WriteArtifact": _OF_A_LEASE,
    "Report": _OF_A_LEASE,
    "CompleteJob": _OF_AN_ENDED_LEASE,
    "FailJob": _OF_AN_ENDED_LEASE,
}


def alternatives(rpc: Rpc) -> range:
    """How many requests it takes until every field of every oneof was set."""
    oneofs = [oneof for message in messages_of(rpc.input) for oneof in message.oneofs]
    return range(max((len(oneof.fields) for oneof in oneofs), default=1))


class Requests:
    """Makes requests about a tenant of the world, or about nobody where there is no world yet."""

    def __init__(self, world: World | None = None) -> None:
        self._world = world
        self._alternative = 0

    def valid(self, rpc: Rpc, tenant: Tenant | None = None, *, alternative: int = 0, **changes: Any) -> Any:
        """A request that breaks no rule; `changes` are set on it, for a batch on its item.

        `alternative` says which field of each oneof is set.
        """
        about = tenant or (self._world.tenant if self._world else None)
        self._alternative = alternative
        request = self._message(rpc.input, rpc, about)
        target = request.items[0] if rpc.batch_item is not None else request
        for name, value in changes.items():
            setattr(target, name, value)
        return request

    def _message(self, descriptor: Descriptor, rpc: Rpc, tenant: Tenant | None) -> Any:
        message = GetMessageClass(descriptor)()
        chosen = {
            oneof.fields[min(self._alternative, len(oneof.fields) - 1)].name for oneof in descriptor.oneofs
        }
        for field in descriptor.fields:
            if field.containing_oneof is None or field.name in chosen:
                self._fill(message, field, rpc, tenant)
        return message

    def _fill(self, message: Message, field: Field, rpc: Rpc, tenant: Tenant | None) -> None:
        value = self._named(field, rpc, tenant)
        if value is SKIP:
            return
        if field.message_type is None:
            value = _plain(field) if value is None else value
            if is_repeated(field):
                getattr(message, field.name).extend(value if isinstance(value, list) else [value])
            else:
                setattr(message, field.name, value)
            return
        target = getattr(message, field.name)
        if is_map(field):
            target["text"] = "text"
            return
        match field.message_type.full_name:
            case "google.protobuf.Timestamp":
                target.seconds = int(time.time()) + _HOUR
            case "google.protobuf.Duration":
                target.seconds = value or max(30, rules(field).duration.gte.seconds)
            case "google.protobuf.FieldMask":
                target.paths.extend(value)
            case _ if is_repeated(field):
                target.extend(
                    value if isinstance(value, list) else [self._message(field.message_type, rpc, tenant)]
                )
            case _:
                target.SetInParent()
                target.MergeFrom(self._message(field.message_type, rpc, tenant))

    def _named(self, field: Field, rpc: Rpc, tenant: Tenant | None) -> Any:
        """The value for a field of that name; None where any will do."""
        special = _BY_RPC.get(rpc.name, {}).get(field.name)
        if isinstance(special, str) and ":" in special:
            place, _, name = special.partition(":")
            if place == "world":
                return list(getattr(self._world, name)) if self._world else None
            return getattr(tenant, place)[name] if tenant else _made_up(field)
        if special is not None:
            return special() if callable(special) else special
        if field.name in _CONSTANT:
            return _CONSTANT[field.name]()
        if tenant is None or self._world is None:
            return _made_up(field) if field.name.endswith(("_id", "_ids")) else None
        match field.name:
            case "passport" | "passports":
                return self._world.passport(tenant)
            case "credential":
                return tenant.admin.secret
            case "organization_id" | "workspace_id":
                return getattr(tenant, field.name)
            case "key_id" | "member_id":
                return getattr(tenant.admin, field.name)
            case name if name in tenant.ids:
                return tenant.ids[name]
            case name if name.endswith(("_id", "_ids")):
                return _made_up(field)
        return None


_CONSTANT: Final[Mapping[str, Callable[[], object]]] = {
    "request_id": lambda: str(uuid.uuid4()),
    "model": lambda: MODEL,
    "page_token": lambda: SKIP,
    "etag": lambda: SKIP,
    "trace_parent": lambda: SKIP,
    "generation": lambda: SKIP,
    "number": lambda: SKIP,
    "page_size": lambda: 10,
    "passport_index": lambda: 0,
    "peer_network": lambda: "192.0.2.1",
    "allowed_networks": lambda: "192.0.2.0/24",
    "admin_email": lambda: f"{uuid.uuid4().hex}@attack.example",
    "email": lambda: f"{uuid.uuid4().hex}@attack.example",
    "text_digest": lambda: "0" * 64,
    "sha256": lambda: "0" * 64,
    "document": lambda: "additional-terms",
    "version": lambda: "2025-02-06",
    "name": lambda: "additional-terms",
    "plan": lambda: "scale-2",
    "required_scopes": lambda: SKIP,
    "update_mask": lambda: ["display_name"],
    "tokens": lambda: 10,
    "format": lambda: "perron.agent/v1",
    "kind": lambda: 3,  # of an agent's answers: JSON that keeps to the schema
    "schema": lambda: '{"type": "object"}',
    "parameters_schema": lambda: '{"type": "object"}',
    "handoff_agent_ids": lambda: SKIP,
    "third_party": lambda: "web_search",
}

_PREFIXES: Final[Mapping[str, str]] = {
    "organization_id": "org",
    "workspace_id": "ws",
    "member_id": "mem",
    "owner_member_id": "mem",
    "key_id": "key",
    "decision_id": "dec",
    "record_id": "rec",
    "reservation_id": "res",
    "suspension_id": "sus",
    "agent_id": "agt",
    "agent": "agt",
    "job_id": "job",
    "model_id": "mdl",
    "zero_retention_request_id": "zdr",
    "file_id": "file",
    "training_file_id": "file",
    "validation_file_id": "file",
    "upload_id": "upl",
    "holding_id": "hld",
    "transfer_id": "trf",
    "lease_id": "lse",
    "blob_id": "blob",
}


_NAMES: Final[Mapping[str, str]] = {"third_party": "connector:nobody", "alias": "nobody"}


def made_up_id(name: str) -> str:
    """An id of the right form that nobody was ever given; for a field without a known prefix, some text."""
    return f"{_PREFIXES[name]}_{'0' * 25}1" if name in _PREFIXES else _NAMES.get(name, "0123456789")


def _made_up(field: Field) -> Any:
    return made_up_id(field.name.removesuffix("s") if is_repeated(field) else field.name)


def _plain(field: Field) -> Any:
    """A value of the field's type, within its bounds as far as they are simple."""
    rule = rules(field).repeated.items if is_repeated(field) else rules(field)
    match field.cpp_type:
        case Field.CPPTYPE_STRING:
            return b"text" if field.type == Field.TYPE_BYTES else "text"
        case Field.CPPTYPE_ENUM:
            return field.enum_type.values[min(1, len(field.enum_type.values) - 1)].number
        case Field.CPPTYPE_BOOL:
            return True
        case Field.CPPTYPE_INT32 | Field.CPPTYPE_INT64 | Field.CPPTYPE_UINT32 | Field.CPPTYPE_UINT64:
            kind = {Field.CPPTYPE_INT32: "int32", Field.CPPTYPE_INT64: "int64"}.get(field.cpp_type, "uint32")
            return max(1, int(getattr(rule, kind).gte))
        case _:
            return min(1.0, rule.double.lte) if rule.double.HasField("lte") else 1.0
