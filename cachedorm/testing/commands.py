"""Count the cache commands of a piece of code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cachedorm.cache import Cache
from cachedorm.observe import Observer
from cachedorm.testing.watched import watched

# Commands that a process sends from time to time, whatever it reads or commits.
_UPKEEP = frozenset({"register", "look"})


class CommandCount(Counter[str]):
    """Commands by name: ``mget`` is a read, ``intend`` and ``settle`` the two of a commit.

    A script counts by its name, once for each database. ``upkeep`` counts separately the commands
    that register the process and look for others; their timing does not depend on the code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.upkeep: Counter[str] = Counter()


@contextmanager
def count_commands(cache: Cache) -> Iterator[CommandCount]:
    """Count what the cache sends to Redis within the block, or does in memory under those names.

    ``assert commands == {"mget": 1}`` afterwards. Other users of the cache are counted too.
    Raises ArgumentError if ``cache`` is not a Cache.
    """
    counted = CommandCount()
    with watched(cache, _Counting(counted), "count_commands"):
        yield counted


class _Counting(Observer):
    def __init__(self, counted: CommandCount) -> None:
        self._counted = counted

    def command(self, db: int, name: str) -> None:
        into = self._counted.upkeep if name in _UPKEEP else self._counted
        into[name] += 1
