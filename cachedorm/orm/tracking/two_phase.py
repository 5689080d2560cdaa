"""Two-phase commits: intents at PREPARE, settled at COMMIT PREPARED by the same process.

A prepared transaction belongs to no connection: any connection may end it, even one of another
process. That process cannot know what was written, and invalidates every tracked table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection, Dialect

from cachedorm.orm.tracking.commits import Commits, remember, restore
from cachedorm.orm.tracking.ledger import Ledger, ledger_of
from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.intent import Intent

# So begin the names that SQLAlchemy makes, which no two transactions share.
_RANDOM = "_sa_"
_METHODS = ("do_prepare_twophase", "do_commit_twophase", "do_rollback_twophase")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a transaction prepared here wrote, and the intent that hides it (None: no more)."""

    touched: Touched
    tables: Written
    intent: Intent | None
    at: float = field(default_factory=time.monotonic)

    def hides(self) -> Intent | None:
        """Its intent, if that will stand long enough for a COMMIT PREPARED now."""
        intent = self.intent
        if intent is None or not intent.placed:
            return None
        return intent if (time.monotonic() - self.at) * 2000 < intent.intent_ms else None


class TwoPhase:
    """Notify the store of the two-phase commits of one engine's connections."""

    __slots__ = ("_before", "_commits", "_prepared")

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._before: dict[str, Any] = {}
        # Transactions prepared here and not yet ended, by their xid.
        self._prepared: dict[str, Prepared] = {}

    def wrap(self, dialect: Dialect) -> None:
        """Pass this dialect instance's two-phase methods through here."""
        self._before = remember(dialect, _METHODS)
        instance: Any = dialect
        for name in _METHODS:
            setattr(instance, name, getattr(self, "_" + name)(getattr(instance, name)))

    def unwrap(self, dialect: Dialect) -> None:
        """Leave the dialect instance as it was."""
        restore(dialect, self._before)

    def _do_prepare_twophase(self, prepare: Callable[..., None]) -> Callable[..., None]:
        def do_prepare_twophase(connection: Connection, xid: Any) -> None:
            ledger = ledger_of(connection)
            touched, tables = ledger.touched, ledger.tables
            wrote = touched or tables
            intent = ledger.intent = self._commits.intend(ledger) if wrote else None
            self._prepared[str(xid)] = Prepared(touched, tables, intent)
            try:
                with _suspended(ledger):
                    prepare(connection, xid)
            except BaseException as error:
                self._commits.failed(ledger, error, connection.connection)
                raise
            # From here on the connection has no transaction.
            ledger.reset()

        return do_prepare_twophase

    def _do_commit_twophase(self, commit: Callable[..., None]) -> Callable[..., None]:
        def do_commit_twophase(
            connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
        ) -> None:
            ledger = ledger_of(connection)
            known = self._recall(ledger, xid, recover=recover) if is_prepared else None
            intent = known.hides() if known is not None else None
            with _suspended(ledger):
                self._commits.commit_with_intent(
                    ledger,
                    connection.connection,
                    lambda: commit(connection, xid, is_prepared, recover),
                    intent,
                )
            self._forget(xid, already=intent)

        return do_commit_twophase

    def _recall(self, ledger: Ledger, xid: Any, *, recover: bool) -> Prepared | None:
        """Load what was prepared into the ledger; None if it is unknown.

        A name that the application chose may stand for another transaction by now: ours ended
        elsewhere, and theirs prepared.
        """
        known = self._prepared.get(str(xid))
        if known is None or (recover and not str(xid).startswith(_RANDOM)):
            self._commits.everything(ledger)
            return None
        ledger.touched, ledger.tables = known.touched, known.tables
        return known

    def _do_rollback_twophase(self, rollback: Callable[..., None]) -> Callable[..., None]:
        def do_rollback_twophase(
            connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
        ) -> None:
            ledger = ledger_of(connection)
            try:
                with _suspended(ledger):
                    rollback(connection, xid, is_prepared, recover)
            finally:
                self._commits.dropped(ledger)
            self._forget(xid)

        return do_rollback_twophase

    def _forget(self, xid: Any, already: Intent | None = None) -> None:
        """Forget an ended transaction, and settle its intent unless that is done ``already``."""
        known = self._prepared.pop(str(xid), None)
        if known is not None and known.intent is not None and known.intent is not already:
            self._commits.store.settle(known.intent, {})


@contextmanager
def _suspended(ledger: Ledger) -> Iterator[None]:
    """Ignore what the dialect itself executes: it is not part of the caller's transaction."""
    ledger.suspended = True
    try:
        yield
    finally:
        ledger.suspended = False
