"""SharingService on the wire. Members named are looked up at identity in the call that names them."""

from typing import Any

import grpc

from perron.agents import callers, convert, sharing, third_parties
from perron.agents.peers import Members
from perron.agents.sharing import SetCommand
from perron.agents.sharing_store import SharingStore
from perron.api.agents.v1 import sharing_service_pb2 as pb
from perron.api.agents.v1 import sharing_service_pb2_grpc
from perron.chassis.database import Database
from perron.chassis.interceptors.access import current_call
from perron.chassis.paging import Pages

_Context = grpc.aio.ServicerContext[Any, Any]


class SharingServicer(sharing_service_pb2_grpc.SharingServiceServicer):
    """Serves SharingService."""

    def __init__(self, database: Database, members: Members, pages: Pages) -> None:
        self._database = database
        self._members = members
        self._pages = pages

    async def GetSharing(self, request: pb.GetSharingRequest, context: _Context) -> pb.GetSharingResponse:
        """Says with whom an agent is shared."""
        person = callers.person(current_call().caller)
        found = await self._database.read(lambda tx: sharing.find(SharingStore(tx), person, request.agent_id))
        return pb.GetSharingResponse(sharing=convert.sharing(found))

    async def SetSharing(self, request: pb.SetSharingRequest, context: _Context) -> pb.SetSharingResponse:
        """Shares an agent."""
        call = current_call()
        person = callers.person(call.caller)
        command = SetCommand(
            agent_id=request.agent_id,
            mode=convert.SHARING_MODES_BACK[request.mode],
            member_ids=tuple(request.member_ids),
            etag=request.etag,
        )
        first = await self._database.read(lambda tx: sharing.may_set(SharingStore(tx), call, person, command))
        if first and command.member_ids:
            await self._members.require(person.organization_id, person.workspace_id, command.member_ids)
        stored = await self._database.write(
            lambda tx: sharing.set_sharing(SharingStore(tx), call, person, command)
        )
        return pb.SetSharingResponse(sharing=convert.sharing(stored))

    async def AcknowledgeThirdParty(
        self, request: pb.AcknowledgeThirdPartyRequest, context: _Context
    ) -> pb.AcknowledgeThirdPartyResponse:
        """Records that the workspace knows of a third party."""
        call = current_call()
        made = await self._database.write(
            lambda tx: third_parties.acknowledge(SharingStore(tx), call, request.third_party)
        )
        return pb.AcknowledgeThirdPartyResponse(acknowledgement=convert.acknowledgement(made))

    async def WithdrawAcknowledgement(
        self, request: pb.WithdrawAcknowledgementRequest, context: _Context
    ) -> pb.WithdrawAcknowledgementResponse:
        """Takes an acknowledgement back."""
        call = current_call()
        await self._database.write(
            lambda tx: third_parties.withdraw(SharingStore(tx), call, request.third_party)
        )
        return pb.WithdrawAcknowledgementResponse()

    async def ListAcknowledgements(
        self, request: pb.ListAcknowledgementsRequest, context: _Context
    ) -> pb.ListAcknowledgementsResponse:
        """Lists the workspace's acknowledgements."""
        workspace_id = current_call().caller.workspace_id
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(
            request.page_token, caller_scope=workspace_id, filter_text="acknowledgements"
        )
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: SharingStore(tx).acknowledgements(workspace_id, after, size + 1)
        )
        response = pb.ListAcknowledgementsResponse(
            acknowledgements=map(convert.acknowledgement, found[:size])
        )
        if len(found) > size:
            response.next_page_token = self._pages.token(
                (found[size - 1].third_party,), caller_scope=workspace_id, filter_text="acknowledgements"
            )
        return response
