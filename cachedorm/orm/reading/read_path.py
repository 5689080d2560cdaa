"""The shared read path: decide whether a read may use the cache, then look up or fill its entry.

The rules of bypassing keep a session's view its own: what it wrote, and what its transaction sees.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import _SessionCloseState
from sqlalchemy.util.concurrency import in_greenlet

from cachedorm.observe import Observer
from cachedorm.orm.database.compat import session_binds, session_options
from cachedorm.orm.database.profile import Profile, isolation_of
from cachedorm.orm.mapping.source import Sourced
from cachedorm.orm.tracking.engine import EngineTracker
from cachedorm.orm.tracking.ledger import Ledger, ledger_if_any
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.entries.provenance import current, refuse
from cachedorm.store.protocol.keys import EntryKey

# The tracker of an engine; None if no Cache follows it.
TrackerOf = Callable[[Engine], EngineTracker | None]
# Reads the database: the value, and whether it may be kept.
Load = Callable[[Connection], tuple[Any, bool]]

_CLOSED = _SessionCloseState.CLOSED


class ReadSwitch:
    """Whether the reads of one Cache may use it now: the Cache sets it, every read looks at it."""

    __slots__ = ("bypassing", "closed", "enabled")

    def __init__(self) -> None:
        self.closed = False
        # The kill switch.
        self.enabled = True
        # Set within ``bypass()``, for the caller's context alone.
        self.bypassing: ContextVar[bool] = ContextVar("cachedorm_bypass", default=False)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "enabled" if self.enabled else "disabled"
        return f"<ReadSwitch {state}>"


class ReadPath:
    """The rules and the steps that every cached read of one Cache goes through."""

    __slots__ = ("_switch", "_tracker_of", "observer")

    def __init__(self, tracker_of: TrackerOf, switch: ReadSwitch, observer: Observer) -> None:
        self._tracker_of = tracker_of
        self._switch = switch
        self.observer = observer

    def why_bypass(self, session: Session, plan: Sourced) -> str | None:
        """The reason why the database must answer this session's next read, or None.

        Sends no SQL, and opens no connection if the session has none.
        """
        switch = self._switch
        if switch.closed:
            return "closed"
        if not switch.enabled or switch.bypassing.get():
            return "disabled"
        reason = _why_session(session)
        if reason is not None:
            return reason
        # Whether another engine than ``session.bind`` may answer.
        routed = type(session).get_bind is not Session.get_bind or session_binds(session)
        if session._transaction is not None:
            connected, reason = self._why_connected(session._transaction, plan)
            if reason is not None or (connected and not routed):
                return reason
        bind: Any = session.bind
        if routed or not bind:
            bind = session.get_bind() if plan.mapper is None else session.get_bind(plan.mapper)
        if isinstance(bind, Connection):
            return _why_connection(bind, plan, self._tracker_of)
        return _why_engine(bind, plan, self._tracker_of)

    def count_bypass(self, region: str, reason: str) -> None:
        """Count a read that goes past the cache, and refuse it to a response that records."""
        self.observer.bypass(region, reason)
        refuse("past the cache", reason)

    def publishes(self, connection: Connection, source: Sourced) -> bool:
        """Whether what was read on this connection may be published."""
        return why_not_publish(connection, source, self._tracker_of) is None

    def entry(
        self,
        session: Session,
        source: Sourced,
        region: CachedRegion,
        key: EntryKey,
        load: Load,
    ) -> Any:
        """The entry's value: the cached one, or what is loaded now and published."""
        return region.fetch(
            key,
            lambda: self._loaded(session, source, load),
            lambda: holds_connection(session),
        )

    def _loaded(self, session: Session, source: Sourced, load: Load) -> Loaded:
        bind: Any = {} if source.mapper is None else {"mapper": source.mapper}
        connection = session.connection(bind_arguments=bind)
        value, keep = load(connection)
        return Loaded(value, None, keep and self.publishes(connection, source))

    def _why_connected(self, transaction: Any, plan: Sourced) -> tuple[bool, str | None]:
        """Whether the transaction has connections, and why one of them must not serve, or None."""
        connections = _connections(transaction)
        for connection in connections:
            reason = _why_connection(connection, plan, self._tracker_of)
            if reason is not None:
                return True, reason
        return bool(connections), None


def note_session(session: Session) -> None:
    """Refuse a recorded response whose session may hold older objects.

    Objects that are in it already are served as they are, and no recorded read has seen them.
    """
    provenance = current()
    if provenance is not None:
        provenance.note_session(session)


def _why_session(session: Session) -> str | None:
    private: Any = session
    if private._new or private._deleted or private.identity_map._modified:
        return "unflushed changes"
    if session_options(session):
        return "session execution options"
    if len(session.dispatch.do_orm_execute) > 1:
        return "own do_orm_execute listener"
    if len(session.dispatch.after_begin) > 1:
        # It may SET a role or a search path, and a hit begins no transaction.
        return "own after_begin listener"
    if private._transaction is None:
        if not session.autobegin or private._close_state is _CLOSED:
            return "no transaction begun"
    elif not private._transaction.is_active:
        return "inactive transaction"
    return None


def why_not_publish(connection: Connection, plan: Sourced, tracker_of: TrackerOf) -> str | None:
    """The reason why rows read on this connection must not be published, or None."""
    return _why_connection(connection, plan, tracker_of, fresh=True)


def holds_connection(session: Session) -> bool:
    """Whether the session holds a database connection, which others may be waiting for."""
    transaction: Any = session._transaction
    return transaction is not None and bool(_connections(transaction))


def _connections(transaction: Any) -> list[Connection]:
    # Nested transactions share the connections of their root; it alone lists them all.
    while transaction.parent is not None:
        transaction = transaction.parent
    # By connection and by engine: each is listed twice.
    found: dict[int, Connection] = {}
    for entry in transaction._connections.values():
        found[id(entry[0])] = entry[0]
    return list(found.values())


def _why_engine(engine: Engine, plan: Sourced, tracker_of: TrackerOf) -> str | None:
    tracker = tracker_of(engine)
    if tracker is None:
        return "engine not followed"
    if engine.dialect.is_async and _is_outside_greenlet():
        return "outside of a greenlet"
    if tracker.profile is None:
        tracker.know()
    profile = tracker.profile
    assert profile is not None
    if tracker.replica or not tracker.publish:
        return "replica"
    if not plan.is_from(profile):
        return "another database or search path"
    level = tracker.isolation
    options = engine.get_execution_options()
    if options:
        if options.get("schema_translate_map"):
            return "schema_translate_map"
        level = options.get("isolation_level") or level
    if profile.reads_old(level):
        return "isolation level"
    facts = tracker.facts
    return facts.why_refused(plan.tables) if facts.refused else None


def _why_connection(
    connection: Connection, plan: Sourced, tracker_of: TrackerOf, *, fresh: bool = False
) -> str | None:
    ledger: Ledger | None = ledger_if_any(connection)
    if ledger is None or ledger.profile is None:
        return "connection not followed"
    if ledger.written:
        return "own writes"
    if ledger.state_unknown:
        return "changed session state"
    if ledger.profile.snapshot and not fresh:
        return "open snapshot"
    tracker = tracker_of(connection.engine)
    if tracker is None:
        return "engine not followed"
    if connection.dialect.is_async and _is_outside_greenlet():
        return "outside of a greenlet"
    # A BEGIN as text, where each statement is else its own, begins at the server's own level.
    asked = None if ledger.text_transaction_open else isolation_of(connection)
    return _why_source(connection, ledger.profile, asked, plan, tracker)


def _why_source(
    connection: Connection,
    profile: Profile,
    asked: str | None,
    plan: Sourced,
    tracker: EngineTracker,
) -> str | None:
    """Why what this connection reads may be old, or other rows than those that are cached."""
    if profile.replica or not tracker.publish:
        return "replica"
    if not plan.is_from(profile):
        return "another database or search path"
    options = connection.get_execution_options()
    if options and options.get("schema_translate_map"):
        return "schema_translate_map"
    if profile.reads_old(asked):
        return "isolation level"
    facts = tracker.facts
    return facts.why_refused(plan.tables) if facts.refused else None


def _is_outside_greenlet() -> bool:
    """Whether async SQL would raise MissingGreenlet: a hit must not hide that until a miss."""
    return not in_greenlet()


class Bypassed:
    """The type of BYPASSED: SQLAlchemy must read the database in its own way."""

    def __repr__(self) -> str:
        return "BYPASSED"


BYPASSED = Bypassed()
