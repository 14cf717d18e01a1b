"""Agents, composed."""

from datetime import timedelta
from typing import Final

from perron.agents.agent_servicer import AgentServicer
from perron.agents.agents import Agents
from perron.agents.authoring import Authoring
from perron.agents.erasure import Erasure
from perron.agents.following import follow_identity
from perron.agents.peers import Governance, Members, Models, Plans
from perron.agents.plan_changes import PlanChanges
from perron.agents.resolve_calls import ResolveCalls, read_content
from perron.agents.resolving import Resolving
from perron.agents.seals import Seals
from perron.agents.settings import Settings
from perron.agents.sharing_servicer import SharingServicer
from perron.agents.versions import Versions
from perron.api.agents.v1 import agent_service_pb2_grpc, sharing_service_pb2_grpc
from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.channels import Peer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.consumer import Consumer
from perron.chassis.database import Database
from perron.chassis.event_servicer import EventServicer
from perron.chassis.ids import new_id
from perron.chassis.leases import Leases
from perron.chassis.paging import Pages
from perron.chassis.server import Application
from perron.chassis.vault import Vault, read_root_key
from perron.chassis.verification import IdentityKeys, IdentityPassports

REVISION: Final = "0001"
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
_ERASURE_EVERY: Final = timedelta(seconds=15)
_PLANS_EVERY: Final = timedelta(seconds=5)


def build(settings: Settings, *, clock: Clock | None = None) -> Application:
    """Composes the service; `clock` replaces every clock in tests. Raises SetupError for what cannot work."""
    root_key = read_root_key(settings.root_key_file, "PERRON_AGENTS_ROOT_KEY_FILE")
    vault = Vault(settings.vault_folder, root_key)
    vault.check()
    key = settings.own_key()
    database = Database(settings.database_url, clock=clock)
    identity = Peer("identity", settings.identity_target, key, ca_file=settings.peer_ca_file)
    governed = Peer("governance", settings.governance_target, key, ca_file=settings.peer_ca_file)
    finetuning = (
        Peer("finetuning", settings.finetuning_target, key, ca_file=settings.peer_ca_file)
        if settings.finetuning_target
        else None
    )
    keys = IdentityKeys(identity)
    wall = clock or SystemClock()
    pages = Pages(root_key)
    leases = Leases(database)

    governance, members, models = Governance(governed), Members(identity), Models(finetuning)
    seals = Seals(vault)
    versions = Versions(seals)
    agents = Agents(versions, new_id)
    authoring = Authoring(database, agents, versions, governance, members, models)
    resolve_calls = ResolveCalls(database, Resolving(seals, read_content), governance, models)
    erasure = Erasure(database, vault, seals, governance)
    plan_changes = PlanChanges(database, Plans(identity))
    return Application(
        "agents",
        settings,
        servicers=[
            (
                agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
                AgentServicer(database, agents, versions, authoring, resolve_calls, governance, pages),
                "perron.api.agents.v1.AgentService",
            ),
            (
                sharing_service_pb2_grpc.add_SharingServiceServicer_to_server,
                SharingServicer(database, members, pages),
                "perron.api.agents.v1.SharingService",
            ),
            (
                audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
                AuditServicer(database, pages),
                "perron.api.common.v1.AuditService",
            ),
            (
                event_service_pb2_grpc.add_EventServiceServicer_to_server,
                EventServicer(database, pages),
                "perron.api.common.v1.EventService",
            ),
        ],
        verifier=keys,
        passports=IdentityPassports(identity, wall),
        databases=[database],
        revision=REVISION,
        peers=[identity, governed, *([finetuning] if finetuning is not None else [])],
        prepare=[erasure.start],
        background=[
            Consumer(database, leases, identity, follow_identity).run,
            lambda: leases.run_asking("erasure", _ERASURE_EVERY, erasure.go_on),
            lambda: leases.run_asking("plans", _PLANS_EVERY, plan_changes.look),
        ],
        closers=[resolve_calls.aclose, keys.aclose],
        audit_trail=AuditTrail(database, wall),
        message_bytes_max=MESSAGE_BYTES_MAX,
    )
