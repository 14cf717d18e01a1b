from pathlib import Path

import pytest

from perron.chassis.vault import Vault
from perron.governance.decisions import Decisions
from perron.governance.reading import Reading
from perron.governance.records import Records
from perron.governance.rule_files import load
from perron.governance.rulings import Rulings
from perron.governance.seals import Seals
from tests.unit.governance.commands import raw_id


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", b"r" * 32)


@pytest.fixture
def rulings() -> Rulings:
    return Rulings()


@pytest.fixture
def decisions(rulings: Rulings) -> Decisions:
    return Decisions(load(), rulings, raw_id)


@pytest.fixture
def records(rulings: Rulings, vault: Vault) -> Records:
    return Records(load(), rulings, Seals(vault))


@pytest.fixture
def reading(records: Records, vault: Vault) -> Reading:
    return Reading(records, Seals(vault))
