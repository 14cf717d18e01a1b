"""Admission ids: what one admission remembers, sealed so that only admission can read or make it.

An id is `adm_` and base64url of {key name, sealed admission}. What a newcomer gets wrong: the id is no bearer
token. Whoever presents it must also hold the gateway key that was admitted, and to everybody else it does not
exist.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from perron.admission import errors
from perron.admission.model import Admission
from perron.chassis import sealing
from perron.chassis.clock import Clock

PREFIX: Final = "adm_"
LATE_US: Final = 24 * 3600 * 1_000_000  # how long after its end an admission may still be settled
_AAD: Final = b"perron admission v1"
_NAME_BYTES: Final = 4


class AdmissionIds:
    """Seals and opens admission ids.

    `keys` are 32 bytes each: the first seals, all open, so that a new key can be spread to every replica
    before it is put first.
    """

    def __init__(self, keys: Sequence[bytes], clock: Clock) -> None:
        self._keys = {_name(key): key for key in keys}
        self._sealing_name = _name(keys[0])
        self._sealing_key = keys[0]
        self._clock = clock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Admission)

    def seal(self, admission: Admission) -> str:
        """Returns the id of an admission; no two are equal, though they may name the same admission."""
        sealed = sealing.seal(self._sealing_key, self._encoder.encode(admission), _AAD)
        return PREFIX + base64.urlsafe_b64encode(self._sealing_name + sealed).decode("ascii").rstrip("=")

    def open(self, admission_id: str, gateway_key_id: str) -> Admission:
        """Returns the admission that the id names.

        Raises NotFound for whatever is not an id made here for this gateway's key, FailedPrecondition for one
        that ended more than 24 hours ago.
        """
        admission = self._opened(admission_id)
        if admission is None or admission.gateway_key_id != gateway_key_id:
            raise errors.admission_not_found()
        if self._clock.now_us() >= admission.expire_us + LATE_US:
            raise errors.admission_expired()
        return admission

    def takes_content(self, admission: Admission) -> bool:
        """Says whether the time in which content is taken still runs."""
        return self._clock.now_us() < admission.expire_us

    def _opened(self, admission_id: str) -> Admission | None:
        body = admission_id.removeprefix(PREFIX)
        if body == admission_id:
            return None
        try:
            sealed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            key = self._keys[sealed[:_NAME_BYTES]]
            return self._decoder.decode(sealing.open_sealed(key, sealed[_NAME_BYTES:], _AAD))
        except (ValueError, KeyError, sealing.SealBrokenError, msgspec.DecodeError):  # not base64; not ours
            return None


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"perron admission key name" + key).digest()[:_NAME_BYTES]
