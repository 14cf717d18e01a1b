"""Finetuning, composed."""

import secrets
from datetime import timedelta
from functools import partial
from typing import Final

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.api.finetuning.v1 import (
    file_service_pb2_grpc,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    worker_service_pb2_grpc,
)
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.channels import Peer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.consumer import Consumer
from perron.chassis.database import Database
from perron.chassis.event_servicer import EventServicer
from perron.chassis.ids import new_id
from perron.chassis.interceptors.access import KeyVerifier, PassportReader
from perron.chassis.leases import Leases
from perron.chassis.paging import Pages
from perron.chassis.server import Application
from perron.chassis.vault import Vault, read_root_key
from perron.chassis.verification import IdentityKeys, IdentityPassports
from perron.finetuning.agent_making import AgentMaking
from perron.finetuning.artifacts import Artifacts
from perron.finetuning.blobs import Blobs
from perron.finetuning.disclosures import Holdings, Transfers
from perron.finetuning.downloads import Downloads
from perron.finetuning.file_servicer import FileServicer
from perron.finetuning.files import Files
from perron.finetuning.following import of_governance, of_identity
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.job_servicer import JobServicer
from perron.finetuning.jobs import Jobs
from perron.finetuning.model_servicer import ModelServicer
from perron.finetuning.models import Models
from perron.finetuning.operator_files import read_base_models, read_distributors
from perron.finetuning.peers import Agents, Governance
from perron.finetuning.settings import Settings
from perron.finetuning.storage import Storage
from perron.finetuning.store import Store
from perron.finetuning.upkeep import Upkeep
from perron.finetuning.worker_leases import WorkerLeases
from perron.finetuning.worker_servicer import WorkerServicer

REVISION: Final = "0001"
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
_JOBS_EVERY: Final = timedelta(seconds=2)
_AGENTS_EVERY: Final = timedelta(seconds=2)
_FILES_EVERY: Final = timedelta(seconds=30)
_ERASURE_EVERY: Final = timedelta(seconds=5)
_SWEEP_EVERY: Final = timedelta(minutes=10)


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    verifier: KeyVerifier | None = None,
    passports: PassportReader | None = None,
    governance: Governance | None = None,
) -> Application:
    """Composes the service; what a test does not put in the place of its peers and the clock is theirs.

    Raises SetupError for settings that cannot work.
    """
    base_models = read_base_models(settings.models_file)
    distributors = read_distributors(settings.distributors_file)
    root_key = read_root_key(settings.root_key_file, "PERRON_FINETUNING_ROOT_KEY_FILE")
    vault = Vault(settings.vault_folder, root_key)
    vault.check()
    storage = Storage(settings.storage_url)
    key = settings.own_key()
    database = Database(settings.database_url, clock=clock)
    identity = Peer("identity", settings.identity_target, key, ca_file=settings.peer_ca_file)
    decisions = Peer("governance", settings.governance_target, key, ca_file=settings.peer_ca_file)
    made_by = (
        Peer("agents", settings.agents_target, key, ca_file=settings.peer_ca_file)
        if settings.agents_target
        else None
    )
    keys = IdentityKeys(identity)
    wall = clock or SystemClock()
    pages = Pages(root_key)
    trail = AuditTrail(database, wall)
    leases = Leases(database)
    asked = governance or Governance(decisions)

    blobs = Blobs(vault, new_id)
    agents, job_agents = Agents(made_by), JobAgents(blobs)
    jobs = Jobs(base_models, new_id, job_agents)
    models = Models(new_id)
    files = Files(blobs, new_id, jobs.file_gone)
    lent = WorkerLeases(
        models,
        new_id,
        ttl=timedelta(seconds=settings.lease_seconds),
        attempts_max=settings.lease_attempts_max,
    )
    holdings = Holdings(new_id)
    transfers = Transfers(distributors, new_id, lambda: f"ptk_{secrets.token_urlsafe(32)}")
    downloads = Downloads(database, storage, blobs, models, holdings, transfers)
    making = AgentMaking(database, job_agents, agents)
    upkeep = Upkeep(database, storage, files, blobs, asked, wall)
    model_servicer = ModelServicer(
        database, base_models, models, holdings, transfers, downloads, asked, pages
    )
    worker_servicer = WorkerServicer(database, storage, lent, Artifacts(blobs, lent), asked)
    return Application(
        "finetuning",
        settings,
        servicers=[
            (
                file_service_pb2_grpc.add_FileServiceServicer_to_server,
                FileServicer(database, storage, files, asked, pages, wall, root_key),
                "perron.api.finetuning.v1.FileService",
            ),
            (
                job_service_pb2_grpc.add_JobServiceServicer_to_server,
                JobServicer(database, jobs, agents, asked, pages),
                "perron.api.finetuning.v1.JobService",
            ),
            (
                model_service_pb2_grpc.add_ModelServiceServicer_to_server,
                model_servicer,
                "perron.api.finetuning.v1.ModelService",
            ),
            (
                worker_service_pb2_grpc.add_WorkerServiceServicer_to_server,
                worker_servicer,
                "perron.api.finetuning.v1.WorkerService",
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
        verifier=verifier or keys,
        passports=passports or IdentityPassports(identity, wall),
        databases=[database],
        revision=REVISION,
        peers=[identity, decisions, *([made_by] if made_by is not None else [])],
        prepare=[upkeep.start],
        background=[
            Consumer(database, leases, identity, of_identity(jobs, models)).run,
            Consumer(database, leases, decisions, of_governance).run,
            partial(leases.run, "jobs", _JOBS_EVERY, lambda tx: _go_on(jobs, lent, Store(tx))),
            partial(
                leases.run, "model erasures", _ERASURE_EVERY, lambda tx: models.follow_erasures(Store(tx))
            ),
            partial(leases.run_asking, "agents", _AGENTS_EVERY, making.make_due),
            partial(leases.run_asking, "files", _FILES_EVERY, upkeep.end_due),
            partial(leases.run_asking, "erasures", _ERASURE_EVERY, upkeep.erase),
            partial(leases.run_asking, "orphans", _SWEEP_EVERY, upkeep.sweep),
        ],
        closers=[model_servicer.aclose, keys.aclose],
        audit_trail=trail,
        message_bytes_max=MESSAGE_BYTES_MAX,
    )


def _go_on(jobs: Jobs, lent: WorkerLeases, store: Store) -> bool:
    """Validates jobs that wait for it, takes back those of lost workers; says whether there may be more."""
    more = jobs.validate(store)
    return lent.reclaim(store) or more
