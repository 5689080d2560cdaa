"""The interest registry: what is cached over which table, by every process that uses this Redis.

Old code and new code run side by side in a rolling deploy, and not every writer imports every
module. A process registers its interests before it fills anything. A writer reads the registry
just before COMMIT and just after it, and invalidates what it does not know by the wildcard stamp
of the table, which every entry over the table carries. `docs/protocol.md` says why this holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.keys import stamp_key, wildcard_tag
from cachedorm.store.runtime.forks import follow_forks

REGISTRY_DB = 0
REGISTRY_KEY = "~interest"
# A writer that touches nothing cached need not ask again within a period of its last query. An
# interest in a table that was not named before is published under a little over a period later.
PERIOD = 2.0
RIPE_MS = 2200
# While the registry is younger than this, every writer asks at every commit.
GRACE_MS = 60_000
# How long an interest is kept beyond the longest entry, and how often it is registered again.
SLACK_MS = 3_600_000
AGAIN_EVERY = 1200.0


@dataclass(frozen=True, slots=True)
class Interest:
    """Something cached in a Redis database over a table, and a table whose writes concern it.

    The two are the same table, except where the database writes further (a cascade, a trigger).
    ``what`` says what exactly a writer that knows it touches; others need not understand it.
    """

    db: int
    written: str
    cached: str
    what: str

    def __str__(self) -> str:
        return "|".join((str(self.db), _escaped(self.written), _escaped(self.cached), self.what))

    @classmethod
    def parse(cls, text: str) -> Interest | None:
        """The interest of this text; None if it is not in this format."""
        parts = text.split("|", 3)
        if len(parts) != 4 or not parts[0].isdecimal():
            return None
        return cls(int(parts[0]), _unescaped(parts[1]), _unescaped(parts[2]), parts[3])

    @property
    def stamp(self) -> str:
        """The stamp that every entry of this interest carries."""
        return stamp_key(wildcard_tag(self.cached))


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("|", "%7C")


def _unescaped(name: str) -> str:
    return name.replace("%7C", "|").replace("%25", "%")


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry's version, and how long (ms) to wait before publishing, interest by interest."""

    version: bytes
    waits_ms: Sequence[int]


@dataclass(frozen=True, slots=True)
class RegistryReply:
    """What a writer saw. ``interests`` is None if the version is the one it knew.

    ``grown``: the registry is no longer young (None: not asked).
    """

    version: bytes
    grown: bool | None
    interests: frozenset[str] | None


@dataclass(slots=True)
class RegistryQuery:
    """A look that travels with an INTEND or a SETTLE: what was known before, what was found."""

    known: bytes
    asked_at: float
    found: RegistryReply | None = None


@dataclass(frozen=True, slots=True)
class KnownInterests:
    """The registry as this process last saw it. ``at``: not before this was it like that."""

    version: bytes = b""
    grown: bool = False
    at: float = float("-inf")
    interests: frozenset[str] = frozenset()
    by_table: dict[str, tuple[tuple[str, Interest], ...]] = field(default_factory=dict)


class Registry:
    """What one process has registered, and what it knows to be registered. Does no I/O."""

    __slots__ = (
        "__weakref__",
        "_again_at",
        "_clock",
        "_lock",
        "_ripe_at",
        "keep_ms",
        "own",
        "seen",
        "version",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.own: frozenset[str] = frozenset()
        self.keep_ms = SLACK_MS
        # The version under which all own interests are registered; empty: they are not.
        self.version = b""
        self._again_at = 0.0
        # Wildcard stamps of tables that may not be published under yet, and from when on.
        self._ripe_at: dict[str, float] = {}
        self.seen = KnownInterests()
        self.begin_in_child()
        follow_forks(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def declare(self, interests: Iterable[str]) -> None:
        """Add interests of this process; they are registered before anything is filled."""
        with self._lock:
            own = self.own | frozenset(interests)
            if own != self.own:
                self.own, self.version = own, b""

    def outlive(self, ttl_ms: int) -> None:
        """Keep the own interests for longer than an entry that is about to live for ``ttl_ms``."""
        if ttl_ms + SLACK_MS > self.keep_ms:
            with self._lock:
                self.keep_ms, self.version = ttl_ms + SLACK_MS, b""

    # Used by readers that fill.

    @property
    def is_due(self) -> bool:
        """Whether the own interests must be registered before anything is filled."""
        return bool(self.own) and (not self.version or self._clock() >= self._again_at)

    def registered(self, asked_at: float, interests: Sequence[str], answer: Registered) -> None:
        """Note that these own interests are in the registry."""
        now = self._clock()
        with self._lock:
            for text, wait_ms in zip(interests, answer.waits_ms, strict=True):
                interest = Interest.parse(text)
                if wait_ms and interest is not None:
                    self._wait(interest.stamp, now + wait_ms / 1000)
            # What was declared meanwhile is not registered yet.
            if self.own == frozenset(interests):
                self.version, self._again_at = answer.version, asked_at + AGAIN_EVERY

    def _wait(self, stamp: str, ripe_at: float) -> None:
        # Never sooner than before: after a flush the registry is young, but writers may still use
        # what they saw in the old one.
        self._ripe_at = {**self._ripe_at, stamp: max(ripe_at, self._ripe_at.get(stamp, ripe_at))}

    def lost(self, version: bytes) -> None:
        """The registry has another version than this, or none."""
        with self._lock:
            if self.version == version:
                self.version = b""

    def is_ripe(self, stamps: Iterable[str]) -> bool:
        """Whether every writer knows by now of what carries these stamps."""
        return not self._ripe_at or not self.ripe_in(stamps)

    def ripe_in(self, stamps: Iterable[str]) -> float:
        """Seconds until every writer knows of what carries these stamps; 0 if they do."""
        waiting = self._ripe_at
        now = self._clock()
        if all(at <= now for at in waiting.values()):
            with self._lock:
                if self._ripe_at is waiting:
                    self._ripe_at = {}
        return max([0.0, *(waiting.get(stamp, now) - now for stamp in stamps)])

    # Used by writers.

    def begin_check(self, touched: Touched, written: Written) -> RegistryQuery:
        """Add what others are known to cache to ``touched``; the query that shows whether there
        is more."""
        asked_at = self._clock()
        seen = self.seen
        touched.update(_foreign(seen, written))
        return RegistryQuery(seen.version, asked_at)

    def apply_reply(
        self, registry_query: RegistryQuery, touched: Touched, written: Written
    ) -> Touched:
        """What others cache beyond what was known; it is added to ``touched`` too."""
        if registry_query.found is not None:
            self._see(registry_query.found, registry_query.asked_at)
        found, more = _foreign(self.seen, written), Touched()
        for db, stamps in found.stamps.items():
            new = stamps - touched.stamps.get(db, set())
            if new:
                more.add_stamps(db, new)
        touched.update(more)
        return more

    def _see(self, look: RegistryReply, asked_at: float) -> None:
        seen = self.seen
        if asked_at < seen.at:
            return  # another thread has asked since
        if look.interests is None:
            if look.version == seen.version:
                grown = seen.grown if look.grown is None else look.grown
                self.seen = replace(seen, grown=grown, at=asked_at)
            return
        # What was seen once is remembered: the registry may have been lost while entries were not.
        interests = seen.interests | look.interests
        by_table: dict[str, tuple[tuple[str, Interest], ...]] = {}
        for text in interests:
            interest = Interest.parse(text)
            if interest is not None:
                table = interest.written
                by_table[table] = (*by_table.get(table, ()), (text, interest))
        self.seen = KnownInterests(look.version, bool(look.grown), asked_at, interests, by_table)

    def unconcerned(self, written: Written) -> bool:
        """True iff no other process can have published anything over these tables by now.

        What is registered after the last query is published under a period later at the earliest.
        """
        seen = self.seen
        fresh = seen.grown and self._clock() - seen.at < PERIOD
        return fresh and not _foreign(seen, written)

    def __repr__(self) -> str:
        state = "registered" if self.version else "not registered"
        return f"<Registry own={len(self.own)} {state} seen={len(self.seen.interests)}>"


def _foreign(seen: KnownInterests, written: Written) -> Touched:
    """The wildcards of what others cache over the written tables, unknown to the writer."""
    known = written.known or frozenset()
    touched = Touched()
    tables = seen.by_table if written.everything else written.tables
    for table in tables:
        for text, interest in seen.by_table.get(table, ()):
            if text not in known:
                touched.add_stamps(interest.db, (interest.stamp,))
    return touched
