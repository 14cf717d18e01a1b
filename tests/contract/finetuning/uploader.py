"""`python -m tests.contract.finetuning.uploader <target> <key> <upload> <offset> <file>` uploads a file.

It says "sent" after each piece, so that whoever started it may kill it in the middle.
"""

import asyncio
import sys
from pathlib import Path

import grpc

from perron.api.finetuning.v1 import file_service_pb2_grpc
from tests.contract.finetuning.world import messages


async def main(target: str, key: str, upload_id: str, offset: str, path: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        call = files.UploadFile(metadata=(("authorization", f"Bearer {key}"),))
        content = await asyncio.to_thread(Path(path).read_bytes)
        async for message in messages(upload_id, content, int(offset)):
            await call.write(message)
            print("sent", flush=True)
        await call.done_writing()
        await call


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
