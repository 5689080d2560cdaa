"""Filling queries anew after a commit (``on_write="refresh"``): noted while writing, done at once.

After COMMIT and settle the writer reads like any reader: it takes a lease, asks the database on a
connection of its own, and publishes what it got. So a refresh can never put in place what another
commit has made old meanwhile; it only saves the next reader the miss.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, Pool, QueuePool

from cachedorm.declare.query import CachedQuery
from cachedorm.observe import Observer
from cachedorm.store.region import NO_VALUE, Loaded
from cachedorm.store.store import Store

if TYPE_CHECKING:
    from cachedorm.orm.queries import QueryPlan


# A commit that makes more answers doubtful than this refreshes none: their readers do.
REFRESHES_MAX = 10


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A query to fill anew when a table is written: which column's value is its parameter's."""

    query: CachedQuery[Any]
    column: str | None = None
    parameter: str | None = None


class Refreshes:
    """The answers that the open transaction of one connection made doubtful, to be filled anew."""

    __slots__ = ("_answers", "_too_many")

    def __init__(self) -> None:
        self._answers: dict[tuple[CachedQuery[Any], str | None, Any], None] = {}
        self._too_many = False

    def note_row(self, refreshed: Iterable[Refreshed], row: Mapping[str, Any]) -> None:
        """A row was written: its values tell the parameters.

        What is not known is not refreshed, nor what cannot be remembered (a decorated list).
        """
        for each in refreshed:
            if each.column is None:
                self._note(each.query, None, None)
            elif isinstance(value := row.get(each.column), Hashable) and value is not None:
                self._note(each.query, each.parameter, value)

    def note_table(self, refreshed: Iterable[Refreshed]) -> None:
        """Nobody knows which rows were written: enough for a query that has no parameters."""
        for each in refreshed:
            if each.column is None:
                self._note(each.query, None, None)

    def __iter__(self) -> Iterator[tuple[CachedQuery[Any], dict[str, Any]]]:
        for query, parameter, value in self._answers:
            yield query, {} if parameter is None else {parameter: value}

    def __len__(self) -> int:
        return len(self._answers)

    def _note(self, query: CachedQuery[Any], parameter: str | None, value: Any) -> None:
        if self._too_many:
            return
        self._answers[query, parameter, value] = None
        if len(self._answers) > REFRESHES_MAX:
            self._too_many = True
            self._answers.clear()


class Refresher:
    """Fills the entries of refreshed queries after the commits of one engine."""

    __slots__ = ("_engine", "_observer", "_plan_of", "_store", "_why_not_publish")

    def __init__(
        self,
        engine: Engine,
        store: Store,
        plan_of: Callable[[CachedQuery[Any]], Any],
        why_not_publish: Callable[[Connection, QueryPlan], str | None],
        observer: Observer,
    ) -> None:
        self._engine = engine
        self._store = store
        self._plan_of = plan_of
        self._why_not_publish = why_not_publish
        self._observer = observer

    def run(self, refreshes: Refreshes) -> None:
        """Fill these answers anew; returns when they are. Never raises, and is not cancelled:
        inside of a commit either would look like the COMMIT's own failure.
        """
        if len(refreshes):
            self._store.slots.shielded(lambda: self._run(refreshes))

    def _run(self, refreshes: Refreshes) -> None:
        for query, values in refreshes:
            try:
                self._refresh(query, values)
            except Exception as error:  # noqa: BLE001 - the COMMIT has been done
                self._observer.error("refresh", error)

    def _refresh(self, query: CachedQuery[Any], values: Mapping[str, Any]) -> None:
        plan: QueryPlan | None = self._plan_of(query)
        if plan is None or not self._store.trusted(query.region.db):
            return  # Redis could not be told of this very commit
        if not _has_room(self._engine.pool):
            # The committing connection is still taken: waiting for another could wait for ever.
            self._observer.bypass(query.region.name, "no connection to refresh with")
            return
        key = plan.key(values)
        if plan.region.get(key) is NO_VALUE:
            plan.region.fill(key, lambda: self._load(plan, values), bounded=True)

    def _load(self, plan: QueryPlan, values: Mapping[str, Any]) -> Loaded:
        with self._engine.connect() as connection:
            value, keep = plan.load(connection, plan.query.statement, values, self._observer)
            publish = keep and self._why_not_publish(connection, plan) is None
        return Loaded(value, None, publish)


def _has_room(pool: Pool) -> bool:
    """Whether a connection can be had beside those in use, without waiting for one of them.

    Two may ask at once and one of them wait, but then only for somebody who holds a connection
    and does not ask for a second one: who took the last one is told that there is no room.
    """
    if isinstance(pool, NullPool):
        return True
    if not isinstance(pool, QueuePool):
        return False  # one connection for all, which is the one that is committing
    most = pool.size() + pool._max_overflow
    return pool._max_overflow < 0 or pool.size() == 0 or pool.checkedout() < most
