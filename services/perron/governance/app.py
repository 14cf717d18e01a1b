"""Governance, composed."""

from datetime import timedelta

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.api.governance.v1 import (
    decision_service_pb2_grpc,
    directive_service_pb2_grpc,
    record_service_pb2_grpc,
    terms_service_pb2_grpc,
)
from perron.chassis import tombstones
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.channels import Peer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.consumer import Consumer
from perron.chassis.database import Database, Transaction
from perron.chassis.event_servicer import EventServicer
from perron.chassis.events import Event
from perron.chassis.ids import new_bytes, new_id
from perron.chassis.leases import Leases
from perron.chassis.paging import Pages
from perron.chassis.server import Application
from perron.chassis.vault import Vault, read_root_key
from perron.chassis.verification import IdentityKeys, IdentityPassports
from perron.governance import rule_files
from perron.governance.decision_servicer import DecisionServicer
from perron.governance.decisions import Decisions
from perron.governance.directive_servicer import DirectiveServicer
from perron.governance.directives import TrainingPreferences, ZeroRetention
from perron.governance.erasure import Erasure
from perron.governance.peers import Standings
from perron.governance.reading import Reading
from perron.governance.record_servicer import RecordServicer
from perron.governance.records import Records
from perron.governance.rulings import Rulings
from perron.governance.seals import Seals
from perron.governance.settings import Settings
from perron.governance.terms import Rulebook
from perron.governance.terms_servicer import TermsServicer

REVISION = "0001"
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_ERASURE_EVERY = timedelta(seconds=5)


def rulebook(settings: Settings) -> Rulebook:
    """Reads the terms that the settings name. Raises SetupError."""
    return rule_files.load(
        settings.rules_file,
        lengths=settings.lengths,
        train_on_fine_tuning_data=settings.train_on_fine_tuning_data,
    )


def build(settings: Settings, *, clock: Clock | None = None) -> Application:
    """Composes the service; `clock` replaces every clock in tests. Raises SetupError for what cannot work."""
    rules = rulebook(settings)
    root_key = read_root_key(settings.root_key_file, "PERRON_GOVERNANCE_ROOT_KEY_FILE")
    vault = Vault(settings.vault_folder, root_key)
    vault.check()
    key = settings.own_key()
    database = Database(settings.database_url, clock=clock)
    identity = Peer("identity", settings.identity_target, key, ca_file=settings.peer_ca_file)
    keys = IdentityKeys(identity)
    standings = Standings(identity)
    wall = clock or SystemClock()
    pages = Pages(root_key)
    trail = AuditTrail(database, wall)
    leases = Leases(database)

    rulings = Rulings()
    seals = Seals(vault)
    records = Records(rules, rulings, seals)
    erasure = Erasure(database, vault)
    decision_servicer = DecisionServicer(database, Decisions(rules, rulings, new_bytes), rules, pages)
    record_servicer = RecordServicer(database, records, Reading(records, seals), standings, pages)
    directive_servicer = DirectiveServicer(
        database, ZeroRetention(new_id), TrainingPreferences(), erasure, standings, pages
    )
    return Application(
        "governance",
        settings,
        servicers=[
            (
                decision_service_pb2_grpc.add_DecisionServiceServicer_to_server,
                decision_servicer,
                "perron.api.governance.v1.DecisionService",
            ),
            (
                record_service_pb2_grpc.add_RecordServiceServicer_to_server,
                record_servicer,
                "perron.api.governance.v1.RecordService",
            ),
            (
                directive_service_pb2_grpc.add_DirectiveServiceServicer_to_server,
                directive_servicer,
                "perron.api.governance.v1.DirectiveService",
            ),
            (
                terms_service_pb2_grpc.add_TermsServiceServicer_to_server,
                TermsServicer(rules),
                "perron.api.governance.v1.TermsService",
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
        peers=[identity],
        prepare=[erasure.start],
        background=[
            Consumer(database, leases, identity, _follow_identity).run,
            lambda: leases.run("erasure", _ERASURE_EVERY, erasure.go_on),
        ],
        closers=[decision_servicer.aclose, record_servicer.aclose, keys.aclose],
        audit_trail=trail,
        message_bytes_max=MESSAGE_BYTES_MAX,
    )


def _follow_identity(tx: Transaction, event: Event) -> None:
    """Buries what identity deleted for good, so that nothing late is decided or kept for it."""
    if event.kind == "workspace.deleted":
        tombstones.bury(tx, organization_id=event.organization_id, workspace_id=event.workspace_id)
