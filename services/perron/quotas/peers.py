"""What quotas asks other services: of identity, whose a workspace is that has not reserved yet."""

from typing import Any

from perron.api.identity.v1 import organization_pb2 as pb
from perron.api.identity.v1 import organization_pb2_grpc
from perron.chassis import status
from perron.chassis.channels import Peer
from perron.chassis.errors import NotFound


class IdentityWorkspaces:
    """Asks identity, every time."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._stub: Any = organization_pb2_grpc.OrganizationServiceStub(peer.channel)

    async def organization_of(self, workspace_id: str) -> str:
        """Returns the organization of a workspace, empty where it does not exist. Raises Unavailable."""
        request = pb.BatchGetStandingRequest(items=[pb.GetStandingItem(workspace_id=workspace_id)])
        response = await self._peer.call(self._stub.BatchGetStanding, request)
        (result,) = response.results
        if result.HasField("response"):
            organization_id: str = result.response.organization_id
            return organization_id
        error = status.from_status(result.error)
        if isinstance(error, NotFound):
            return ""
        raise error
