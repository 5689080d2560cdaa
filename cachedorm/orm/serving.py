"""What every cached SELECT of a Cache's sessions goes by: may it be served, and one entry's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from cachedorm.observe import Observer
from cachedorm.orm.bypass import FollowerOf, holds_connection, why_bypass, why_not_publish
from cachedorm.orm.source import Sourced
from cachedorm.store.keys import EntryKey
from cachedorm.store.provenance import refuse
from cachedorm.store.region import NO_VALUE, CachedRegion, Loaded

# Reads the database: the value, and whether it may be kept.
Load = Callable[[Connection], tuple[Any, bool]]


class Serving:
    """Serves the entries of cached SELECTs, by the rules of one Cache."""

    __slots__ = ("_enabled", "_follower_of", "observer")

    def __init__(
        self, follower_of: FollowerOf, enabled: Callable[[], bool], observer: Observer
    ) -> None:
        self._follower_of = follower_of
        self._enabled = enabled
        self.observer = observer

    def bypasses(self, session: Session, source: Sourced, region: str) -> bool:
        """Whether this read must be the database's; counts it."""
        reason = self._why_bypass(session, source)
        if reason is not None:
            self.observer.bypass(region, reason)
            refuse("past the cache", reason)
        return reason is not None

    def entry(
        self,
        session: Session,
        source: Sourced,
        region: CachedRegion,
        key: EntryKey,
        load: Load,
    ) -> Any:
        """The entry's value: the cached one, or what is loaded now and published."""
        found: Any = region.get(key)
        if found is not NO_VALUE:
            return found
        return region.fill(
            key, lambda: self._loaded(session, source, load), bounded=holds_connection(session)
        )

    def _loaded(self, session: Session, source: Sourced, load: Load) -> Loaded:
        bind: Any = {} if source.mapper is None else {"mapper": source.mapper}
        connection = session.connection(bind_arguments=bind)
        value, keep = load(connection)
        publish = keep and why_not_publish(connection, source, self._follower_of) is None
        return Loaded(value, None, publish)

    def _why_bypass(self, session: Session, source: Sourced) -> str | None:
        if not self._enabled():
            return "disabled"
        return why_bypass(session, source, self._follower_of)
