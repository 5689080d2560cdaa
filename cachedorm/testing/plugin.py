"""pytest fixtures: ``pytest_plugins = ["cachedorm.testing.plugin"]`` in your top conftest.py.

It is not an entry point. pytest would load one in every suite of the environment, and with it the
fixture names and SQLAlchemy. A line in conftest.py also shows where the fixtures come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cachedorm.cache import Cache
from cachedorm.orm.database.factories import Target
from cachedorm.testing.attaching import attached, memory_cache
from cachedorm.testing.clock import FrozenClock, frozen_clock


@pytest.fixture
def cache_in_memory() -> Iterator[Cache]:
    """A Cache in memory for this test, not attached yet."""
    with memory_cache() as cache:
        yield cache


@pytest.fixture
def attach_cache(cache_in_memory: Cache) -> Iterator[Callable[..., Cache]]:
    """A function that attaches ``cache_in_memory`` until the test ends, and returns it."""
    with ExitStack() as undo:

        def attach(*targets: Target) -> Cache:
            return undo.enter_context(attached(cache_in_memory, *targets))

        yield attach


@pytest.fixture
def cache_clock() -> Iterator[FrozenClock]:
    """The caches' clock, frozen for this test; ``cache_clock.advance(...)`` moves it."""
    with frozen_clock() as clock:
        yield clock
