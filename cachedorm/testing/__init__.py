"""For an application's tests: a cache in memory, what it was asked, and a frozen clock.

Nothing here needs pytest; the fixtures are in ``cachedorm.testing.plugin``.
"""

from cachedorm.testing.attaching import attached, memory_cache
from cachedorm.testing.clock import FrozenClock, frozen_clock
from cachedorm.testing.commands import CommandCount, count_commands
from cachedorm.testing.served import ServedReads, assert_served_from_cache
from cachedorm.testing.statements import Statements, count_statements

__all__ = [
    "CommandCount",
    "FrozenClock",
    "ServedReads",
    "Statements",
    "assert_served_from_cache",
    "attached",
    "count_commands",
    "count_statements",
    "frozen_clock",
    "memory_cache",
]
