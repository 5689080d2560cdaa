"""Which errors say that the database cannot be reached, as against: it refuses a statement."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

# SQLSTATE classes and codes: connection exceptions, the server going down or coming up, no
# resources left. All other codes are answers, so a database that could be asked gave them.
_DOWN: Final = ("08", "57P01", "57P02", "57P03", "57P05", "53")
# SQLite says what happened by name. "No such table" and "locked" are answers too.
_SQLITE_DOWN: Final = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL")


def database_is_down(error: BaseException) -> bool:
    """Whether the database could not be reached: the error of a lost or refused connection.

    A statement that was cancelled, timed out in the server or lost a deadlock is not an outage.
    """
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        if not isinstance(error, OperationalError | InterfaceError) or error.orig is None:
            return False
        return _says_down(error.orig)
    return isinstance(error, OSError) or (_is_operational(error) and _says_down(error))


def _says_down(error: BaseException) -> bool:
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(code, str):
        return code.startswith(_DOWN)
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return name.startswith(_SQLITE_DOWN)
    # No server has numbered it, so none was reached.
    return True


def _is_operational(error: BaseException) -> bool:
    """A driver's own OperationalError or InterfaceError, of whichever driver (PEP 249)."""
    names = {each.__name__ for each in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError"})
