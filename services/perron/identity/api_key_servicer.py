"""ApiKeyService on the wire."""

from typing import Any

import grpc

from perron.api.identity.v1 import api_key_pb2 as pb
from perron.api.identity.v1 import api_key_pb2_grpc
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import current_call
from perron.chassis.interceptors.validation import check
from perron.chassis.paging import Pages
from perron.chassis.passports import Signer
from perron.identity import convert
from perron.identity.answers import Answers
from perron.identity.keys import Keys
from perron.identity.model import Verdict, VerifyItem
from perron.identity.store import Store

Context = grpc.aio.ServicerContext[Any, Any]


class ApiKeyServicer(api_key_pb2_grpc.ApiKeyServiceServicer):
    """Serves keys, and Verify."""

    def __init__(
        self, database: Database, keys: Keys, answers: Answers, signer: Signer, pages: Pages
    ) -> None:
        self._database = database
        self._keys = keys
        self._answers = answers
        self._signer = signer
        self._pages = pages

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        """Mints a key below the caller's."""
        command, call = convert.create_key_command(request), current_call()
        created, now_us = await self._database.write(
            lambda tx: (self._keys.create(Store(tx), call, command), tx.now_us())
        )
        return pb.CreateApiKeyResponse(**convert.minted(created, now_us))

    async def GetApiKey(self, request: pb.GetApiKeyRequest, context: Context) -> pb.GetApiKeyResponse:
        """Returns a key that the caller may see."""
        caller = current_call().caller
        key, now_us = await self._database.read(
            lambda tx: (self._keys.get(Store(tx), caller, request.key_id), tx.now_us())
        )
        return pb.GetApiKeyResponse(key=convert.api_key(key, now_us))

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        """Returns a page of the keys that the caller may see."""
        caller = current_call().caller
        size = self._pages.size(request.page_size)
        filter_text = f"keys {request.organization_id} {request.workspace_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        after = str(cursor[0]) if cursor else ""
        found, now_us = await self._database.read(
            lambda tx: (
                self._keys.list(
                    Store(tx), caller, request.organization_id, request.workspace_id, after, size + 1
                ),
                tx.now_us(),
            )
        )
        token = ""
        if len(found) > size:
            token = self._pages.token(
                [found[size - 1].key_id], caller_scope=caller.key_id, filter_text=filter_text
            )
        return pb.ListApiKeysResponse(
            keys=[convert.api_key(key, now_us) for key in found[:size]], next_page_token=token
        )

    async def UpdateApiKey(
        self, request: pb.UpdateApiKeyRequest, context: Context
    ) -> pb.UpdateApiKeyResponse:
        """Changes the fields of a key that the mask names."""
        command, call = convert.update_key_command(request), current_call()
        key, now_us = await self._database.write(
            lambda tx: (self._keys.update(Store(tx), call, command), tx.now_us())
        )
        return pb.UpdateApiKeyResponse(key=convert.api_key(key, now_us))

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: Context
    ) -> pb.RevokeApiKeyResponse:
        """Revokes a key and so every descendant."""
        call = current_call()
        key, now_us = await self._database.write(
            lambda tx: (self._keys.revoke(Store(tx), call, request.key_id), tx.now_us())
        )
        return pb.RevokeApiKeyResponse(key=convert.api_key(key, now_us))

    async def CreatePlatformKey(
        self, request: pb.CreatePlatformKeyRequest, context: Context
    ) -> pb.CreatePlatformKeyResponse:
        """Mints a key of the installation."""
        command, call = convert.create_platform_key_command(request), current_call()
        created, now_us = await self._database.write(
            lambda tx: (self._keys.create_platform(Store(tx), call, command), tx.now_us())
        )
        return pb.CreatePlatformKeyResponse(**convert.minted(created, now_us))

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        """Says who stands behind a credential."""
        item = convert.verify_item(request)
        verdict = await self._answers.one(item)
        return convert.verify_response(verdict, self._answers.passport(item, verdict))

    async def BatchVerify(self, request: pb.BatchVerifyRequest, context: Context) -> pb.BatchVerifyResponse:
        """Says who stands behind each of many credentials."""
        faults = [check(asked) for asked in request.items]
        items = [
            convert.verify_item(asked)
            for asked, fault in zip(request.items, faults, strict=True)
            if fault is None
        ]
        verdicts = await self._answers.many(items)
        results = iter(map(self._result, items, verdicts))
        return pb.BatchVerifyResponse(
            results=[next(results) if fault is None else convert.refused_result(fault) for fault in faults]
        )

    async def GetSigningKeys(
        self, request: pb.GetSigningKeysRequest, context: Context
    ) -> pb.GetSigningKeysResponse:
        """Returns the public keys of passports."""
        return pb.GetSigningKeysResponse(keys=convert.signing_keys(self._signer.keys))

    def _result(self, item: VerifyItem, verdict: Verdict | PerronError) -> pb.VerifyResult:
        if isinstance(verdict, PerronError):
            return convert.refused_result(verdict)
        if not item.want_passport:
            return convert.plain_result(verdict)
        return convert.verify_result(verdict, self._answers.passport(item, verdict))
