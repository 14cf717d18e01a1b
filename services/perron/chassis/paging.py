"""Pages: opaque tokens that carry a keyset cursor (AIP-158).

A token is sealed for the caller and the filter it was made for: another caller's, another filter's or a
forged one is INVALID_ARGUMENT. It is no secret of ours and no promise: whoever lists with it is authorized
anew.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Final

from perron.chassis.errors import InvalidArgument
from perron.chassis.sealing import SealBrokenError, open_sealed, seal, subkey

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1000

Cursor = Sequence[str | int]
"""The sort key of a page's last row."""


class Pages:
    """Makes and reads page tokens under one secret, which all replicas of a service share."""

    def __init__(self, secret: bytes) -> None:
        self._key = subkey(secret, "page tokens")

    def token(self, cursor: Cursor, *, caller_scope: str, filter_text: str) -> str:
        """Makes the token of the page after `cursor`.

        `caller_scope` is whose rows they are (an organization, a key); `filter_text` is every field of the
        request that chooses rows, joined so that no two filters write the same text.
        """
        plain = json.dumps(list(cursor), separators=(",", ":")).encode()
        sealed = seal(self._key, plain, _binding(caller_scope, filter_text))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def cursor(self, token: str, *, caller_scope: str, filter_text: str) -> list[str | int] | None:
        """Reads a token back; None for the empty token, which asks for the first page.

        Raises InvalidArgument with PAGE_TOKEN_INVALID for any other token than one made for this scope and
        filter.
        """
        if not token:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            cursor: list[str | int] = json.loads(
                open_sealed(self._key, sealed, _binding(caller_scope, filter_text))
            )
        except (SealBrokenError, binascii.Error, ValueError):
            raise InvalidArgument(
                "PAGE_TOKEN_INVALID", "the page token is not one of this list", field="page_token"
            ) from None
        return cursor

    @staticmethod
    def size(page_size: int) -> int:
        """Returns how many rows a page holds: 50 for 0, at most 1000; a negative size is refused."""
        if page_size < 0:
            raise InvalidArgument("FIELD_INVALID", "the page size is negative", field="page_size")
        return min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _binding(caller_scope: str, filter_text: str) -> bytes:
    scope = caller_scope.encode()
    return hashlib.sha256(len(scope).to_bytes(4, "big") + scope + filter_text.encode()).digest()
