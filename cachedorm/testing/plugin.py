"""pytest fixtures: ``pytest_plugins = ["cachedorm.testing.plugin"]`` in your top conftest.py.

Not an entry point: pytest would load that in every suite of the environment, with its fixtures'
names and the import of SQLAlchemy, whether the suite wants them or not; and a line in the conftest
tells the next reader where the fixtures come from.
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
    """A Cache in this process, for this test alone; attached to nothing yet."""
    with memory_cache() as cache:
        yield cache


@pytest.fixture
def attach_cache(cache_in_memory: Cache) -> Iterator[Callable[..., Cache]]:
    """Attaches ``cache_in_memory`` to factories and engines until the test ends; gives it back."""
    with ExitStack() as undo:

        def attach(*targets: Target) -> Cache:
            return undo.enter_context(attached(cache_in_memory, *targets))

        yield attach


@pytest.fixture
def cache_clock() -> Iterator[FrozenClock]:
    """The caches' clock, stopped for this test; ``cache_clock.advance(...)`` lets time pass."""
    with frozen_clock() as clock:
        yield clock
