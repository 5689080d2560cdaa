"""The ledger of one database connection: what its open transaction wrote and affected.

It hangs on the connection, not on the session, since sessions and Core share connections. A
savepoint that is rolled back may leave its marks (too much is safe); COMMIT and ROLLBACK end it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, Dialect

from cachedorm.orm.database.catalog import NO_FACTS
from cachedorm.orm.database.profile import Profile
from cachedorm.orm.interest.tables import ColumnValues, Interests, KeyInterest, TableInterest
from cachedorm.orm.sql.effect import Effect
from cachedorm.orm.tracking.affected_rows import AFFECTED_ROWS_MAX
from cachedorm.orm.tracking.refresh_requests import Refreshes
from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.intent import Intent

_WHERE = "cachedorm.ledger"


class Ledger:
    """What the open transaction of one connection wrote."""

    __slots__ = (
        "_rows",
        "autocommits",
        "begun_by",
        "ending_effect",
        "facts",
        "inserted",
        "intent",
        "pending",
        "profile",
        "recorded",
        "refreshes",
        "session_state_persists",
        "state_unknown",
        "suspended",
        "tables",
        "text_transaction_open",
        "through",
        "touched",
        "values",
        "written",
    )

    def __init__(self) -> None:
        self.profile: Profile | None = None
        # What the catalogue says of partitions, views and other tables that are not plain.
        self.facts = NO_FACTS
        # Each statement is a transaction of its own, by SQLAlchemy's or the driver's setting.
        # Neither can change while a transaction is open, so it is asked when one begins.
        self.autocommits = False
        # Whose tracker saw the newest transaction of this connection begin.
        self.begun_by: object = None
        # A SET outlives its transaction, and the connection goes back to the pool with it.
        self.session_state_persists = False
        # The dialect's own statements and rollbacks within PREPARE and COMMIT PREPARED pass.
        self.suspended = False
        self.reset()

    def reset(self) -> None:
        """Forget the transaction, which has ended."""
        self.touched = Touched()
        # The tables written, cached here or not: others may cache them.
        self.tables = Written()
        self.written = False
        # The state of the session on the server may have changed (SET ROLE, SQL not understood).
        self.state_unknown = self.session_state_persists
        # BEGIN as SQL text, on a connection that otherwise commits each statement.
        self.text_transaction_open = False
        # The SQL text that is running ends the transaction.
        self.ending_effect: Effect | None = None
        self.intent: Intent | None = None
        # Statements between their before_execute and after_execute.
        self.pending: dict[int, Any] = {}
        # Those of them that are recorded; it holds them, so that no other can have their id.
        self.recorded: dict[int, Any] = {}
        # What the database counted of the newest INSERT; its result does not keep it.
        self.inserted = -1
        # Rows that a write-through may put in place at commit: key text -> values of its columns.
        # We wrote them, so they are locked: no other transaction changes them before we commit.
        self.through: dict[KeyInterest, dict[str, tuple[Any, ...]]] = {}
        # New values, read just before COMMIT.
        self.values: dict[Any, Any] = {}
        # Answers to fill again after the commit.
        self.refreshes: Refreshes | None = None
        self._rows: dict[TableInterest, int] = {}

    def touch(self, interest: TableInterest, row: ColumnValues, dialect: Dialect) -> None:
        """This row of a followed table changed: mark its entries, or the table if it is one of
        too many."""
        if interest.refreshed:
            self._refreshes().note_row(interest.refreshed, row)
        count = self._rows.get(interest, 0) + 1
        self._rows[interest] = count
        if count > AFFECTED_ROWS_MAX:
            interest.touch_all(self.touched)
        else:
            interest.touch(self.touched, row, dialect)

    def offer(self, interest: TableInterest, row: ColumnValues, dialect: Dialect) -> None:
        """This row was written for certain: its new values may take the place of the old."""
        if interest.through and self._rows.get(interest, 0) <= AFFECTED_ROWS_MAX:
            for key_interest, key, values in interest.offers(row, dialect):
                self.through.setdefault(key_interest, {})[key] = values

    def unlock(self) -> None:
        """A savepoint was rolled back, and with it went the locks on rows written since."""
        self.through.clear()

    def touch_all(self, interest: TableInterest) -> None:
        """Mark the whole table: it is not known which of its rows changed."""
        if interest.refreshed:
            self._refreshes().note_table(interest.refreshed)
        interest.touch_all(self.touched)

    def touch_everything(self, interests: Interests) -> None:
        """Mark every table: it is not known which of them changed."""
        interests.touch_everything(self.touched)
        self.tables.add_everything(interests.known)

    def wrote(self, interests: Interests, table: Table) -> None:
        """Rows of this table, and of those that the database writes along with it, changed."""
        self.tables.add(interests.written_with(table), interests.known)

    def wrote_named(self, interests: Interests, schema: str | None, name: str) -> None:
        """Rows of the table of this name changed; it need not be mapped here."""
        self.tables.add((interests.named(schema, name),), interests.known)

    def _refreshes(self) -> Refreshes:
        if self.refreshes is None:
            self.refreshes = Refreshes()
        return self.refreshes

    def __repr__(self) -> str:
        unknown = self.state_unknown
        return f"<Ledger written={self.written} state_unknown={unknown} touched={self.touched}>"


def ledger_of(connection: Connection) -> Ledger:
    """The ledger of this connection, made if it has none."""
    info = connection.info
    ledger: Ledger | None = info.get(_WHERE)
    if ledger is None:
        ledger = info[_WHERE] = Ledger()
    return ledger


def ledger_at(dbapi_connection: Any) -> Ledger | None:
    """The ledger of a pooled DBAPI connection, made if it has none; None if it can have none."""
    try:
        info = dbapi_connection.info
    except Exception:  # noqa: BLE001 - an engine's very first connection
        return None
    if not isinstance(info, dict):
        return None
    ledger: Ledger | None = info.get(_WHERE)
    if ledger is None:
        ledger = info[_WHERE] = Ledger()
    return ledger


def ledger_if_any(holder: Any) -> Ledger | None:
    """The ledger of a Connection or pooled DBAPI connection, or None if it has none.

    While an engine makes its first connection there is a holder whose ``info`` raises.
    """
    try:
        ledger: Ledger | None = holder.info.get(_WHERE)
    except Exception:  # noqa: BLE001 - whatever it raises, it has no ledger
        return None
    return ledger
