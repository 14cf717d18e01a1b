"""What Admit answers, as a gateway uses it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from perron.api.admission.v1 import admission_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Admission:
    """One admitted inference. Hand it back to `complete` or `abort`.

    `model` is the one to run; `keep_content` says whether `complete` should carry the exchange; `response`
    holds everything the service said, limits and decision included.
    """

    admission_id: str = field(repr=False)
    model: str
    keep_content: bool
    expire_time: datetime
    response: pb.AdmitResponse = field(repr=False, compare=False)

    @property
    def decision_id(self) -> str:
        """The decision about the content of this exchange, for `perron decisions explain`."""
        return self.response.decision.decision_id


def from_response(response: pb.AdmitResponse) -> Admission:
    """Reads an answer of Admit; `expire_time` is aware, in UTC."""
    return Admission(
        admission_id=response.admission_id,
        model=response.effective_model,
        keep_content=response.keep_content,
        expire_time=response.expire_time.ToDatetime(tzinfo=UTC),
        response=response,
    )
