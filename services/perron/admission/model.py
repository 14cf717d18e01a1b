"""What an admission remembers until it is completed."""

import msgspec


class Admission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that Complete and Abort need to know; it travels, sealed, in the admission id.

    Encoded by position: new fields are added at the end, with a default.
    """

    reservation_id: str
    decision_id: str
    organization_id: str
    workspace_id: str
    model: str  # the effective one
    gateway_key_id: str  # only this key may complete it
    as_of_us: int  # the instant the decision was judged by
    expire_us: int  # end of the reservation; content is discarded from here on
    keep_content: bool
    agent_id: str = ""
    agent_version: int = 0
