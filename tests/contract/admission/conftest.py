from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from perron.api.agents.v1 import agent_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import model_service_pb2_grpc
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
)
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, limit_service_pb2_grpc
from perron.cli import minting
from perron.cli.suite import Suite
from perron.client import Perron
from tests.contract.admission.stand_ins import Agents, Models, StandIn


@dataclass(frozen=True)
class Tenant:
    """An organization on the free plan, and its admin's key."""

    organization_id: str
    workspace_id: str
    secret: str


class Platform:
    """The services as processes, seen by an operator, by customers and by gateways.

    In place of agents and finetuning there are stand-ins, so that a test can make true what they answer.
    """

    def __init__(self, suite: Suite, peers: dict[str, StandIn], agents: Agents, models: Models) -> None:
        self.suite = suite
        self.stand_ins = peers
        self.agents = agents
        self.models = models
        self.target = suite.endpoints["admission"]
        self._channels = {name: grpc.insecure_channel(target) for name, target in suite.endpoints.items()}
        self.identity_keys = api_key_pb2_grpc.ApiKeyServiceStub(self._channels["identity"])
        self._organizations = organization_pb2_grpc.OrganizationServiceStub(self._channels["identity"])
        self._limits = limit_service_pb2_grpc.LimitServiceStub(self._channels["quotas"])
        self._made = 0

    def channel(self, service: str) -> grpc.Channel:
        return self._channels[service]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def tenant(self) -> Tenant:
        self._made += 1
        listed = self._organizations.ListDocuments(organization_pb2.ListDocumentsRequest()).documents
        documents = [
            self._organizations.GetDocument(organization_pb2.GetDocumentRequest(name=name)).document
            for name in sorted({document.name for document in listed})
        ]
        created = self._organizations.CreateOrganization(
            organization_pb2.CreateOrganizationRequest(
                display_name=f"Tenant {self._made}",
                admin_email=f"ada{self._made}@acme.example",
                acceptances=[
                    organization_pb2.DocumentAcceptance(
                        document=document.name, version=document.version, text_digest=document.text_digest
                    )
                    for document in documents
                ],
                permitted_uses=[organization_pb2.PERMITTED_USE_INTERNAL_BUSINESS],
            ),
            metadata=bearer(self.suite.operator_key),
        )
        return Tenant(created.organization.organization_id, created.workspace.workspace_id, created.secret)

    def key(self, tenant: Tenant, **fields: Any) -> tuple[str, str]:
        """Mints a key with the tenant's admin key: its id and its secret."""
        request = api_key_pb2.CreateApiKeyRequest(
            **({"display_name": "Key", "scopes": [roles_pb2.SCOPE_INFERENCE]} | fields)
        )
        created = self.identity_keys.CreateApiKey(request, metadata=bearer(tenant.secret))
        return created.key.key_id, created.secret

    def cap(self, tenant: Tenant, requests: int) -> None:
        """Bounds the organization to so many requests an hour."""
        request = limit_service_pb2.SetCapRequest(
            organization_id=tenant.organization_id,
            metric=limit_pb2.METRIC_REQUESTS,
            window=limit_pb2.WINDOW_HOUR,
            amount=requests,
        )
        self._limits.SetCap(request, metadata=bearer(tenant.secret))

    def another_gateway(self) -> str:
        minted = minting.service_keys(
            self.suite.endpoints["identity"], self.suite.operator_key, ["gateway-2"]
        )
        return dict(minted)["gateway-2"]


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    agents, models = Agents(), Models()
    peers = {
        "agents": StandIn(
            lambda server: agent_service_pb2_grpc.add_AgentServiceServicer_to_server(agents, server)
        ),
        "finetuning": StandIn(
            lambda server: model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        ),
    }
    targets = {f"PERRON_ADMISSION_{name.upper()}_TARGET": peer.target for name, peer in peers.items()}
    with Suite(tmp_path_factory.mktemp("suite"), environment=targets) as suite:
        platform = Platform(suite, peers, agents, models)
        yield platform
        platform.close()
    for peer in peers.values():
        peer.stop()


@pytest.fixture
def tenant(platform: Platform) -> Tenant:
    return platform.tenant()


@pytest.fixture
def perron(platform: Platform) -> Iterator[Perron]:
    with Perron(platform.target, platform.suite.gateway_key) as perron:
        yield perron
