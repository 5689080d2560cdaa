"""Bring a database to the newest schema from within a running process."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

ALEMBIC_INI = Path(__file__).parents[2] / "alembic.ini"


def migrate(connection: Connection, revision: str = "head") -> None:
    """Upgrade the connection's database to `revision`; the caller commits."""
    command.upgrade(configuration(connection), revision)


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for this connection."""
    config = Config(ALEMBIC_INI)
    config.attributes["connection"] = connection
    return config
