"""What the cache tells about itself: an Observer sees every hit, miss, fill and failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable

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


class Observers(Observer):
    """Tells several observers, in order."""

    __slots__ = ("_each",)

    def __init__(self, each: Iterable[Observer]) -> None:
        self._each = tuple(each)

    def hit(self, region: str, key: str) -> None:
        for observer in self._each:
            observer.hit(region, key)

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
