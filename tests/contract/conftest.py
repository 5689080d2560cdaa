"""Every test of the contract runs twice: as a thread, and in a greenlet of an event loop."""

import functools
from typing import Any

import pytest

from tests.support.contract.colours import GREENLETS, THREADS, run_in_greenlet
from tests.support.contract.places import closing, db_client, place, slots, store

__all__ = ["closing", "db_client", "place", "slots", "store"]


@pytest.fixture(autouse=True, params=[THREADS, GREENLETS])
def colour(request: pytest.FixtureRequest) -> str:
    """How this run of the test calls the library."""
    return str(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Spawn a greenlet around a test whose colour says so."""
    if pyfuncitem.funcargs.get("colour") != GREENLETS:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = functools.partial(pyfuncitem.obj, **{n: pyfuncitem.funcargs[n] for n in names})
    closing: list[Any] = [
        pyfuncitem.funcargs[n] for n in ("slots", "closing") if n in pyfuncitem.funcargs
    ]

    def close() -> None:
        for each in closing:
            each.close()

    run_in_greenlet(test, close)
    return True
