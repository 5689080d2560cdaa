"""What the cache tells about itself: an Observer sees every hit, miss, fill and failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

logger = logging.getLogger("cachedorm")


class Observer:
    """Override what you want to see. Readers and writers call it inline: be quick, never raise."""

    def hit(self, region: str, key: str) -> None:
        """A read was answered from the cache."""

    def miss(self, region: str, key: str, reason: str) -> None:
        """A read found no servable entry; the reason is a word such as ``empty`` or ``stamp``."""

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        """A missed entry was loaded in so many seconds, and published or refused."""

    def wait(self, region: str, key: str, seconds: float) -> None:
        """A read waited for somebody else's fill."""

    def bypass(self, region: str, reason: str) -> None:
        """A read went past the cache, and why."""

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        """A commit made so many entries and stamps of one Redis database doubtful."""

    def error(self, what: str, error: BaseException) -> None:
        """Something failed that the caller was spared."""

    def command(self, db: int, name: str) -> None:
        """A command is sent to Redis (a script by its name), or its step taken in memory.

        Told to observers that override it, so that nobody else pays for it on every hit. What
        opens a connection is no command; ``register`` and ``look`` are the registry's upkeep.
        """


class Stats(Observer):
    """Counts what happened, per region, since it was made."""

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

    def __repr__(self) -> str:
        return (
            f"<Stats hits={self.hits.total()} misses={self.misses.total()}"
            f" fills={self.fills.total()} refused={self.refused.total()}"
            f" bypasses={self.bypasses.total()} errors={self.errors.total()}>"
        )


class LogObserver(Observer):
    """Writes failures to the ``cachedorm`` logger as warnings, each kind at most once a second."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def error(self, what: str, error: BaseException) -> None:
        # While Redis is away every read fails: the first line says it, ten thousand more hide it.
        now = time.monotonic()
        if now - self._last.get(what, -1.0) >= 1.0:
            self._last[what] = now
            logger.warning("%s: %s", what, error)


class Commands:
    """Who is told of each command: nobody, unless an observer wants to be."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        self.told: tuple[Observer, ...] = ()

    def tell(self, db: int, name: str) -> None:
        """Callers look whether ``told`` is empty first: this is on the way of every hit."""
        for observer in self.told:
            observer.command(db, name)

    def __repr__(self) -> str:
        return f"<Commands told={len(self.told)}>"


class Observers(Observer):
    """Tells several observers, in order. Others may come and go."""

    __slots__ = ("_each", "_hit", "commands")

    def __init__(self, each: Iterable[Observer]) -> None:
        self.commands = Commands()
        self._each: tuple[Observer, ...] = ()
        # Who listens to hits, the most frequent of all: calls that do nothing cost as much.
        self._hit: tuple[Callable[[str, str], None], ...] = ()
        self._tell(tuple(each))

    def add(self, observer: Observer) -> None:
        """Tell this one too, from now on."""
        self._tell((*self._each, observer))

    def remove(self, observer: Observer) -> None:
        """Tell this one no longer."""
        self._tell(tuple(each for each in self._each if each is not observer))

    def _tell(self, each: tuple[Observer, ...]) -> None:
        # Replaced, never changed: other threads are going through it.
        self._each = each
        self._hit = tuple(
            observer.hit for observer in each if type(observer).hit is not Observer.hit
        )
        self.commands.told = tuple(
            observer for observer in each if type(observer).command is not Observer.command
        )

    def hit(self, region: str, key: str) -> None:
        for hit in self._hit:
            hit(region, key)

    def miss(self, region: str, key: str, reason: str) -> None:
        for observer in self._each:
            observer.miss(region, key, reason)

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        for observer in self._each:
            observer.fill(region, key, seconds, size_bytes, published)

    def wait(self, region: str, key: str, seconds: float) -> None:
        for observer in self._each:
            observer.wait(region, key, seconds)

    def bypass(self, region: str, reason: str) -> None:
        for observer in self._each:
            observer.bypass(region, reason)

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        for observer in self._each:
            observer.invalidate(db, entries, stamps)

    def error(self, what: str, error: BaseException) -> None:
        for observer in self._each:
            observer.error(what, error)
