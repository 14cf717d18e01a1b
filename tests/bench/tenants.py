"""The population of every load: 1,000 keys in 100 workspaces of 20 organizations, made through the API."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    workspace_pb2,
    workspace_pb2_grpc,
)
from perron.cli.suite import Suite

ORGANIZATIONS, WORKSPACES_EACH, KEYS_EACH = 20, 5, 10
KEYS = ORGANIZATIONS * WORKSPACES_EACH * KEYS_EACH

EVERYBODY, ONE, ANOTHER = "everybody.json", "one.json", "another.json"
ONE_WORKSPACE, PLACES = "one_workspace.json", "places.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace; its organization's admin owns every key and may do everything with `admin_secret`."""

    organization_id: str
    workspace_id: str
    member_id: str
    admin_secret: str


def populate(suite: Suite) -> None:
    """Makes the tenants and writes beside the stores where they are and their keys.

    All of them, those of two organizations, and those of one workspace; in the order of the workspaces.
    """
    made = asyncio.run(_populate(suite.endpoints["identity"], suite.operator_key))
    by_organization = [secrets for _, secrets in made]
    everybody = [secret for secrets in by_organization for secret in secrets]
    places = [asdict(place) for places, _ in made for place in places]
    for name, written in (
        (EVERYBODY, everybody),
        (ONE, by_organization[0]),
        (ANOTHER, by_organization[1]),
        (ONE_WORKSPACE, everybody[:KEYS_EACH]),
        (PLACES, places),
    ):
        (Path(suite.folder) / name).write_text(json.dumps(written))


async def _populate(target: str, operator_key: str) -> list[tuple[list[Place], list[str]]]:
    async with grpc.aio.insecure_channel(target) as channel:
        organizations = organization_pb2_grpc.OrganizationServiceStub(channel)
        accepted = await _acceptances(organizations)
        return await asyncio.gather(
            *(_organization(channel, operator_key, accepted, number) for number in range(ORGANIZATIONS))
        )


async def _acceptances(stub: Any) -> list[organization_pb2.DocumentAcceptance]:
    listed = await stub.ListDocuments(organization_pb2.ListDocumentsRequest())
    names = {document.name for document in listed.documents}
    found = [
        (await stub.GetDocument(organization_pb2.GetDocumentRequest(name=name))).document
        for name in sorted(names)
    ]
    return [
        organization_pb2.DocumentAcceptance(
            document=document.name, version=document.version, text_digest=document.text_digest
        )
        for document in found
    ]


async def _organization(
    channel: grpc.aio.Channel,
    operator_key: str,
    accepted: list[organization_pb2.DocumentAcceptance],
    number: int,
) -> tuple[list[Place], list[str]]:
    created = await organization_pb2_grpc.OrganizationServiceStub(channel).CreateOrganization(
        organization_pb2.CreateOrganizationRequest(
            display_name=f"Bench {number}",
            admin_email=f"admin{number}@bench.example",
            acceptances=accepted,
            permitted_uses=[organization_pb2.PERMITTED_USE_INTERNAL_BUSINESS],
        ),
        metadata=_bearer(operator_key),
    )
    workspaces = [created.workspace.workspace_id]
    for place in range(1, WORKSPACES_EACH):
        made = await workspace_pb2_grpc.WorkspaceServiceStub(channel).CreateWorkspace(
            workspace_pb2.CreateWorkspaceRequest(display_name=f"Workspace {place}"),
            metadata=_bearer(created.secret),
        )
        workspaces.append(made.workspace.workspace_id)
    keys = api_key_pb2_grpc.ApiKeyServiceStub(channel)
    secrets = []
    for workspace in workspaces:
        for place in range(KEYS_EACH):
            key = await keys.CreateApiKey(
                api_key_pb2.CreateApiKeyRequest(
                    workspace_id=workspace, display_name=f"Key {place}", scopes=[roles_pb2.SCOPE_INFERENCE]
                ),
                metadata=_bearer(created.secret),
            )
            secrets.append(key.secret)
    places = [
        Place(created.organization.organization_id, workspace, created.admin.member_id, created.secret)
        for workspace in workspaces
    ]
    return places, secrets


def _bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)
