"""What identity is made of."""

import secrets
from typing import Final

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.api.identity.v1 import api_key_pb2_grpc, organization_pb2_grpc, workspace_pb2_grpc
from perron.chassis.audit import AuditTrail
from perron.chassis.audit_servicer import AuditServicer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.database import Database
from perron.chassis.event_servicer import EventServicer
from perron.chassis.ids import new_id
from perron.chassis.paging import Pages
from perron.chassis.passports import Signer
from perron.chassis.server import Application
from perron.identity import documents, plans, secret_files
from perron.identity.answers import Answers, OwnCallers
from perron.identity.api_key_servicer import ApiKeyServicer
from perron.identity.first_start import FirstStart
from perron.identity.keys import Keys
from perron.identity.members import Members
from perron.identity.organization_servicer import OrganizationServicer
from perron.identity.organizations import Organizations
from perron.identity.settings import Settings
from perron.identity.verification import Verification
from perron.identity.workspace_servicer import WorkspaceServicer
from perron.identity.workspaces import Workspaces

REVISION: Final = "0001"


def build(settings: Settings, *, clock: Clock | None = None) -> Application:
    """Puts the service together; nothing is written and nothing listens yet. Raises SetupError."""
    time = clock or SystemClock()
    randomness = secrets.token_bytes
    plan_file = plans.load(settings.plans_file)
    document_file = documents.load(settings.documents_file)
    peppers = secret_files.peppers("PERRON_IDENTITY_PEPPER_FILE", settings.pepper_file, randomness)
    signing_keys = secret_files.signing_keys(
        "PERRON_IDENTITY_SIGNING_KEYS_FILE", settings.signing_keys_file, time, randomness
    )
    database = Database(settings.database_url, clock=clock)
    verification = Verification(peppers.content, plan_file, document_file)
    keys = Keys(verification, peppers.content, settings.environment, new_id, randomness)
    signer = Signer(signing_keys.content, time)
    answers = Answers(database, verification, signer)
    pages = Pages(peppers.content[0].secret)
    organizations = Organizations(plan_file, document_file, keys, new_id)
    organization_servicer = OrganizationServicer(
        database, organizations, plan_file, document_file, pages, time
    )
    workspace_servicer = WorkspaceServicer(database, Workspaces(new_id), Members(new_id), pages)
    event_servicer = EventServicer(database, pages)
    return Application(
        "identity",
        settings,
        servicers=[
            (
                organization_pb2_grpc.add_OrganizationServiceServicer_to_server,
                organization_servicer,
                "perron.api.identity.v1.OrganizationService",
            ),
            (
                workspace_pb2_grpc.add_WorkspaceServiceServicer_to_server,
                workspace_servicer,
                "perron.api.identity.v1.WorkspaceService",
            ),
            (
                api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server,
                ApiKeyServicer(database, keys, answers, signer, pages),
                "perron.api.identity.v1.ApiKeyService",
            ),
            (
                event_service_pb2_grpc.add_EventServiceServicer_to_server,
                event_servicer,
                "perron.api.common.v1.EventService",
            ),
            (
                audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
                AuditServicer(database, pages),
                "perron.api.common.v1.AuditService",
            ),
        ],
        verifier=OwnCallers(answers),
        databases=[database],
        revision=REVISION,
        flags={"open_signup": settings.open_signup},
        audit_trail=AuditTrail(database, time),
        prepare=[FirstStart(database, keys, peppers, signing_keys, settings, randomness).run],
        closers=[organization_servicer.aclose, workspace_servicer.aclose, answers.aclose],
    )
