"""Identity, as governance needs it: how organizations stand now, asked in the same call, never remembered."""

import itertools
from collections.abc import Collection
from typing import Final

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import organization_pb2, organization_pb2_grpc
from perron.chassis import status
from perron.chassis.channels import Peer
from perron.chassis.errors import NotFound
from perron.governance.errors import missing
from perron.governance.model import Standing, TermsClass

_ITEMS_MAX: Final = 128
_CLASSES: Final = {
    roles_pb2.TERMS_CLASS_FREE: TermsClass.FREE,
    roles_pb2.TERMS_CLASS_PAID: TermsClass.PAID,
}
_UNKNOWN: Final = Standing("", False, False, "", TermsClass.UNKNOWN, "", ())


class Standings:
    """Asks identity."""

    def __init__(self, identity: Peer) -> None:
        self._identity = identity
        self._stub = organization_pb2_grpc.OrganizationServiceStub(identity.channel)

    async def of(self, workspace_ids: Collection[str]) -> dict[str, Standing]:
        """Returns the standing of each workspace's organization. Raises Unavailable (PEER_UNAVAILABLE)."""
        found: dict[str, Standing] = {}
        waiting = iter(sorted(set(workspace_ids)))
        while chunk := tuple(itertools.islice(waiting, _ITEMS_MAX)):
            response = await self._identity.call(
                self._stub.BatchGetStanding,
                organization_pb2.BatchGetStandingRequest(
                    items=[organization_pb2.GetStandingItem(workspace_id=one) for one in chunk]
                ),
            )
            found |= zip(chunk, map(_standing, response.results), strict=True)
        return found

    async def require(self, organization_id: str, workspace_id: str) -> Standing:
        """Returns the standing of a workspace; raises NotFound where it is not one of the organization's."""
        standing = (await self.of([workspace_id]))[workspace_id]
        if not standing.exists or standing.organization_id != organization_id:
            raise missing("workspace")
        return standing


def _standing(result: organization_pb2.GetStandingResult) -> Standing:
    if result.HasField("error"):
        error = status.from_status(result.error)
        if isinstance(error, NotFound):
            return _UNKNOWN
        raise error
    answer = result.response
    return Standing(
        organization_id=answer.organization_id,
        exists=True,
        active=answer.state == organization_pb2.ORGANIZATION_STATE_ACTIVE,
        plan=answer.plan,
        terms_class=_CLASSES.get(answer.terms_class, TermsClass.UNKNOWN),
        subscription_id=answer.subscription_id,
        documents=tuple(sorted((one.name, one.version) for one in answer.accepted_documents)),
    )
