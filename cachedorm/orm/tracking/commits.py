"""The two moments of a write: intents just before the DBAPI's COMMIT, settle just after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Dialect

from cachedorm.orm.database.commit_outcome import CommitOutcomes, is_ended
from cachedorm.orm.sql.effect import Effect
from cachedorm.orm.tracking.ledger import Ledger, ledger_at, ledger_if_any
from cachedorm.orm.tracking.refresh_requests import Refreshes
from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.intent import Intent
from cachedorm.store.store import Store


class Commits:
    """Notify the store of the commits of one engine's connections.

    ``check_open`` raises once the Cache is closed: a commit whose invalidation cannot be sent
    must fail, or others would read the old rows.
    """

    __slots__ = ("_before", "_check_open", "_refresh", "doubts", "everything", "store")

    def __init__(
        self,
        store: Store,
        doubts: CommitOutcomes,
        check_open: Callable[[], None],
        everything: Callable[[Ledger], None],
        refresh: Callable[[Refreshes], None],
    ) -> None:
        self.store = store
        self.doubts = doubts
        self.everything = everything
        # Fills queries again, after settle; never raises.
        self._refresh = refresh
        self._check_open = check_open
        self._before: dict[str, Any] = {}

    def wrap(self, dialect: Dialect) -> None:
        """Pass this dialect instance's commits and rollbacks through here."""
        self._before = remember(dialect, ("do_commit", "do_rollback"))
        instance: Any = dialect
        instance.do_commit = self._do_commit(instance.do_commit)
        instance.do_rollback = self._do_rollback(instance.do_rollback)

    def unwrap(self, dialect: Dialect) -> None:
        """Leave the dialect instance as it was."""
        restore(dialect, self._before)

    def intend(self, ledger: Ledger) -> Intent:
        """Hide what the ledger's transaction touched, which is about to be committed."""
        if ledger.touched:
            self._check_open()
        return self.store.intend(ledger.touched, tuple(ledger.values), ledger.tables)

    def commit_with_intent(
        self,
        ledger: Ledger,
        dbapi_connection: Any,
        commit: Callable[[], None],
        intent: Intent | None = None,
    ) -> None:
        """Commit between intent and settle. What is raised is the database's own error."""
        if not ledger.touched and not ledger.tables:
            commit()
            ledger.reset()
            return
        try:
            ledger.intent = intent if intent is not None else self.intend(ledger)
        except Exception:
            give_up(dbapi_connection, ledger)
            raise
        try:
            commit()
        except BaseException as error:
            self.failed(ledger, error, dbapi_connection)
            ledger.reset()  # no rollback follows: to SQLAlchemy the transaction has ended
            raise
        intent, values, refreshes = ledger.intent, ledger.values, ledger.refreshes
        ledger.reset()
        self.store.settle(intent, values)
        if refreshes is not None:
            self._refresh(refreshes)

    def failed(self, ledger: Ledger, error: BaseException, dbapi_connection: Any) -> None:
        """A COMMIT failed: uncover what its intent hides, unless it may be committed yet."""
        intent, ledger.intent = ledger.intent, None
        if intent is None:
            return
        if self.doubts.is_open(error, dbapi_connection):
            self.store.keep(intent, self.doubts.decided(ledger.profile))
            ledger.touched, ledger.tables = Touched(), Written()
        else:
            self.store.settle(intent, {})

    def dropped(self, ledger: Ledger) -> None:
        """Nothing was written after all: uncover what an intent hides, and forget."""
        intent = ledger.intent
        ledger.reset()
        if intent is not None:
            self.store.settle(intent, {})

    def _do_commit(self, commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_commit(dbapi_connection: Any) -> None:
            ledger = ledger_at(dbapi_connection)
            if ledger is None or ledger.suspended:
                commit(dbapi_connection)
            else:
                if ledger.profile is None:
                    # Attached while this transaction was open, so its writes are unknown.
                    self.everything(ledger)
                self.commit_with_intent(ledger, dbapi_connection, partial(commit, dbapi_connection))

        do_commit.cachedorm_owner = self  # type: ignore[attr-defined]
        return do_commit

    def _do_rollback(self, rollback: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_rollback(dbapi_connection: Any) -> None:
            ledger = ledger_if_any(dbapi_connection)
            if ledger is not None and ledger.touched and is_ended(dbapi_connection):
                # Perhaps by a COMMIT that went past us, to the driver itself.
                self.after_autocommit(ledger)
            try:
                rollback(dbapi_connection)
            finally:
                if ledger is not None and not ledger.suspended:
                    self.dropped(ledger)

        return do_rollback

    def before_autocommit(self, ledger: Ledger) -> None:
        """The statement that is about to run commits by itself (AUTOCOMMIT)."""
        if (ledger.touched or ledger.tables) and ledger.intent is None:
            ledger.intent = self.intend(ledger)

    def after_autocommit(self, ledger: Ledger) -> None:
        """The statement has run and is committed."""
        intent, touched, refreshes = ledger.intent, ledger.touched, ledger.refreshes
        ledger.reset()
        if intent is not None:
            self.store.settle(intent, {})  # all that was touched since as well
        elif touched:
            self.store.invalidate(touched)
        if refreshes is not None:
            self._refresh(refreshes)

    def before_ending(self, ledger: Ledger, effect: Effect) -> None:
        """The SQL text that is about to run ends the transaction, past the DBAPI's own commit."""
        ledger.ending_effect = effect
        # The transaction may go on after all, and a refresh would then wait for its locks.
        ledger.refreshes = None
        # PREPARE TRANSACTION does not show its rows yet; COMMIT PREPARED touches everything.
        if effect.ends_transaction in ("commit", "commit prepared", "perhaps"):
            self.before_autocommit(ledger)

    def after_ending(self, ledger: Ledger) -> None:
        """The text has run."""
        effect, intent = ledger.ending_effect, ledger.intent
        assert effect is not None
        if effect.ends_transaction == "perhaps" or effect.begins:
            # Part of what was touched may be uncommitted still: it stays touched.
            ledger.ending_effect = ledger.intent = None
            ledger.text_transaction_open = ledger.autocommits and effect.begins
        else:
            ledger.reset()
        if intent is not None:
            self.store.settle(intent, {})

    def failed_alone(self, ledger: Ledger, error: BaseException, connection: Connection) -> None:
        """A statement that commits by itself, or a text that ends the transaction, failed."""
        ledger.ending_effect, ledger.text_transaction_open = None, False
        self.failed(ledger, error, connection.connection)


def give_up(dbapi_connection: Any, ledger: Ledger) -> None:
    """Roll back a transaction whose COMMIT will not be sent.

    SQLAlchemy takes it for ended whatever is raised there, and would hand the connection to the
    next caller with the transaction still open.
    """
    try:
        dbapi_connection.rollback()
    except Exception:  # noqa: BLE001 - the first error is the one that the caller gets
        dbapi_connection.invalidate()
    ledger.reset()


def remember(dialect: Dialect, names: Iterable[str]) -> dict[str, Any]:
    """What the instance itself has under these names; None: its class's."""
    return {name: dialect.__dict__.get(name) for name in names}


def restore(dialect: Dialect, before: Mapping[str, Any]) -> None:
    """Give the instance back what it had."""
    for name, method in before.items():
        if method is None:
            dialect.__dict__.pop(name, None)
        else:
            setattr(dialect, name, method)


def owner_of(dialect: Dialect) -> Commits | None:
    """Whose wrapping this dialect instance wears, or None."""
    found: Commits | None = getattr(dialect.do_commit, "cachedorm_owner", None)
    return found
