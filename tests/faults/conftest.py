"""Tests that ask for ``colour`` run twice: as a thread, and in a greenlet of an event loop."""

import pytest

from tests.contract.conftest import pytest_pyfunc_call
from tests.support.contract.colours import GREENLETS, THREADS

__all__ = ["colour", "pytest_pyfunc_call"]


@pytest.fixture(params=[THREADS, GREENLETS])
def colour(request: pytest.FixtureRequest) -> str:
    """How this run of the test calls the library."""
    return str(request.param)
