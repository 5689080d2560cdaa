"""Which errors are an outage of the database, and which are its answers."""

from __future__ import annotations

import sqlite3

import psycopg
import psycopg.errors
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from cachedorm.orm.database.outages import database_is_down


def wrapped(kind: type[DBAPIError], error: Exception, *, lost: bool = False) -> DBAPIError:
    return kind("select 1", {}, error, connection_invalidated=lost)


def sqlite(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("unable")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        psycopg.OperationalError("connection failed"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.InterfaceError("the connection is closed"),
        wrapped(OperationalError, psycopg.OperationalError("connection failed")),
        wrapped(OperationalError, psycopg.errors.AdminShutdown("terminating connection")),
        wrapped(OperationalError, psycopg.errors.CannotConnectNow("starting up")),
        wrapped(OperationalError, psycopg.errors.TooManyConnections("too many clients")),
        wrapped(OperationalError, psycopg.errors.ConnectionFailure("gone")),
        wrapped(InterfaceError, psycopg.InterfaceError("the connection is closed")),
        wrapped(DBAPIError, Exception("server closed the connection"), lost=True),
        wrapped(OperationalError, sqlite("SQLITE_CANTOPEN")),
        wrapped(OperationalError, sqlite("SQLITE_IOERR_READ")),
    ],
)
def test_outages(error: BaseException) -> None:
    assert database_is_down(error)


@pytest.mark.parametrize(
    "error",
    [
        LookupError("no such column"),
        psycopg.errors.UndefinedTable("no such table"),
        wrapped(OperationalError, psycopg.errors.QueryCanceled("statement timeout")),
        wrapped(OperationalError, psycopg.errors.DeadlockDetected("deadlock")),
        wrapped(OperationalError, psycopg.errors.LockNotAvailable("lock timeout")),
        wrapped(OperationalError, psycopg.errors.SerializationFailure("retry")),
        wrapped(IntegrityError, psycopg.errors.UniqueViolation("duplicate")),
        wrapped(OperationalError, sqlite("SQLITE_ERROR")),
        wrapped(OperationalError, sqlite("SQLITE_BUSY")),
        psycopg.errors.QueryCanceled("statement timeout"),
    ],
)
def test_answers(error: BaseException) -> None:
    assert not database_is_down(error)
