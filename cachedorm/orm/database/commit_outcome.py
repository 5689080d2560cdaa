"""A COMMIT whose outcome is unknown: when that is so, and how to see that it was decided.

A connection lost during COMMIT says nothing: the server may commit seconds later. Until a second
connection has seen that transaction ended, one way or the other, its keys stay hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from cachedorm.orm.database.profile import Profile

# Classes of SQLSTATE under which the server may have gone on: connection, shutdown, crash.
_OPEN_STATES = ("08", "57P", "XX")
_IN_TRANSACTION = text(
    "SELECT backend_start::text || ' ' || coalesce(xact_start::text, '')"
    " FROM pg_stat_activity WHERE pid = :pid AND xact_start IS NOT NULL"
)
_CONNECT_TIMEOUT = 5


class CommitOutcomes:
    """Knows open outcomes, and asks the database of one engine about them."""

    __slots__ = ("_asking", "_engine")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking: Engine | None = None

    def is_open(self, error: BaseException, dbapi_connection: Any) -> bool:
        """Whether the transaction that failed to commit with this error may yet be committed."""
        state = getattr(error, "sqlstate", None)
        if state is not None and not state.startswith(_OPEN_STATES):
            return False  # the server itself said that it did not commit
        return _status(dbapi_connection) not in ("IDLE", "INERROR")

    def decided(self, profile: Profile | None) -> Callable[[], bool] | None:
        """A question to ask until it says True; None where it cannot be asked.

        The server process is looked up by its number: while it is still in the transaction that it
        was in when first asked, nothing is decided.
        """
        if profile is None or profile.pid is None:
            return None
        pid = profile.pid
        seen: list[str] = []

        def ask() -> bool:
            with self._asker().connect() as connection:
                now = connection.execute(_IN_TRANSACTION, {"pid": pid}).scalar()
            if now is None:
                return True
            if not seen:
                seen.append(now)
            return bool(now != seen[0])

        return ask

    def _asker(self) -> Engine:
        # Called from a thread of the store: an engine of our own, blocking, that holds nothing.
        if self._asking is None:
            self._asking = _blocking_twin(self._engine)
        return self._asking


def is_aborted(dbapi_connection: Any) -> bool:
    """Whether the driver knows that the transaction has failed already and can only end."""
    return _status(dbapi_connection) == "INERROR"


def is_ended(dbapi_connection: Any) -> bool:
    """Whether the driver knows that no transaction is open."""
    return _status(dbapi_connection) == "IDLE"


def _status(dbapi_connection: Any) -> str:
    """What the driver has seen of the transaction; IDLE and INERROR mean the connection stands."""
    driver: Any = getattr(dbapi_connection, "driver_connection", None)
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    name: str = getattr(status, "name", "")
    return name


def _blocking_twin(engine: Engine) -> Engine:
    """An engine that reaches the same server from a thread, whatever the first was made with."""
    if not engine.dialect.is_async:
        # Its own way to connect: connect_args, creator and do_connect listeners included.
        return create_engine(engine.url, pool=NullPool(engine.pool._creator))
    url = engine.url.set(drivername="postgresql+psycopg")
    arguments = {"connect_timeout": _CONNECT_TIMEOUT}
    return create_engine(url, poolclass=NullPool, connect_args=arguments)
