"""The two moments of a write: intents just before the DBAPI's COMMIT, settle just after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import tuple_
from sqlalchemy.engine import Connection, Dialect

from cachedorm.observe import Observer
from cachedorm.orm.doubt import Doubts
from cachedorm.orm.interest import KeyInterest
from cachedorm.orm.ledger import Ledger, ledger_if_any
from cachedorm.orm.plan import EntityPlan
from cachedorm.orm.affected import OWN
from cachedorm.orm.refresh import Refreshes
from cachedorm.orm.sqleffect import Ending
from cachedorm.store.slots import Offer, Touched
from cachedorm.store.store import Intent, Store

_METHODS = (
    "do_commit",
    "do_rollback",
    "do_prepare_twophase",
    "do_commit_twophase",
    "do_rollback_twophase",
)


class Commits:
    """Tells the store of the commits of one engine's connections."""

    __slots__ = ("_doubts", "_everything", "_observer", "_plan", "_prepared", "_store", "refresh")

    def __init__(
        self,
        store: Store,
        doubts: Doubts,
        observer: Observer,
        plan: Callable[[KeyInterest], EntityPlan | None],
        everything: Callable[[Ledger], None],
        refresh: Callable[[Refreshes], None],
    ) -> None:
        # Fills queries anew, after settle; never raises.
        self.refresh = refresh
        self._store = store
        self._doubts = doubts
        self._observer = observer
        self._plan = plan
        self._everything = everything
        # Transactions prepared here and not yet ended, by their xid.
        self._prepared: dict[Any, tuple[Touched, Intent]] = {}

    def wrap(self, dialect: Dialect) -> None:
        """Pass this dialect instance's commits and rollbacks through here."""
        instance: Any = dialect
        for name in _METHODS:
            setattr(instance, name, getattr(self, "_" + name)(getattr(instance, name)))

    def unwrap(self, dialect: Dialect) -> None:
        """Give the dialect instance its class's methods back."""
        instance: Any = dialect
        for name in _METHODS:
            instance.__dict__.pop(name, None)

    def _do_commit(self, commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_commit(dbapi_connection: Any) -> None:
            ledger = ledger_if_any(dbapi_connection)
            if ledger is None or ledger.prepared:
                commit(dbapi_connection)
                return
            self._around(ledger, dbapi_connection, lambda: commit(dbapi_connection))

        do_commit.cachedorm_owner = self  # type: ignore[attr-defined]
        return do_commit

    def _around(self, ledger: Ledger, dbapi_connection: Any, commit: Callable[[], None]) -> None:
        """Commit between intent and settle. What is raised is the database's own error."""
        if not ledger.touched:
            commit()
            ledger.reset()
            return
        intent = ledger.intent = self._store.intend(ledger.touched, tuple(ledger.values))
        try:
            commit()
        except BaseException as error:
            ledger.intent = None
            if self._doubts.is_open(error, dbapi_connection):
                self._keep(intent, dbapi_connection, ledger)
                ledger.touched = Touched()
            else:
                self._store.settle(intent, {})
            raise
        values, refreshes = ledger.values, ledger.refreshes
        ledger.reset()
        self._store.settle(intent, values)
        self.refresh(refreshes)

    def _keep(self, intent: Intent, dbapi_connection: Any, ledger: Ledger) -> None:
        self._store.keep(intent, self._doubts.decided(dbapi_connection, ledger.profile))

    def _do_rollback(self, rollback: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_rollback(dbapi_connection: Any) -> None:
            ledger = ledger_if_any(dbapi_connection)
            try:
                rollback(dbapi_connection)
            finally:
                if ledger is not None and not ledger.prepared:
                    self._dropped(ledger)

        return do_rollback

    def _dropped(self, ledger: Ledger) -> None:
        """Nothing was written after all: uncover what an intent hides, and forget."""
        intent = ledger.intent
        ledger.reset()
        if intent is not None:
            self._store.settle(intent, {})

    def _do_prepare_twophase(self, prepare: Callable[..., None]) -> Callable[..., None]:
        def do_prepare_twophase(connection: Connection, xid: Any) -> None:
            ledger = ledger_if_any(connection)
            if ledger is not None and ledger.touched:
                intent = ledger.intent = self._store.intend(ledger.touched, ())
                self._prepared[xid] = (ledger.touched, intent)
            if ledger is not None:
                ledger.prepared = True
            prepare(connection, xid)

        return do_prepare_twophase

    def _do_commit_twophase(self, commit: Callable[..., None]) -> Callable[..., None]:
        def do_commit_twophase(
            connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
        ) -> None:
            ledger = ledger_if_any(connection)
            if ledger is None:
                commit(connection, xid, is_prepared, recover)
                return
            self._load_prepared(ledger, xid, is_prepared)
            ledger.prepared = True  # the dialect's own rollbacks inside are not the end
            try:
                self._around(
                    ledger,
                    connection.connection,
                    lambda: commit(connection, xid, is_prepared, recover),
                )
            finally:
                ledger.prepared = False
            self._prepared.pop(xid, None)

        return do_commit_twophase

    def _load_prepared(self, ledger: Ledger, xid: Any, is_prepared: bool) -> None:
        """What was prepared elsewhere is not known here: everything."""
        if not is_prepared:
            return
        known = self._prepared.get(xid)
        if known is None:
            if not ledger.touched and not ledger.prepared:
                self._everything(ledger)
        elif ledger.touched is not known[0]:
            ledger.touched.update(known[0])

    def _do_rollback_twophase(self, rollback: Callable[..., None]) -> Callable[..., None]:
        def do_rollback_twophase(
            connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
        ) -> None:
            ledger = ledger_if_any(connection)
            if ledger is not None:
                ledger.prepared = True
            try:
                rollback(connection, xid, is_prepared, recover)
            finally:
                known = self._prepared.pop(xid, None)
                if ledger is not None:
                    self._dropped(ledger)
                if known is not None and (ledger is None or ledger.intent is not known[1]):
                    self._store.settle(known[1], {})

        return do_rollback_twophase

    def before_autocommit(self, ledger: Ledger) -> None:
        """The statement that is about to run commits by itself."""
        if ledger.touched and ledger.intent is None:
            ledger.intent = self._store.intend(ledger.touched, ())

    def after_autocommit(self, ledger: Ledger) -> None:
        """The statement has run and is committed."""
        intent, touched, refreshes = ledger.intent, ledger.touched, ledger.refreshes
        ledger.reset()
        if intent is not None:
            self._store.settle(intent, {})
        if touched and (intent is None or touched is not intent.touched):
            self._store.invalidate(touched)
        self.refresh(refreshes)

    def failed_autocommit(
        self, ledger: Ledger, error: BaseException, connection: Connection
    ) -> None:
        """The statement failed; whether it was committed may be open."""
        if self._doubts.is_open(error, connection.connection):
            intent, ledger.intent = ledger.intent, None
            assert intent is not None
            self._keep(intent, connection.connection, ledger)
            ledger.reset()
        else:
            self._dropped(ledger)

    def before_text(self, ledger: Ledger, ending: Ending) -> None:
        """A transaction is ended by SQL text, past the DBAPI's own commit."""
        # It may go on after all, and a refresh would then wait for its locks.
        ledger.refreshes = Refreshes()
        if ending in ("commit prepared", "rollback prepared"):
            self._everything(ledger)
        self.before_autocommit(ledger)

    def read_new_rows(self, connection: Connection, ledger: Ledger) -> None:
        """Read the rows that a write-through is to put in place, just before their COMMIT.

        They are locked by our own writes, so nobody else changes them before we commit.
        """
        for interest, keys in ledger.through.items():
            plan = self._plan(interest)
            if plan is None:
                continue
            columns = interest.columns
            found = (
                columns[0].in_([values[0] for values in keys.values()])
                if len(columns) == 1
                else tuple_(*columns).in_(list(keys.values()))
            )
            statement = plan.root.statement.where(found)
            for values in connection.execute(statement, execution_options=OWN):
                row = (plan.root, tuple(values))
                key = plan.key([plan.root.value(row[1], field) for field in plan.fields])
                ttl_ms = plan.ttl_of(row)
                ledger.values[Offer(interest.db, key)] = (row, ttl_ms)


def owner_of(dialect: Dialect) -> Commits | None:
    """Whose wrapping this dialect instance wears, or None."""
    found: Commits | None = getattr(dialect.do_commit, "cachedorm_owner", None)
    return found
