"""Assert that reads are served from the cache, and report why one is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cachedorm.cache import Cache
from cachedorm.observe import Observer
from cachedorm.testing.statements import Statements, listening
from cachedorm.testing.watched import watched

_SQL_SHOWN = 200


class ServedReads(Observer):
    """How the reads of a block were answered.

    ``hits``: (region, key) of each read served. ``misses``: a line for each that was not.
    """

    def __init__(self) -> None:
        self.hits: list[tuple[str, str]] = []
        self.misses: list[str] = []
        self.statements = Statements()

    def hit(self, region: str, key: str) -> None:
        self.hits.append((region, str(key)))

    def miss(self, region: str, key: str, reason: str) -> None:
        self.misses.append(f"region {region!r}, key {key}: missed ({reason})")

    def bypass(self, region: str, reason: str) -> None:
        self.misses.append(f"region {region!r}: bypassed ({reason})")

    def error(self, what: str, error: BaseException) -> None:
        self.misses.append(f"{what} failed: {error}")

    def fault(self, cache: Cache) -> str | None:
        """Why not every read was served, as one text; None if all were."""
        lines = [*self.misses, *(f"ran SQL: {_short(each)}" for each in self.statements)]
        if lines:
            return "\n  ".join(["not served from the cache:", *lines])
        if not self.hits:
            return (
                f"nothing in the block was read through {cache!r}: the session held the objects"
                " already, or its factory is not attached"
            )
        return None


@contextmanager
def assert_served_from_cache(cache: Cache) -> Iterator[ServedReads]:
    """Fail unless every read in the block is a hit: no miss, no bypass, no SQL, and at least one.

    The AssertionError lists region, key and reason of each read that was not served, and the SQL
    that ran on the attached engines. Reads of other threads and tasks count too. Raises
    ArgumentError if ``cache`` is not a Cache.
    """
    served = ServedReads()
    with (
        watched(cache, served, "assert_served_from_cache"),
        listening(set(cache.engines), served.statements),
    ):
        yield served
    fault = served.fault(cache)
    if fault is not None:
        raise AssertionError(fault)


def _short(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= _SQL_SHOWN else text[:_SQL_SHOWN] + " ..."
