"""Where migrations run: on a connection given by the caller, else on CACHEDORM_DATABASE_URL.

From a shell `alembic upgrade head`, or `alembic upgrade head --sql` to read the SQL first; in
process with `config.attributes["connection"]` (tests and the demo).
"""

import os
from logging.config import fileConfig
from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from models import Base

METADATA = Base.metadata
SCHEMAS = {table.schema for table in METADATA.tables.values()}
# Any fixed number: every process that migrates this application takes the same lock.
MIGRATION_LOCK = 0x6361636865646F72


def ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Say whether autogenerate compares this; PostGIS and others have schemas of their own."""
    return name in SCHEMAS if kind == "schema" else True


def configure(**where: Any) -> None:
    """Tell Alembic what to compare, and where."""
    context.configure(
        target_metadata=METADATA,
        include_schemas=True,
        include_name=ours,
        compare_type=True,
        compare_server_default=True,
        **where,
    )


def migrate(connection: Connection) -> None:
    """Run the migrations on `connection`, one process at a time."""
    configure(connection=connection)
    with context.begin_transaction():
        # Several pods start at once; the second waits here and then finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


def database_url() -> str:
    """Return where to migrate."""
    configured = context.config.get_main_option("sqlalchemy.url")
    url = configured or os.environ.get("CACHEDORM_DATABASE_URL")
    if not url:
        raise SystemExit(
            "migrations: no database given; set CACHEDORM_DATABASE_URL, "
            "e.g. postgresql+psycopg://user:password@localhost/recycling"
        )
    return url


def run() -> None:
    """Run offline, on a given connection, or on one of our own."""
    if context.is_offline_mode():
        configure(url=database_url(), literal_binds=True, dialect_opts={"paramstyle": "named"})
        with context.begin_transaction():
            context.run_migrations()
        return
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        migrate(given)
        return
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)


if context.config.config_file_name and context.config.attributes.get("connection") is None:
    # In process the caller has its own logging; only the command line takes ours.
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
run()
