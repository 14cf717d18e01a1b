"""The yardstick: an empty grpc.aio unary call of 10 bytes, uvloop, no interceptors; prints its port."""

import asyncio

import grpc
import uvloop

SERVICE, METHOD = "perron.bench.Empty", "Call"
PAYLOAD = b"0123456789"


async def _serve() -> None:
    async def call(request: bytes, context: object) -> bytes:
        return request

    server = grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.max_concurrent_streams", 10_000),
        )
    )
    handler = grpc.unary_unary_rpc_method_handler(call)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
