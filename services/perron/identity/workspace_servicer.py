"""WorkspaceService on the wire."""

from collections.abc import Sequence
from typing import Any

import grpc

from perron.api.identity.v1 import workspace_pb2 as pb
from perron.api.identity.v1 import workspace_pb2_grpc
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import current_call
from perron.chassis.interceptors.validation import check
from perron.chassis.paging import Pages
from perron.identity import organization_convert as convert
from perron.identity.members import Members
from perron.identity.model import Member
from perron.identity.store import Store
from perron.identity.workspaces import Workspaces

Context = grpc.aio.ServicerContext[Any, Any]


class WorkspaceServicer(workspace_pb2_grpc.WorkspaceServiceServicer):
    """Serves workspaces and their members."""

    def __init__(self, database: Database, workspaces: Workspaces, members: Members, pages: Pages) -> None:
        self._database = database
        self._workspaces = workspaces
        self._members = members
        self._pages = pages
        self._questions: Batcher[pb.GetMemberItem, Member] = Batcher(
            self._find_members, name="members", trace_parent=lambda item: item.trace_parent
        )

    async def CreateWorkspace(
        self, request: pb.CreateWorkspaceRequest, context: Context
    ) -> pb.CreateWorkspaceResponse:
        """Creates a workspace."""
        call = current_call()
        made = await self._database.write(
            lambda tx: self._workspaces.create(Store(tx), call, request.display_name)
        )
        return pb.CreateWorkspaceResponse(workspace=convert.workspace(made))

    async def GetWorkspace(
        self, request: pb.GetWorkspaceRequest, context: Context
    ) -> pb.GetWorkspaceResponse:
        """Returns a workspace."""
        caller = current_call().caller
        found = await self._database.read(
            lambda tx: self._workspaces.get(Store(tx), caller, request.workspace_id)
        )
        return pb.GetWorkspaceResponse(workspace=convert.workspace(found))

    async def ListWorkspaces(
        self, request: pb.ListWorkspacesRequest, context: Context
    ) -> pb.ListWorkspacesResponse:
        """Returns a page of workspaces."""
        caller = current_call().caller
        size = self._pages.size(request.page_size)
        filter_text = f"workspaces {request.organization_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: self._workspaces.list(Store(tx), caller, request.organization_id, after, size + 1)
        )
        token = ""
        if len(found) > size:
            token = self._pages.token(
                [found[size - 1].workspace_id], caller_scope=caller.key_id, filter_text=filter_text
            )
        return pb.ListWorkspacesResponse(
            workspaces=[convert.workspace(each) for each in found[:size]], next_page_token=token
        )

    async def DeleteWorkspace(
        self, request: pb.DeleteWorkspaceRequest, context: Context
    ) -> pb.DeleteWorkspaceResponse:
        """Deletes a workspace for good."""
        call = current_call()
        await self._database.write(lambda tx: self._workspaces.delete(Store(tx), call, request.workspace_id))
        return pb.DeleteWorkspaceResponse()

    async def AddMember(self, request: pb.AddMemberRequest, context: Context) -> pb.AddMemberResponse:
        """Adds a member to a workspace."""
        command, call = convert.add_member_command(request), current_call()
        added = await self._database.write(lambda tx: self._members.add(Store(tx), call, command))
        return pb.AddMemberResponse(member=convert.member(added))

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        """Returns a page of members."""
        caller = current_call().caller
        size = self._pages.size(request.page_size)
        filter_text = f"members {request.organization_id} {request.workspace_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: self._members.list(
                Store(tx), caller, request.workspace_id, request.organization_id, after, size + 1
            )
        )
        token = ""
        if len(found) > size:
            token = self._pages.token(
                [found[size - 1].member_id], caller_scope=caller.key_id, filter_text=filter_text
            )
        return pb.ListMembersResponse(
            members=[convert.member(each) for each in found[:size]], next_page_token=token
        )

    async def UpdateMember(
        self, request: pb.UpdateMemberRequest, context: Context
    ) -> pb.UpdateMemberResponse:
        """Changes the fields of a member that the mask names."""
        command, call = convert.update_member_command(request), current_call()
        changed = await self._database.write(lambda tx: self._members.update(Store(tx), call, command))
        return pb.UpdateMemberResponse(member=convert.member(changed))

    async def RemoveMember(
        self, request: pb.RemoveMemberRequest, context: Context
    ) -> pb.RemoveMemberResponse:
        """Removes a member from a workspace or the organization."""
        call = current_call()
        await self._database.write(
            lambda tx: self._members.remove(Store(tx), call, request.member_id, request.workspace_id)
        )
        return pb.RemoveMemberResponse()

    async def BatchGetMembers(
        self, request: pb.BatchGetMembersRequest, context: Context
    ) -> pb.BatchGetMembersResponse:
        """Says of many members whether and as what they belong to a workspace."""
        faults = [check(item) for item in request.items]
        asked = [item for item, fault in zip(request.items, faults, strict=True) if fault is None]
        answers = iter(await self._questions.submit_many(asked))
        return pb.BatchGetMembersResponse(
            results=[convert.member_result(next(answers) if fault is None else fault) for fault in faults]
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._questions.aclose()

    async def _find_members(self, items: Sequence[pb.GetMemberItem]) -> Sequence[Member | PerronError]:
        questions = [(item.organization_id, item.workspace_id, item.member_id) for item in items]
        return await self._database.read(lambda tx: self._members.find(Store(tx), questions))
