"""The part of AgentService that is about names: aliases, and names that are reserved."""

from typing import Any

import grpc

from perron.agents import aliases, convert, naming, reserved_names
from perron.agents.aliases import Target
from perron.agents.callers import person
from perron.agents.name_store import NameStore
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.agents.v1 import agent_service_pb2_grpc
from perron.chassis.database import Database
from perron.chassis.interceptors.access import current_call
from perron.chassis.paging import Pages

_Context = grpc.aio.ServicerContext[Any, Any]


class NameServicer(agent_service_pb2_grpc.AgentServiceServicer):
    """Serves what is about names."""

    def __init__(self, database: Database, pages: Pages) -> None:
        self._database = database
        self._pages = pages

    async def CreateAlias(self, request: pb.CreateAliasRequest, context: _Context) -> pb.CreateAliasResponse:
        """Makes an alias."""
        call, one = current_call(), person(current_call().caller)
        name = naming.alias(request.alias, is_attested=request.name_attested)
        target = Target(request.agent_id, request.version)
        made = await self._database.write(lambda tx: aliases.create(NameStore(tx), call, one, name, target))
        return pb.CreateAliasResponse(alias=convert.alias(made))

    async def MoveAlias(self, request: pb.MoveAliasRequest, context: _Context) -> pb.MoveAliasResponse:
        """Lets an alias stand for something else."""
        call, one = current_call(), person(current_call().caller)
        target = Target(request.agent_id, request.version)
        moved = await self._database.write(
            lambda tx: aliases.move(NameStore(tx), call, one, request.alias, target, request.etag)
        )
        return pb.MoveAliasResponse(alias=convert.alias(moved))

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: _Context) -> pb.DeleteAliasResponse:
        """Deletes an alias."""
        call, one = current_call(), person(current_call().caller)
        await self._database.write(
            lambda tx: aliases.delete(NameStore(tx), call, one, request.alias, request.etag)
        )
        return pb.DeleteAliasResponse()

    async def ListAliases(self, request: pb.ListAliasesRequest, context: _Context) -> pb.ListAliasesResponse:
        """Returns a page of aliases."""
        caller, one = current_call().caller, person(current_call().caller)
        size = self._pages.size(request.page_size)
        filter_text = f"aliases {request.agent_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: aliases.list_aliases(NameStore(tx), one, request.agent_id, after, size + 1)
        )
        response = pb.ListAliasesResponse(aliases=map(convert.alias, found[:size]))
        if len(found) > size:
            response.next_page_token = self._pages.token(
                [found[size - 1].alias], caller_scope=caller.key_id, filter_text=filter_text
            )
        return response

    async def ListReservedNames(
        self, request: pb.ListReservedNamesRequest, context: _Context
    ) -> pb.ListReservedNamesResponse:
        """Returns a page of reserved names."""
        scope, filter_text = current_call().caller.key_id, "reserved names"
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(request.page_token, caller_scope=scope, filter_text=filter_text)
        after = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: reserved_names.list_names(NameStore(tx), after, size + 1)
        )
        response = pb.ListReservedNamesResponse(names=[name for _, name in found[:size]])
        if len(found) > size:
            response.next_page_token = self._pages.token(
                [found[size - 1][0]], caller_scope=scope, filter_text=filter_text
            )
        return response

    async def SetReservedNames(
        self, request: pb.SetReservedNamesRequest, context: _Context
    ) -> pb.SetReservedNamesResponse:
        """Adds and removes reserved names."""
        call = current_call()
        size = await self._database.write(
            lambda tx: reserved_names.change(NameStore(tx), call, request.add, request.remove)
        )
        return pb.SetReservedNamesResponse(size=size)
