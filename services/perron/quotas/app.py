"""Quotas, composed."""

import time
from datetime import timedelta
from functools import partial
from typing import Final

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.api.quotas.v1 import limit_service_pb2_grpc, quota_service_pb2_grpc, usage_service_pb2_grpc
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.channels import Peer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.consumer import Consumer
from perron.chassis.database import Database
from perron.chassis.event_servicer import EventServicer
from perron.chassis.ids import new_bytes, new_id
from perron.chassis.interceptors.access import KeyVerifier, PassportReader
from perron.chassis.leases import Leases
from perron.chassis.paging import Pages
from perron.chassis.server import Application
from perron.chassis.verification import IdentityKeys, IdentityPassports
from perron.quotas.following import follow_identity
from perron.quotas.limit_servicer import LimitServicer
from perron.quotas.limits import Limits, read_tiers
from perron.quotas.peers import IdentityWorkspaces
from perron.quotas.quota_servicer import QuotaServicer
from perron.quotas.reservations import Reservations
from perron.quotas.settings import Settings
from perron.quotas.steady_time import SteadyTime
from perron.quotas.store import Store
from perron.quotas.targets import Targets, Workspaces
from perron.quotas.usage import Usage
from perron.quotas.usage_servicer import UsageServicer

REVISION: Final = "0001"
_SWEEP_EVERY: Final = timedelta(minutes=5)


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    verifier: KeyVerifier | None = None,
    passports: PassportReader | None = None,
    workspaces: Workspaces | None = None,
) -> Application:
    """Composes the service; what a test does not put in the place of identity and the clock is theirs.

    Raises SetupError for settings that cannot work.
    """
    limits = Limits(read_tiers(settings.tiers_file))
    key = settings.own_key()
    database = Database(settings.database_url, clock=clock)
    identity = Peer("identity", settings.identity_target, key, ca_file=settings.peer_ca_file)
    keys = IdentityKeys(identity)
    wall = clock or SystemClock()
    pages = Pages(key.encode())
    trail = AuditTrail(database, wall)

    steady = SteadyTime(clock.now_us if clock is not None else _steady_us)
    reservations = Reservations(limits, steady, new_id)
    quotas = QuotaServicer(database, reservations, new_bytes)
    usage = Usage(limits)
    targets = Targets(database, workspaces or IdentityWorkspaces(identity))
    events = EventServicer(database, pages)
    leases = Leases(database)
    return Application(
        "quotas",
        settings,
        servicers=[
            (
                quota_service_pb2_grpc.add_QuotaServiceServicer_to_server,
                quotas,
                "perron.api.quotas.v1.QuotaService",
            ),
            (
                limit_service_pb2_grpc.add_LimitServiceServicer_to_server,
                LimitServicer(database, limits, usage, targets),
                "perron.api.quotas.v1.LimitService",
            ),
            (
                usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
                UsageServicer(database, usage, targets, pages),
                "perron.api.quotas.v1.UsageService",
            ),
            (
                audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
                AuditServicer(database, pages),
                "perron.api.common.v1.AuditService",
            ),
            (
                event_service_pb2_grpc.add_EventServiceServicer_to_server,
                events,
                "perron.api.common.v1.EventService",
            ),
        ],
        verifier=verifier or keys,
        passports=passports or IdentityPassports(identity, wall),
        databases=[database],
        revision=REVISION,
        peers=[identity],
        background=[
            Consumer(database, leases, identity, follow_identity).run,
            partial(leases.run, "reservations", _SWEEP_EVERY, lambda tx: reservations.sweep(Store(tx))),
        ],
        closers=[quotas.aclose, keys.aclose],
        audit_trail=trail,
    )


def _steady_us() -> int:
    # Linux's plain monotonic clock stands still while a machine sleeps, and waking up would look like a step.
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1000
