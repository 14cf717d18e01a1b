"""The first start on an empty store: secrets are written down, and the first operator gets a key."""

from typing import Any

from sqlalchemy.exc import IntegrityError

from perron.chassis.database import Database
from perron.chassis.errors import SetupError
from perron.identity.keys import Keys
from perron.identity.model import OperatorRole
from perron.identity.secret_files import SecretFile, bootstrap_credential
from perron.identity.secrets import Randomness
from perron.identity.settings import Settings
from perron.identity.store import Store


class FirstStart:
    """Runs before the first call of every start; after the first one it finds nothing to do."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        peppers: SecretFile[Any],
        signing_keys: SecretFile[Any],
        settings: Settings,
        randomness: Randomness,
    ) -> None:
        self._database = database
        self._keys = keys
        self._peppers = peppers
        self._signing_keys = signing_keys
        self._settings = settings
        self._randomness = randomness

    async def run(self) -> None:
        """Writes the secrets and the first key that are missing. Raises SetupError where that cannot be."""
        has_keys = await self._database.read(lambda tx: Store(tx).has_keys())
        if has_keys and self._peppers.unwritten:
            raise SetupError(
                f"PERRON_IDENTITY_PEPPER_FILE: {self._peppers.path}: there is no such file, and the store "
                "has keys that were digested with what it held"
            )
        if has_keys:
            await self._require_peppers()
        credential = "" if has_keys else self._first_credential()
        self._peppers.write()
        self._signing_keys.write()
        if credential:
            await self._write_first_key(credential)

    async def _require_peppers(self) -> None:
        """Refuses a file that lacks a pepper in use: its keys would be unknown without a word."""
        known = {pepper.pepper_id for pepper in self._peppers.content}
        in_use = await self._database.read(lambda tx: Store(tx).peppers_in_use())
        if lacking := in_use - known:
            raise SetupError(
                f"PERRON_IDENTITY_PEPPER_FILE: {self._peppers.path}: keys that work were digested with "
                f"{', '.join(sorted(lacking))}, which it lacks; restore it, or revoke them first"
            )

    def _first_credential(self) -> str:
        return bootstrap_credential(
            "PERRON_IDENTITY_BOOTSTRAP_KEY_FILE",
            self._settings.bootstrap_key_file,
            self._settings.environment,
            self._randomness,
        )

    async def _write_first_key(self, credential: str) -> None:
        roles = frozenset(str(role) for role in OperatorRole)
        try:
            await self._database.write(lambda tx: self._keys.bootstrap(Store(tx), credential, roles))
        except IntegrityError:
            return  # another replica has started first, with the same file
