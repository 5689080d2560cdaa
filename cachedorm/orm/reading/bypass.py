"""When a read must go past the cache: the rules that keep a session's view its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import _SessionCloseState
from sqlalchemy.util.concurrency import in_greenlet

from cachedorm.orm.database.compat import session_binds, session_options
from cachedorm.orm.database.profile import Profile, isolation_of
from cachedorm.orm.mapping.source import Sourced
from cachedorm.orm.tracking.engine import EngineFollower
from cachedorm.orm.tracking.ledger import Ledger, ledger_if_any

# Finds the follower of an engine; None if no Cache follows it.
FollowerOf = Callable[[Engine], EngineFollower | None]

_CLOSED = _SessionCloseState.CLOSED
_NOT_OPEN = "no connection yet"


def why_bypass(session: Session, plan: Sourced, follower_of: FollowerOf) -> str | None:
    """The reason for which this session's next read must be the database's, or None.

    Answers without SQL, and without a connection if the session has none.
    """
    reason = _why_session(session)
    if reason is not None:
        return reason
    routed = type(session).get_bind is not Session.get_bind or session_binds(session)
    transaction = session._transaction
    if transaction is not None:
        reason = _NOT_OPEN
        for connection in _connections(transaction):
            reason = _why_connection(connection, plan, follower_of)
            if reason is not None:
                return reason
        if reason is None and not routed:
            return None
    bind = session.bind if not routed and session.bind else _bind(session, plan)
    if isinstance(bind, Connection):
        return _why_connection(bind, plan, follower_of)
    return _why_engine(bind, plan, follower_of)


def _bind(session: Session, plan: Sourced) -> Engine | Connection:
    return session.get_bind() if plan.mapper is None else session.get_bind(plan.mapper)


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


def why_not_publish(connection: Connection, plan: Sourced, follower_of: FollowerOf) -> str | None:
    """The reason for which rows read on this connection must not be published, or None."""
    return _why_connection(connection, plan, follower_of, fresh=True)


def holds_connection(session: Session) -> bool:
    """Whether the session holds a database connection, which others may be waiting for."""
    transaction: Any = session._transaction
    return transaction is not None and any(True for _ in _connections(transaction))


def _connections(transaction: Any) -> Iterator[Connection]:
    # Nested transactions share the connections of their root; it alone lists them all.
    while transaction.parent is not None:
        transaction = transaction.parent
    seen = set()
    for entry in transaction._connections.values():
        connection = entry[0]
        if id(connection) not in seen:
            seen.add(id(connection))
            yield connection


def _why_engine(engine: Engine, plan: Sourced, follower_of: FollowerOf) -> str | None:
    follower = follower_of(engine)
    if follower is None:
        return "engine not followed"
    if _is_in_the_open(engine.dialect):
        return "outside of a greenlet"
    if follower.profile is None:
        follower.know()
    profile = follower.profile
    assert profile is not None
    if follower.replica or not follower.publish:
        return "replica"
    if not plan.is_from(profile):
        return "another database or search path"
    level = follower.isolation
    options = engine.get_execution_options()
    if options:
        if options.get("schema_translate_map"):
            return "schema_translate_map"
        level = options.get("isolation_level") or level
    if profile.reads_old(level):
        return "isolation level"
    return follower.facts.why_refused(plan.tables)


def _why_connection(
    connection: Connection, plan: Sourced, follower_of: FollowerOf, *, fresh: bool = False
) -> str | None:
    ledger: Ledger | None = ledger_if_any(connection)
    if ledger is None or ledger.profile is None:
        return "connection not followed"
    if ledger.written:
        return "own writes"
    if ledger.opaque:
        return "changed session state"
    if ledger.profile.snapshot and not fresh:
        return "open snapshot"
    follower = follower_of(connection.engine)
    if follower is None:
        return "engine not followed"
    if _is_in_the_open(connection.dialect):
        return "outside of a greenlet"
    # A BEGIN as text, where each statement is else its own, begins at the server's own level.
    asked = None if ledger.begun else isolation_of(connection)
    return _why_source(connection, ledger.profile, asked, plan, follower)


def _why_source(
    connection: Connection,
    profile: Profile,
    asked: str | None,
    plan: Sourced,
    follower: EngineFollower,
) -> str | None:
    """Why what this connection reads may be old, or other rows than those that are cached."""
    if profile.replica or not follower.publish:
        return "replica"
    if not plan.is_from(profile):
        return "another database or search path"
    options = connection.get_execution_options()
    if options and options.get("schema_translate_map"):
        return "schema_translate_map"
    if profile.reads_old(asked):
        return "isolation level"
    return follower.facts.why_refused(plan.tables)


def _is_in_the_open(dialect: Dialect) -> bool:
    """Whether SQL would raise MissingGreenlet here: then a hit must not hide it until a miss."""
    return dialect.is_async and not in_greenlet()


class Bypassed:
    """The type of BYPASSED: this read is the database's, in SQLAlchemy's own way."""

    def __repr__(self) -> str:
        return "BYPASSED"


BYPASSED = Bypassed()
