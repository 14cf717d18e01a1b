"""Exchanges on their way through admission, and how far each has come."""

from dataclasses import dataclass

from perron.admission.model import Admission
from perron.api.admission.v1.admission_service_pb2 import AdmitRequest, AdmitResponse, CompleteRequest
from perron.api.quotas.v1.quota_service_pb2 import ReserveResponse
from perron.chassis.errors import PerronError


@dataclass(slots=True)
class Asking:
    """One exchange that wants to be admitted. `outcome` is set as soon as nothing more is to be asked."""

    gateway_key_id: str
    ask: AdmitRequest
    trace_parent: str
    organization_id: str = ""
    workspace_id: str = ""
    passport: str = ""
    model: str = ""
    reserved: ReserveResponse | None = None
    outcome: AdmitResponse | PerronError | None = None
    is_abandoned: bool = False  # nobody waits for the outcome
    is_released: bool = False  # what was reserved is being given back

    @property
    def is_open(self) -> bool:
        """Says whether there is more to ask."""
        return self.outcome is None

    @property
    def reservation(self) -> ReserveResponse:
        """What was reserved; only for exchanges that got so far."""
        assert self.reserved is not None
        return self.reserved

    def begin(self) -> None:
        """Forgets an earlier attempt, which a defect in another exchange of its batch may have ended."""
        self.reserved = self.outcome = None
        self.is_released = False

    def answer(self) -> AdmitResponse | PerronError:
        """The outcome; only once there is one."""
        assert self.outcome is not None
        return self.outcome


@dataclass(frozen=True, slots=True)
class Completion:
    """One admission that is to be completed."""

    admission: Admission
    request: CompleteRequest
    trace_parent: str
