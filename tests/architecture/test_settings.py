"""A setting that is not documented does not exist."""

import re
from importlib import import_module

import pytest

from perron.chassis.settings import ServiceSettings
from tests.architecture.test_layout import ROOMS
from tests.rpcs import ROOT

PAGE = ROOT / "docs" / "settings.md"


def settings_of(room: str) -> type[ServiceSettings]:
    found = import_module(f"perron.{room}.settings").Settings
    assert issubclass(found, ServiceSettings)
    return found


def variables(room: str) -> set[str]:
    """The variables of a service; what all services share is documented once, as PERRON_<SERVICE>_…."""
    shared = set(ServiceSettings.model_fields)
    own = {f"PERRON_{room.upper()}_{name.upper()}" for name in set(settings_of(room).model_fields) - shared}
    common = {f"PERRON_<SERVICE>_{name.upper()}" for name in shared - {"plaintext"}}
    return own | common | {"PERRON_PLAINTEXT"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_setting_is_documented(room: str) -> None:
    page = PAGE.read_text("utf-8")

    assert sorted(name for name in variables(room) if f"`{name}`" not in page) == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = set().union(*(variables(room) for room in ROOMS))
    written = set(
        re.findall(
            r"`(PERRON_(?:IDENTITY|QUOTAS|GOVERNANCE|AGENTS|ADMISSION|FINETUNING|<SERVICE>)_[A-Z_]+)`",
            PAGE.read_text("utf-8"),
        )
    )
    files = {f"{name}_FILE" for name in known}

    assert sorted(written - known - files) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_setting_says_what_it_is(room: str) -> None:
    silent = [name for name, field in settings_of(room).model_fields.items() if not field.description]

    assert silent == []
