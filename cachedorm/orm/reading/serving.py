"""The shared read path: may this read use the cache, and one entry looked up or filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from cachedorm.observe import Observer
from cachedorm.orm.mapping.source import Sourced
from cachedorm.orm.reading.bypass import FollowerOf, holds_connection, why_bypass, why_not_publish
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.entries.provenance import Provenance, current, refuse
from cachedorm.store.protocol.keys import EntryKey


def meet(session: Session) -> None:
    """This session is about to answer: whoever records is told if it may hold older objects."""
    provenance = current()
    if provenance is not None:
        _meet(provenance, session)


def _meet(provenance: Provenance, session: Session) -> None:
    if session in provenance.met:
        return
    # Objects that are in it already are served as they are, and were read by no read of ours.
    if len(session.identity_map):
        provenance.refuse("older session", "a session held objects from before the request")
    provenance.met.add(session)


# Reads the database: the value, and whether it may be kept.
Load = Callable[[Connection], tuple[Any, bool]]


class Serving:
    """Serves entries by the rules of one Cache."""

    __slots__ = ("_follower_of", "enabled", "observer")

    def __init__(
        self, follower_of: FollowerOf, enabled: Callable[[], bool], observer: Observer
    ) -> None:
        self._follower_of = follower_of
        # Whether the cache answers at all now: the kill switch, and bypass() for a block.
        self.enabled = enabled
        self.observer = observer

    def bypasses(self, session: Session, source: Sourced, region: str) -> bool:
        """Whether this read must be the database's; counts it."""
        reason = self.why_bypass(session, source) if self.enabled() else "disabled"
        if reason is not None:
            self.past(region, reason)
        return reason is not None

    def why_bypass(self, session: Session, source: Sourced) -> str | None:
        """The reason for which an enabled cache must leave this read to the database, or None."""
        return why_bypass(session, source, self._follower_of)

    def past(self, region: str, reason: str) -> None:
        """A read goes past the cache: tells whoever counts, and whoever records."""
        self.observer.bypass(region, reason)
        refuse("past the cache", reason)

    def publishes(self, connection: Connection, source: Sourced) -> bool:
        """Whether what was read on this connection may be published."""
        return why_not_publish(connection, source, self._follower_of) is None

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
