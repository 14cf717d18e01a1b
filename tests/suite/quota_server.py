"""`python -m tests.suite.quota_server <database url> <folder> [racy]` serves quotas with a stand-in for
identity.

It prints its port and serves until it is ended. "racy" is the mistake that the atomicity test exists for:
each call looks at the counters in one transaction and charges them in another.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from perron.api.quotas.v1 import quota_service_pb2 as pb
from perron.chassis.interceptors.access import current_call
from perron.quotas import convert
from perron.quotas.counters import Counters
from perron.quotas.model import Admitted, ReserveCommand
from perron.quotas.quota_servicer import QuotaServicer
from perron.quotas.reservations import _named_by
from perron.quotas.store import CountersKey, Store
from tests.contract.quotas.stand_in import Keys, application

TIERS = "tiers: [{name: free, limits: [{scope: key, metric: requests, window: hour, amount: 100}]}]"


async def check_then_act(servicer: QuotaServicer, command: ReserveCommand) -> Admitted:
    seen = await servicer._database.read(lambda tx: Store(tx).counters(list(_named_by([command]))))

    class Unlocked(Store):
        def lock_counters(self, named: Mapping[str, CountersKey]) -> dict[str, Counters]:
            return {key.id: seen.get(key.id) or Counters(*key) for key in named.values()}

    outcomes = await servicer._database.write(
        lambda tx: servicer._reservations.reserve(Unlocked(tx), [command])
    )
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    return outcomes[0]


async def racy_reserve(
    servicer: QuotaServicer, request: pb.ReserveRequest, _context: object
) -> pb.ReserveResponse:
    caller = current_call().caller
    assert caller.passport is not None
    command = convert.reserve_command(request, caller.passport, caller.key_id, servicer._new_raw_id)
    response = pb.ReserveResponse()
    convert.write_admitted(await check_then_act(servicer, command), response)
    return response


async def main(url: str, folder: str, *variant: str) -> None:
    if variant == ("racy",):
        QuotaServicer.Reserve = racy_reserve  # type: ignore[method-assign, assignment]
    app = application(url, Path(folder), TIERS, clock=None, keys=Keys())
    await app.start()
    print(app.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
