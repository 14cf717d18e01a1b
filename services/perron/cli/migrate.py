"""Brings a store to the newest revision, under a lock, so that two who start at once do it once.

Services never migrate themselves: `perron migrate` does, and `perron up`, which has its stores to itself.
"""

import asyncio
import importlib
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from perron.chassis.database import Database
from perron.chassis.errors import SetupError

# "perron" in ASCII: one lock for each PostgreSQL database, whatever else it holds.
_ADVISORY_LOCK = 0x706572726F6E


def migrate(service: str, url: str) -> str:
    """Migrates the store of a service at a database URL and returns its revision.

    SetupError where the store is being served, cannot be reached, or is of a later revision than this code
    knows.
    """
    configuration = _configuration(service)
    head = ScriptDirectory.from_config(configuration).get_current_head() or ""
    database = Database(url)  # holds the lock of a SQLite file and makes its folder
    database.lock()
    engine = sqlalchemy.create_engine(url, hide_parameters=True)
    try:
        with engine.begin() as connection:
            if database.dialect == "postgresql":
                connection.execute(
                    sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
                )
            _upgrade(configuration, connection)
    except CommandError:
        raise SetupError(f"{service}: the store is of a revision that this version does not know") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise SetupError(f"{service}: the store cannot be migrated ({type(error).__name__})") from None
    finally:
        engine.dispose()
        asyncio.run(database.aclose())
    return head


def _configuration(service: str) -> Config:
    package = importlib.import_module(f"perron.{service}")
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(str(package.__file__)).parent / "migrations"))
    return configuration


def _upgrade(configuration: Config, connection: Connection) -> None:
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")
