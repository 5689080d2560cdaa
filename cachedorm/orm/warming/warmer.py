"""Warming: entries filled before the first read, in batches, never over anything newer.

Every entry is leased before the database is read for it, as in a miss. An entry is left alone if
it is cached already, if another process fills it, or if a writer is about to change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, Session

from cachedorm.declare.policies.shape import entity_shape
from cachedorm.declare.queries.derived import DerivedQuery
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.declare.queries.warmset import WarmSet
from cachedorm.declare.statement import call_of
from cachedorm.errors import ArgumentError, CacheUnavailable, ConfigurationError
from cachedorm.observe import Observer
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.orm.mapping.source import Sourced
from cachedorm.orm.reading.queries import DerivedPlan, QueryPlan
from cachedorm.orm.reading.read_path import TrackerOf, why_not_publish
from cachedorm.orm.reading.session import CachedReads
from cachedorm.orm.warming.pages import Page, Pages, Position
from cachedorm.store.entries.batch import BATCH, lease_missing, publish_loaded
from cachedorm.store.entries.entries import NO_VALUE, Entries
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.runtime.concurrency import sleep

# How many queries are leased at first; then as many as take a quarter of their lease.
FIRST_QUERIES = 8
QUERIES_MAX = 200


@dataclass(frozen=True, slots=True)
class Warmed:
    """How far a warming has come.

    ``seen`` entries were looked at: ``stored`` now, ``fresh`` already there, ``passed`` over
    (another process fills them, or they may not be kept); reads that fill themselves are only
    ``seen``. ``position`` is what ``after=`` takes to go on from here. ``seconds`` since the start.
    """

    name: str
    seen: int = 0
    stored: int = 0
    fresh: int = 0
    passed: int = 0
    position: str | None = None
    seconds: float = 0.0
    finished: bool = False

    def plus(self, seen: int, stored: int, fresh: int, position: str) -> Warmed:
        """The same after one more batch."""
        return replace(
            self,
            seen=self.seen + seen,
            stored=self.stored + stored,
            fresh=self.fresh + fresh,
            passed=self.passed + seen - stored - fresh,
            position=position,
        )


Progress = Callable[[Warmed], None]
Sessions = Callable[[], Session]


class Warmer:
    """Warms the entries of one Cache, through sessions that it is given."""

    __slots__ = ("_observer", "_plan_of", "_query_plan_of", "_tracker_of")

    def __init__(
        self,
        plan_of: Callable[[Mapper[Any]], EntityPlan | None],
        query_plan_of: Callable[[CachedQuery[Any] | DerivedQuery], Any],
        tracker_of: TrackerOf,
        observer: Observer,
    ) -> None:
        self._plan_of = plan_of
        self._query_plan_of = query_plan_of
        self._tracker_of = tracker_of
        self._observer = observer

    def warm(
        self,
        sessions: Sessions,
        chosen: WarmSet,
        *,
        batch: int = BATCH,
        after: str | None = None,
        progress: Progress | None = None,
    ) -> Warmed:
        """Fill every entry of the set that is not there; how far it came.

        Raises CacheUnavailable without Redis, ConfigurationError where nothing may be stored.
        """
        if batch < 1:
            raise ArgumentError(f"warm(batch={batch}): give 1 or more")
        began = time.monotonic()
        warmed = start = Warmed(chosen.name, position=after)
        position = Position.read(after, chosen.name)
        for warmed in self._batches(sessions, chosen, batch, position, start):
            if progress is not None:
                progress(replace(warmed, seconds=time.monotonic() - began))
        return replace(warmed, seconds=time.monotonic() - began, finished=True)

    def _batches(
        self, sessions: Sessions, chosen: WarmSet, batch: int, position: Position, start: Warmed
    ) -> Iterator[Warmed]:
        what = chosen.what
        if isinstance(what, type):
            return self._models(sessions, what, batch, position, start)
        # What was done before the position is passed over, not asked again.
        parameters = islice(chosen.each(), position.count, None)
        if isinstance(what, CachedQuery):
            return self._queries(sessions, what, parameters, position, start)
        return self._asked(sessions, what, parameters, position, start)

    def _models(
        self, sessions: Sessions, class_: type, batch: int, position: Position, warmed: Warmed
    ) -> Iterator[Warmed]:
        plan = self._plan_for(sessions, class_)
        pages = Pages(plan, batch)
        while True:
            with sessions() as session:
                page = pages.page(_connection(session, plan.mapper), position.key)
            if not page.rows:
                return
            position = position.at(page.last)
            stored, fresh = self._warm_page(sessions, plan, pages, page)
            warmed = warmed.plus(page.rows, stored, fresh, position.text)
            yield warmed
            if page.rows < batch:
                return

    def _warm_page(
        self, sessions: Sessions, plan: EntityPlan, pages: Pages, page: Page
    ) -> tuple[int, int]:
        keys = list(page.keys.values())
        at_key = {values: at for at, values in enumerate(page.keys)}

        def load(leased: Collection[int]) -> dict[int, Loaded]:
            # In a transaction of its own: the page's may be on a snapshot older than the leases.
            with sessions() as session:
                connection = _connection(session, plan.mapper)
                self._check_publish(connection, plan)
                rows = pages.rows(connection, page)
                loaded = {at_key.get(pages.values(row), -1): row for row in rows}
                return {
                    at: Loaded(row, plan.ttl_of(row)) for at, row in loaded.items() if at in leased
                }

        return _stored(plan.region.entries, keys, load)

    def _queries(
        self,
        sessions: Sessions,
        query: CachedQuery[Any],
        parameters: Iterator[Mapping[str, Any]],
        position: Position,
        warmed: Warmed,
    ) -> Iterator[Warmed]:
        with sessions() as session:
            connection = _connection(session, None)  # which database it is may be known only now
            plan: QueryPlan = self._query_plan_of(query)
            self._check_publish(connection, plan)
        size, lease_s = FIRST_QUERIES, plan.region.settings.lease_ms / 1000
        while True:
            part = [_values(query, each) for each in islice(parameters, size)]
            if not part:
                return
            began = time.monotonic()
            stored, fresh = self._warm_queries(sessions, plan, part)
            # All of a batch is leased before the first is loaded, and the leases must outlive it.
            each_s = (time.monotonic() - began) / len(part)
            size = max(1, min(QUERIES_MAX, size * 2, int(lease_s / 4 / max(each_s, 1e-6))))
            position = position.further(len(part))
            warmed = warmed.plus(len(part), stored, fresh, position.text)
            yield warmed

    def _warm_queries(
        self, sessions: Sessions, plan: QueryPlan, part: Sequence[Mapping[str, Any]]
    ) -> tuple[int, int]:
        keyed = {plan.key(values): values for values in part}
        each = list(keyed.values())

        def load(leased: Collection[int]) -> dict[int, Loaded]:
            with sessions() as session:
                connection = _connection(session, plan.mapper)
                self._check_publish(connection, plan)
                return {at: self._load_one(connection, plan, each[at]) for at in leased}

        return _stored(plan.region.entries, list(keyed), load)

    def _load_one(
        self, connection: Connection, plan: QueryPlan, values: Mapping[str, Any]
    ) -> Loaded:
        statement = plan.query.statement
        value, keep = plan.load(connection, statement, values, self._observer)
        return Loaded(value, None, keep)

    def _asked(
        self,
        sessions: Sessions,
        statement: Callable[..., Any],
        parameters: Iterable[Mapping[str, Any]],
        position: Position,
        warmed: Warmed,
    ) -> Iterator[Warmed]:
        """For other cached reads: each is asked once, so that what is missing fills itself."""
        with sessions() as session:
            plan = self._check_served(session, statement)
        for each in parameters:
            _ask(sessions, statement(**each))
            if plan is not None and _waited(plan.region.entries, plan.stamps):
                _ask(sessions, statement(**each))
            position = position.further(1)
            warmed = replace(warmed, seen=warmed.seen + 1, position=position.text)
            yield warmed

    def _check_served(self, session: Session, statement: Callable[..., Any]) -> DerivedPlan | None:
        _connection(session, None)
        if not isinstance(session, CachedReads):
            raise ConfigurationError(
                f"warm({statement!r}): its answers come through sessions that are served, and only"
                " an engine is attached; give source= a factory that is"
            )
        if not isinstance(statement, DerivedQuery):
            return None
        plan: DerivedPlan | None = self._query_plan_of(statement)
        if plan is None:
            raise ConfigurationError(
                f"warm({statement!r}): every engine attached is a replica, and what is read"
                " there may be old; attach the primary too"
            )
        # A query would not show it: while Redis is unavailable the database answers.
        plan.region.entries.slots.read(plan.region.settings.db, ("~",))
        return plan

    def _plan_for(self, sessions: Sessions, class_: type) -> EntityPlan:
        mapper = getattr(class_, "__mapper__", None)
        if not isinstance(mapper, Mapper):
            raise ArgumentError(f"warm({class_.__name__}): not a mapped class")
        with sessions() as session:
            # Which database it is may be known only now.
            connection = _connection(session, mapper)
            plan = self._plan_of(mapper)
            if plan is None:
                raise _why_no_plan(mapper)
            self._check_publish(connection, plan)
        return plan

    def _check_publish(self, connection: Connection, source: Sourced) -> None:
        reason = why_not_publish(connection, source, self._tracker_of)
        if reason is not None:
            raise ConfigurationError(
                f"warm: what is read through {connection.engine.url!r} may not be stored: {reason}"
            )


def _why_no_plan(mapper: Mapper[Any]) -> ArgumentError | ConfigurationError:
    name, shape = mapper.class_.__name__, entity_shape(mapper)
    if shape is not None and shape.template is not None:
        return ConfigurationError(
            f"warm({name}): every engine attached is a replica, and what is read there may be old;"
            " attach the primary too, and read the rows through it (source=)"
        )
    return ArgumentError(
        f"warm({name}): its rows are not cached one by one; give its CachePolicy a key, or warm a"
        " query"
    )


def _stored(
    entries: Entries,
    keys: Sequence[EntryKey],
    load: Callable[[Collection[int]], Mapping[int, Loaded]],
) -> tuple[int, int]:
    """How many of these entries were stored now, and how many were there."""
    looks = entries.look(keys) if keys else []
    if looks and not looks[0].asked.available:
        raise CacheUnavailable(f"warm: Redis does not answer in database {entries.settings.db}")
    values: list[Any] = [look.value for look in looks]
    leases = lease_missing(entries, keys, looks, values)
    if not leases and _waited(entries, {stamp for key in keys for stamp in key.stamps}):
        leases = lease_missing(entries, keys, looks, values)
    fresh = sum(value is not NO_VALUE for value in values)
    if not leases:
        return 0, fresh
    wanted = set(leases)
    published: list[int] = []
    publish_loaded(entries, keys, leases, lambda: load(wanted), published)
    return len(published), fresh


def _ask(sessions: Sessions, statement: Any) -> None:
    with sessions() as session:
        session.execute(statement).all()


def _waited(entries: Entries, stamps: Iterable[str]) -> bool:
    """Wait until entries with these stamps may be published; whether there was a wait.

    A table that is cached for the first time ever may not be filled at once. A reader comes again,
    a warming does not.
    """
    seconds = entries.slots.registry.ripe_in(stamps)
    if seconds:
        sleep(seconds)
    return seconds > 0


def _connection(session: Session, mapper: Mapper[Any] | None) -> Connection:
    return session.connection(bind_arguments={} if mapper is None else {"mapper": mapper})


def _values(query: CachedQuery[Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    call = call_of(query(**given))
    assert call is not None
    return call.values
