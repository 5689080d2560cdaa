"""What kind of database a connection reaches: a replica, a snapshot database, which isolation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Dialect

_ASK_POSTGRESQL = (
    "SELECT pg_is_in_recovery(), pg_backend_pid(),"
    " current_setting('default_transaction_isolation'), current_setting('transaction_isolation'),"
    " current_database(),"
    " array_to_string(current_schemas(true), ','),"
    " has_function_privilege('pg_control_system()', 'execute')"
)
# Which installation this is; the same on its replicas. Not every account may ask.
_ASK_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
_SNAPSHOT_LEVELS = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})

# Marks our own statements.
INTERNAL_OPTIONS = {"cachedorm_own": True}


@dataclass(frozen=True, slots=True)
class Profile:
    """Facts about one database connection, asked when it is first seen.

    ``isolation`` is its default level; ``pid`` is set where the server process can be looked up by
    it later, which a pooler between would make impossible. ``database`` names the installation and
    the database in it, ``schemas`` where a table without a schema is looked for: other words, other
    rows.
    """

    replica: bool
    isolation: str
    pid: int | None
    snapshot: bool
    database: str = ""
    schemas: str = ""

    def reads_old(self, isolation: str | None) -> bool:
        """Whether a transaction at this level (None: the default) reads an older snapshot.

        On PostgreSQL READ COMMITTED sees, in every statement, all that was committed before it.
        """
        level = (isolation or self.isolation).replace("_", " ").upper()
        return level in _SNAPSHOT_LEVELS and not self.snapshot


def profile_of(connection: Connection) -> Profile:
    """Ask the database that this connection reaches, outside of SQLAlchemy's events."""
    dialect = connection.dialect
    if dialect.name != "postgresql":
        return _other_profile(dialect)
    pooled: Any = connection.connection
    cursor = pooled.cursor()
    try:
        cursor.execute(_ASK_POSTGRESQL)
        replica, pid, default, actual, database, schemas, may_ask = cursor.fetchone()
        system = ""
        if may_ask:
            cursor.execute(_ASK_SYSTEM)
            (system,) = cursor.fetchone()
    finally:
        cursor.close()
    # The driver may begin transactions at another level than the server's default.
    levels = [level.upper() for level in (default, actual)]
    isolation = next((level for level in levels if level in _SNAPSHOT_LEVELS), levels[0])
    pid = _direct_pid(pooled, pid)
    return Profile(bool(replica), isolation, pid, False, f"{system}/{database}", schemas)


@contextmanager
def unnoticed(connection: Connection) -> Iterator[None]:
    """Query the database within the block without beginning its next transaction.

    SET TRANSACTION is refused after the first query of a transaction, and a snapshot begins there.
    """
    pooled: Any = connection.connection
    idle = is_idle(pooled)
    try:
        yield
    finally:
        if idle:
            pooled.rollback()


def is_idle(pooled: Any) -> bool:
    """Whether the driver knows that nothing has been sent in this transaction."""
    driver = pooled.driver_connection
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    if status is None:  # asyncpg: the adapter says whether it has begun
        return getattr(pooled.dbapi_connection, "_started", True) is False
    return status == 0 and not getattr(driver, "_tpc", None)


def _other_profile(dialect: Dialect) -> Profile:
    isolation = (getattr(dialect, "default_isolation_level", None) or "SERIALIZABLE").upper()
    # A transaction of SQLite keeps the snapshot of its first read, whatever it is called.
    return Profile(replica=False, isolation=isolation, pid=None, snapshot=dialect.name == "sqlite")


def _direct_pid(pooled: Any, pid: int) -> int | None:
    # What the server reported at connect; behind a pooler that is not the server process.
    info = getattr(pooled.driver_connection, "info", None)
    return pid if getattr(info, "backend_pid", None) == pid else None


def isolation_of(connection: Connection) -> str | None:
    """The isolation level that was asked for on this connection, None if the default stands."""
    level: str | None = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = connection.dialect._on_connect_isolation_level
    return level.replace("_", " ").upper() if level is not None else None


def is_autocommit(connection: Connection) -> bool:
    """Whether SQLAlchemy was asked that each statement be a transaction of its own."""
    return isolation_of(connection) == "AUTOCOMMIT"


def is_driver_autocommit(connection: Connection) -> bool:
    """Whether that was asked of the driver: in connect_args, or in a ``connect`` listener."""
    pooled: Any = connection.connection
    return getattr(pooled.dbapi_connection, "autocommit", False) is True
