"""Observers, which the cache notifies of every hit, miss, fill and failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Final

logger = logging.getLogger("cachedorm")

_NOTHING: Final = nullcontext()


class Observer:
    """Base class: override the methods for the events that you want to see.

    Reads and commits call them inline, so they must be quick. Events that are not overridden cost
    nothing. ``read`` is only timed if an observer listens to it when the Cache is created.
    Exceptions of an observer are logged to ``cachedorm``, and never reach the read or the commit.
    """

    def region(self, region: str, db: int, server: str) -> None:
        """A region came into use. ``server`` is a URL without credentials, or "" for memory."""

    def hit(self, region: str, key: str) -> None:
        """A read was answered from the cache."""

    def miss(self, region: str, key: str, reason: str) -> None:
        """A read found no servable entry; the reason is a word such as ``empty`` or ``stamp``."""

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        """A missed entry was loaded in ``seconds``, and published or refused."""

    def wait(self, region: str, key: str, seconds: float) -> None:
        """A read waited for another reader's fill."""

    def bypass(self, region: str, reason: str) -> None:
        """A read bypassed the cache for this reason."""

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        """A commit invalidated this number of entries and stamps of one Redis database."""

    def error(self, what: str, error: BaseException) -> None:
        """Something failed without an effect on the caller."""

    def command(self, db: int, name: str) -> None:
        """A command is sent to Redis (a script by its name), or its step taken in memory.

        Commands that open a connection are not reported; ``register`` and ``look`` maintain the
        registry.
        """

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        """One read of the cache, ``get`` or ``get_many``, with its duration, hits and misses.

        Without hits and misses, Redis did not answer.
        """

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        """A commit was sent to Redis just before it (``intend``) or just after it (``settle``).

        If not ``done``, Redis did not answer; the invalidation is sent later.
        """

    def breaker(self, is_open: bool) -> None:
        """The circuit breaker opened because Redis failed too often, or it closed again.

        It closes when Redis answers, and when the Cache is closed.
        """

    def loading(self, region: str, key: str) -> AbstractContextManager[object]:
        """The context manager around the database part of a fill, for tracing its SQL.

        The key is "" if several entries are loaded at once.
        """
        return _NOTHING


_EVENTS: Final = (
    "region",
    "hit",
    "miss",
    "fill",
    "wait",
    "bypass",
    "invalidate",
    "error",
    "command",
    "read",
    "tell",
    "breaker",
)
OBSERVER: Final = "observer"


def listens(observer: Observer, event: str) -> bool:
    """Whether the observer handles this event."""
    if isinstance(observer, Observers):
        return observer.listens(event)
    return getattr(type(observer), event) is not getattr(Observer, event)


@dataclass(frozen=True, slots=True, repr=False)
class CacheStats:
    """The counts of one moment; ``Cache.stats()`` gives it, and it does not change.

    ``hits``, ``fills``, ``refused`` (loaded and not stored) and ``waits`` by region; ``misses`` and
    ``bypasses`` by (region, reason); ``invalidated``, entries and stamps together, by Redis
    database; ``errors`` by what failed. ``region("my")`` gives the counts of one region.
    """

    hits: Counter[str]
    misses: Counter[tuple[str, str]]
    fills: Counter[str]
    refused: Counter[str]
    waits: Counter[str]
    bypasses: Counter[tuple[str, str]]
    invalidated: Counter[int]
    errors: Counter[str]

    @property
    def hit_ratio(self) -> float | None:
        """The share of hits among hits and misses; None before the first of either."""
        return _ratio(self.hits.total(), self.misses.total())

    @property
    def regions(self) -> list[str]:
        """The names of the regions that were read or passed by, sorted."""
        pairs = (*self.misses, *self.bypasses)
        return sorted({*self.hits, *self.fills, *self.refused, *(name for name, _ in pairs)})

    def __repr__(self) -> str:
        return (
            f"<CacheStats hits={self.hits.total()} misses={self.misses.total()}"
            f" fills={self.fills.total()} refused={self.refused.total()}"
            f" bypasses={self.bypasses.total()} errors={self.errors.total()}>"
        )

    def region(self, name: str) -> RegionStats:
        """The counts of one region; all zero for a name that was not read."""
        return RegionStats(
            hits=self.hits[name],
            misses=_of_region(self.misses, name),
            fills=self.fills[name],
            refused=self.refused[name],
            waits=self.waits[name],
            bypasses=_of_region(self.bypasses, name),
        )


@dataclass(frozen=True, slots=True)
class RegionStats:
    """The counts of one region; ``misses`` and ``bypasses`` by reason."""

    hits: int
    misses: Counter[str]
    fills: int
    refused: int
    waits: int
    bypasses: Counter[str]

    @property
    def hit_ratio(self) -> float | None:
        """The share of hits among hits and misses; None before the first of either."""
        return _ratio(self.hits, self.misses.total())


def _ratio(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def _of_region(counted: Counter[tuple[str, str]], name: str) -> Counter[str]:
    return Counter({reason: number for (where, reason), number in counted.items() if where == name})


class Stats(Observer):
    """Counts what happened since it was made; ``snapshot()`` gives the counts of one moment.

    ``hits``, ``fills``, ``refused`` (loaded and not stored) and ``waits`` by region; ``misses`` and
    ``bypasses`` by (region, reason); ``invalidated``, entries and stamps together, by Redis
    database; ``errors`` by what failed. Each is a Counter: ``stats.hits["my"]``,
    ``stats.misses.total()``.
    """

    __slots__ = ("bypasses", "errors", "fills", "hits", "invalidated", "misses", "refused", "waits")

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.misses: Counter[tuple[str, str]] = Counter()
        self.fills: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.bypasses: Counter[tuple[str, str]] = Counter()
        self.invalidated: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()

    def hit(self, region: str, key: str) -> None:
        self.hits[region] += 1

    def miss(self, region: str, key: str, reason: str) -> None:
        self.misses[region, reason] += 1

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        (self.fills if published else self.refused)[region] += 1

    def wait(self, region: str, key: str, seconds: float) -> None:
        self.waits[region] += 1

    def bypass(self, region: str, reason: str) -> None:
        self.bypasses[region, reason] += 1

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        self.invalidated[db] += entries + stamps

    def error(self, what: str, error: BaseException) -> None:
        self.errors[what] += 1

    def snapshot(self) -> CacheStats:
        """The counts so far."""
        # Copies: a Counter may gain a key in another thread while it is iterated, dict() may not.
        return CacheStats(*(Counter(dict(getattr(self, name))) for name in _COUNTED))

    def __repr__(self) -> str:
        return (
            f"<Stats hits={self.hits.total()} misses={self.misses.total()}"
            f" fills={self.fills.total()} refused={self.refused.total()}"
            f" bypasses={self.bypasses.total()} errors={self.errors.total()}>"
        )


_COUNTED: Final = tuple(field.name for field in fields(CacheStats))


class LogObserver(Observer):
    """Log failures to ``cachedorm`` as warnings, each kind at most once a second."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def error(self, what: str, error: BaseException) -> None:
        # While Redis is unavailable every read fails: one line says it, ten thousand hide it.
        now = time.monotonic()
        if what != OBSERVER and now - self._last.get(what, -1.0) >= 1.0:
            self._last[what] = now
            logger.warning("%s: %s", what, error)


class Commands:
    """The listeners of each command: none, unless an observer handles ``command``."""

    __slots__ = ("listeners",)

    def __init__(self) -> None:
        self.listeners: tuple[Callable[..., None], ...] = ()

    def notify(self, db: int, name: str) -> None:
        """Notify them. Callers check ``listeners`` first, since every hit comes here."""
        for listener in self.listeners:
            listener(db, name)

    def __repr__(self) -> str:
        return f"<Commands listeners={len(self.listeners)}>"


class Observers(Observer):
    """Notify several observers, in order; observers may be added and removed.

    An exception of one of them is logged and not raised.
    """

    def __init__(self, each: Iterable[Observer]) -> None:
        self.commands = Commands()
        self._each: tuple[Observer, ...] = ()
        self._blamed: dict[str, float] = {}
        # The listeners of each event; other observers are not called.
        self._listeners: dict[str, tuple[Callable[..., Any], ...]] = {}
        for event in _EVENTS:
            setattr(self, event, self._notifier(event))
        self._replace(tuple(each))

    @classmethod
    def of(cls, observer: Observer | None) -> Observers:
        """The observer, if any, wrapped so that its exceptions are logged."""
        if isinstance(observer, Observers):
            return observer
        return cls(() if observer is None else (observer,))

    def add(self, observer: Observer) -> None:
        """Notify this observer too, from now on."""
        self._replace((*self._each, observer))

    def remove(self, observer: Observer) -> None:
        """Stop notifying this observer."""
        self._replace(tuple(each for each in self._each if each is not observer))

    def listens(self, event: str) -> bool:
        """Whether any of them handles this event."""
        return bool(self._listeners[event])

    def loading(self, region: str, key: str) -> AbstractContextManager[object]:
        found = self._listeners["loading"]
        return _Around(found, self._blame, region, key) if found else _NOTHING

    def _replace(self, each: tuple[Observer, ...]) -> None:
        # Replaced, never changed: other threads may be iterating over it.
        self._each = each
        self._listeners = {
            event: tuple(getattr(one, event) for one in each if listens(one, event))
            for event in (*_EVENTS, "loading")
        }
        self.commands.listeners = (self.command,) if self._listeners["command"] else ()

    def _notifier(self, event: str) -> Callable[..., None]:
        def notify(*what: Any) -> None:
            for listener in self._listeners[event]:
                try:
                    listener(*what)
                except Exception as error:  # noqa: BLE001 - the reader asked for a row
                    self._blame(event, error)

        return notify

    def _blame(self, event: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._blamed.get(event, -1.0) >= 1.0:
            self._blamed[event] = now
            logger.error("an observer failed in %s: %r", event, error, exc_info=error)
        if event != "error":
            self.error(OBSERVER, error)

    def __repr__(self) -> str:
        return f"Observers({', '.join(type(each).__name__ for each in self._each)})"


class _Around:
    """Several context managers in one; none of them can fail or suppress an exception."""

    __slots__ = ("_blame", "_entered", "_key", "_loading", "_region")

    def __init__(
        self,
        loading: Sequence[Callable[[str, str], AbstractContextManager[object]]],
        blame: Callable[[str, Exception], None],
        region: str,
        key: str,
    ) -> None:
        self._loading, self._blame = loading, blame
        self._region, self._key = region, key
        self._entered: list[AbstractContextManager[object]] = []

    def __enter__(self) -> None:
        for loading in self._loading:
            try:
                context = loading(self._region, self._key)
                context.__enter__()
            except Exception as error:  # noqa: BLE001 - the load goes on
                self._blame("loading", error)
            else:
                self._entered.append(context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for context in reversed(self._entered):
            try:
                context.__exit__(kind, failure, trace)
            except Exception as error:  # noqa: BLE001 - the load's own failure goes on
                if error is not failure:
                    self._blame("loading", error)
