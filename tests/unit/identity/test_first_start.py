"""What a start refuses before it serves anybody."""

import secrets
from pathlib import Path
from typing import Any

import pytest

from perron.chassis.database import Database
from perron.chassis.errors import SetupError
from perron.chassis.testing import BOTH
from perron.identity.first_start import FirstStart
from perron.identity.secret_files import SecretFile
from perron.identity.secrets import Pepper
from perron.identity.settings import Settings
from perron.identity.store import Store
from tests.unit.identity.people import PEPPER, House

OTHER = Pepper("other", bytes(32))


@pytest.mark.parametrize("database", BOTH, indirect=True)
@pytest.mark.parametrize(
    ("peppers", "starts"), [((PEPPER,), True), ((OTHER, PEPPER), True), ((OTHER,), False)]
)
async def test_a_start_without_a_pepper_that_working_keys_need_is_refused(
    database: Database, tmp_path: Path, peppers: tuple[Pepper, ...], starts: bool
) -> None:
    house = House()
    await database.write(lambda tx: house.found(Store(tx)))
    signing_keys: SecretFile[Any] = SecretFile(tmp_path / "signing", (), "")
    first = FirstStart(
        database,
        house.keys,
        SecretFile(tmp_path / "pepper", peppers, ""),
        signing_keys,
        Settings.model_construct(),
        secrets.token_bytes,
    )
    if starts:
        await first.run()
    else:
        with pytest.raises(SetupError, match=PEPPER.pepper_id):
            await first.run()
