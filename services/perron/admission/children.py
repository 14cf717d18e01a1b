"""Ids for what one admission causes elsewhere, so that repeating it causes nothing twice.

They are UUIDv5 (RFC 9562) over who asks, for whom, and what: no two gateways and no two tenants can meet,
whatever request ids they choose.
"""

import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("5f0c7c2e-4d0f-5b1e-9a52-1f6f0f6d2a11")


def child_id(gateway_key_id: str, organization_id: str, request_id: str, child: str) -> str:
    """Returns the request id of one child ("reserve", "decide") of a request; "" where that has none."""
    if not request_id:
        return ""
    # Ids hold no slash and a UUID is compared by value, so the joined name is unambiguous.
    return str(uuid.uuid5(_NAMESPACE, f"{gateway_key_id}/{organization_id}/{request_id.lower()}/{child}"))
