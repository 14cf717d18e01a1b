"""Messages to values and back: requests become commands, and what was found becomes messages."""

from collections.abc import Iterator
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from perron.agents.configurations import Configuration
from perron.agents.errors import field_invalid
from perron.agents.list_store import Listing, Order
from perron.agents.model import (
    Acknowledgement,
    Agent,
    AgentState,
    Alias,
    Attestation,
    ErasureState,
    Occasion,
    SourceKind,
    Version,
)
from perron.agents.sharing import Sharing
from perron.agents.visibility import Channel, Person, SharingMode, effective_channels, effective_mode
from perron.api.agents.v1 import agent_pb2, agent_service_pb2, configuration_pb2, sharing_service_pb2
from perron.api.common.v1 import roles_pb2

CHANNELS: Final = {one: roles_pb2.Channel.Value(f"CHANNEL_{one.name}") for one in Channel}
CHANNELS_BACK: Final = {number: one for one, number in CHANNELS.items()}
SHARING_MODES: Final = {one: agent_pb2.SharingMode.Value(f"SHARING_MODE_{one.name}") for one in SharingMode}
SHARING_MODES_BACK: Final = {number: one for one, number in SHARING_MODES.items()}
_STATES: Final = {
    AgentState.ACTIVE: agent_pb2.Agent.STATE_ACTIVE,
    AgentState.DISABLED: agent_pb2.Agent.STATE_DISABLED,
}
_STATES_BACK: Final = {number: one for one, number in _STATES.items()}
_SOURCES: Final = {one: agent_pb2.AgentSource.Kind.Value(f"KIND_{one.name}") for one in SourceKind}
_OCCASIONS: Final = {
    one: agent_pb2.NameAttestation.Occasion.Value(f"OCCASION_{one.name}") for one in Occasion
}
_ERASURES: Final = {
    ErasureState.ERASED: agent_service_pb2.DeleteAgentResponse.ERASURE_ERASED,
    ErasureState.PENDING: agent_service_pb2.DeleteAgentResponse.ERASURE_PENDING,
}
_ORDERS: Final = {
    agent_service_pb2.ListAgentsRequest.ORDER_CREATE_TIME_DESCENDING: Order.CREATE_TIME_DESCENDING,
    agent_service_pb2.ListAgentsRequest.ORDER_DISPLAY_NAME: Order.DISPLAY_NAME,
}
DOCUMENT_FORMAT: Final = "perron.agent/v1"
_UPDATABLE: Final = frozenset({"display_name", "configuration", "owner_member_id"})


def configuration(
    message: configuration_pb2.AgentConfiguration, place: str = "configuration", *, content: bytes = b""
) -> Configuration:
    """Reads a configuration for its checks; `content` are its very bytes where it was kept already."""
    return Configuration(
        place=place,
        model=message.model,
        texts=tuple((f"{place}.{path}", text) for path, text in _texts(message)),
        schemas=tuple((f"{place}.{path}", text) for path, text in _schemas(message)),
        called_names=tuple(_called_names(message)),
        third_parties=tuple(sorted(set(_third_parties(message)))),
        needs_schema=message.response_format.kind == configuration_pb2.ResponseFormat.KIND_JSON_SCHEMA,
        response_schema=message.response_format.schema,
        guardrails=tuple((one.name, str(one.stage)) for one in message.guardrails),
        handoffs=tuple(message.handoff_agent_ids),
        content=content or message.SerializeToString(),
    )


def listing(request: agent_service_pb2.ListAgentsRequest, workspace_id: str) -> Listing:
    """Reads which agents are wanted."""
    return Listing(
        workspace_id=workspace_id,
        state=_STATES_BACK.get(request.state),
        owner_member_id=request.owner_member_id or None,
        channel=CHANNELS_BACK.get(request.channel),
        order=_ORDERS.get(request.order, Order.CREATE_TIME),
    )


def update_fields(request: agent_service_pb2.UpdateAgentRequest) -> frozenset[str]:
    """Returns the fields to change. Raises InvalidArgument for a mask that names others, or nothing."""
    fields = frozenset(request.update_mask.paths)
    if not fields or fields - _UPDATABLE:
        raise field_invalid("update_mask", f"the mask names one or more of: {', '.join(sorted(_UPDATABLE))}")
    if "configuration" in fields and not request.HasField("configuration"):
        raise field_invalid("configuration", "the mask names it: send the whole configuration")
    if "owner_member_id" in fields and not request.owner_member_id:
        raise field_invalid("owner_member_id", "the mask names it: name the new owner")
    return fields


def agent(found: Agent, person: Person | None) -> agent_pb2.Agent:
    """Returns an agent as a message; what follows from a plan is stated to persons only."""
    message = agent_pb2.Agent(
        agent_id=found.agent_id,
        organization_id=found.organization_id,
        workspace_id=found.workspace_id,
        display_name=found.display_name,
        owner_member_id=found.owner_member_id,
        source=agent_pb2.AgentSource(
            kind=_SOURCES[found.source.kind],
            model_id=found.source.model_id,
            job_id=found.source.job_id,
        ),
        state=_STATES[found.state],
        disable_reason=found.disable_reason,
        latest_version=found.latest_version,
        sharing_mode=SHARING_MODES[found.sharing_mode],
        channels=sorted(CHANNELS[one] for one in found.channels),
        name_attestation=_attestation(found.attestation),
        create_time=time(found.create_us),
        update_time=time(found.update_us),
        etag=found.etag,
    )
    if person is not None:
        message.effective_sharing_mode = SHARING_MODES[
            effective_mode(found.sharing_mode, person.entitlements)
        ]
        effective = effective_channels(found.channels, person.entitlements)
        message.effective_channels.extend(sorted(CHANNELS[one] for one in effective))
    return message


def version(found: Version, content: bytes | None = None) -> agent_pb2.AgentVersion:
    """Returns a version as a message, with its configuration where its bytes are given."""
    message = agent_pb2.AgentVersion(
        agent_id=found.agent_id,
        version=found.version,
        author_member_id=found.author_member_id,
        create_time=time(found.create_us),
        restored_version=found.restored_version,
        decision_id=found.decision_id,
        third_parties=found.third_parties,
    )
    if content is not None:
        message.configuration.ParseFromString(content)
    return message


def document(found: Agent, content: bytes) -> agent_pb2.AgentDocument:
    """Returns an agent as a document to take elsewhere."""
    return agent_pb2.AgentDocument(
        format=DOCUMENT_FORMAT,
        display_name=found.display_name,
        configuration=configuration_pb2.AgentConfiguration.FromString(content),
    )


def alias(found: Alias) -> agent_pb2.Alias:
    """Returns an alias as a message."""
    return agent_pb2.Alias(
        alias=found.alias,
        agent_id=found.agent_id,
        version=found.version,
        name_attestation=_attestation(found.attestation),
        create_time=time(found.create_us),
        update_time=time(found.update_us),
        etag=found.etag,
    )


def erasure(found: ErasureState) -> agent_service_pb2.DeleteAgentResponse:
    """Returns what became of what was said to an agent."""
    return agent_service_pb2.DeleteAgentResponse(erasure=_ERASURES[found])


def sharing(found: Sharing) -> sharing_service_pb2.Sharing:
    """Returns with whom an agent is shared."""
    return sharing_service_pb2.Sharing(
        agent_id=found.agent.agent_id,
        mode=SHARING_MODES[found.agent.sharing_mode],
        effective_mode=SHARING_MODES[found.effective_mode],
        member_ids=found.member_ids,
        etag=found.agent.etag,
    )


def acknowledgement(found: Acknowledgement) -> sharing_service_pb2.Acknowledgement:
    """Returns an acknowledgement as a message."""
    return sharing_service_pb2.Acknowledgement(
        third_party=found.third_party, member_id=found.member_id, create_time=time(found.create_us)
    )


def time(instant_us: int) -> Timestamp:
    """Returns a timestamp of microseconds since 1970."""
    seconds, rest = divmod(instant_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def _attestation(found: Attestation) -> agent_pb2.NameAttestation:
    return agent_pb2.NameAttestation(
        member_id=found.member_id,
        attest_time=time(found.time_us),
        occasion=_OCCASIONS[found.occasion],
    )


def _texts(message: configuration_pb2.AgentConfiguration) -> Iterator[tuple[str, str]]:
    yield "description", message.description
    yield "instructions", message.instructions
    for place, example in enumerate(message.examples):
        yield f"examples[{place}].input", example.input
        yield f"examples[{place}].output", example.output
    for place, tool in enumerate(message.tools):
        yield f"tools[{place}].function.description", tool.function.description
    for value in message.metadata.values():
        yield "metadata", value


def _schemas(message: configuration_pb2.AgentConfiguration) -> Iterator[tuple[str, str]]:
    for place, tool in enumerate(message.tools):
        if tool.function.parameters_schema:
            yield f"tools[{place}].function.parameters_schema", tool.function.parameters_schema


def _called_names(message: configuration_pb2.AgentConfiguration) -> Iterator[str]:
    for tool in message.tools:
        if tool.HasField("function"):
            yield f"function {tool.function.name}"
        elif tool.HasField("connector"):
            yield f"connector {tool.connector.connector}"


def _third_parties(message: configuration_pb2.AgentConfiguration) -> Iterator[str]:
    for tool in message.tools:
        if tool.HasField("web_search"):
            yield "web_search"
        elif tool.HasField("connector"):
            yield f"connector:{tool.connector.connector}"
