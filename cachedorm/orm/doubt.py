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

from cachedorm.orm.profile import Profile

# Classes of SQLSTATE under which the server may have gone on without us: 08 connection, 57P shutdown.
_OPEN_STATES = ("08", "57P", "XX")
_IN_TRANSACTION = text(
    "SELECT backend_start::text || ' ' || coalesce(xact_start::text, '')"
    " FROM pg_stat_activity WHERE pid = :pid AND xact_start IS NOT NULL"
)


class Doubts:
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
        return not _is_over(dbapi_connection)

    def decided(self, dbapi_connection: Any, profile: Profile | None) -> Callable[[], bool] | None:
        """A question to ask until it says True; None where it cannot be asked.

        The server process is looked up by its number: while it is still in the transaction that it
        was in when first asked, nothing is decided.
        """
        if profile is None or profile.pid is None:
            return None
        pid, seen = profile.pid, []

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
        # Called from a thread of the store: an engine of our own, blocking, that keeps nothing open.
        if self._asking is None:
            url = self._engine.url
            if url.get_backend_name() == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            self._asking = create_engine(url, poolclass=NullPool)
        return self._asking


def _is_over(dbapi_connection: Any) -> bool:
    """Whether the driver has seen the transaction end and the connection still stands."""
    driver: Any = getattr(dbapi_connection, "driver_connection", None)
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    return getattr(status, "name", "") in ("IDLE", "INERROR")
