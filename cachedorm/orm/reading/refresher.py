"""Refreshing queries after a commit (``on_write="refresh"``): noted while writing, done at once.

After COMMIT and settle the writer reads like any reader: it takes a lease, asks the database on a
connection of its own, and publishes what it got. So a refresh can never put in place what another
commit has made old meanwhile; it only saves the next reader the miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, Pool, QueuePool

from cachedorm.declare.queries.query import CachedQuery
from cachedorm.observe import Observer
from cachedorm.orm.tracking.refresh_requests import Refreshes
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.runtime.concurrency import shielded
from cachedorm.store.store import Store

if TYPE_CHECKING:
    from cachedorm.orm.reading.queries import QueryPlan


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
        """Fill these answers again; returns when they are filled.

        Never raises and is never cancelled: either would look like a failure of the COMMIT.
        """
        if len(refreshes):
            shielded(lambda: self._run(refreshes))

    def _run(self, refreshes: Refreshes) -> None:
        for query, values in refreshes:
            try:
                self._refresh(query, values)
            except Exception as error:  # noqa: BLE001 - the COMMIT has been done
                self._observer.error("refresh", error)

    def _refresh(self, query: CachedQuery[Any], values: Mapping[str, Any]) -> None:
        plan: QueryPlan | None = self._plan_of(query)
        if plan is None or not self._store.trusted(query.region.db):
            return  # Redis has not got this commit's invalidations
        if not _has_room(self._engine.pool):
            # The committing connection is still taken: waiting for another could wait for ever.
            self._observer.bypass(query.region.name, "no connection to refresh with")
            return
        key = plan.key(values)
        plan.region.fetch(key, lambda: self._load(plan, values), lambda: True)

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
