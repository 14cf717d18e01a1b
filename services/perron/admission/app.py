"""What admission is made of."""

from perron.admission.admission_ids import AdmissionIds
from perron.admission.admission_servicer import AdmissionServicer
from perron.admission.admissions import Admissions
from perron.admission.base_models import BaseModels
from perron.admission.peers import Peers
from perron.admission.settings import Settings
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.chassis.channels import Peer
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.server import Application
from perron.chassis.verification import IdentityKeys

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
SERVICE = "perron.api.admission.v1.AdmissionService"


def build(settings: Settings, *, clock: Clock | None = None) -> Application:
    """Puts the service together; nothing is asked and nothing listens yet. Raises SetupError."""
    key = settings.own_key()
    identity = Peer("identity", settings.identity_target, key, ca_file=settings.peer_ca_file)
    quotas = Peer("quotas", settings.quotas_target, key, ca_file=settings.peer_ca_file)
    governance = Peer("governance", settings.governance_target, key, ca_file=settings.peer_ca_file)
    agents = Peer("agents", settings.agents_target, key, ca_file=settings.peer_ca_file)
    finetuning = Peer("finetuning", settings.finetuning_target, key, ca_file=settings.peer_ca_file)
    peers = Peers(identity, quotas, governance, agents, finetuning)
    admissions = Admissions(
        peers,
        AdmissionIds(settings.sealing_keys(), clock or SystemClock()),
        BaseModels(settings.base_models()),
    )
    return Application(
        "admission",
        settings,
        servicers=[
            (
                admission_service_pb2_grpc.add_AdmissionServiceServicer_to_server,
                AdmissionServicer(admissions),
                SERVICE,
            )
        ],
        verifier=IdentityKeys(identity),
        peers=[identity, quotas, governance, agents, finetuning],
        closers=[admissions.aclose],
        message_bytes_max=MESSAGE_BYTES_MAX,
    )
