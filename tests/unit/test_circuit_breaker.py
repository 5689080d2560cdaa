"""The breaker: who may ask Redis while it fails."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachedorm.errors import CacheUnavailable
from cachedorm.store.runtime.circuit_breaker import CircuitBreaker
from tests.fixtures.patience import PATIENCE


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, cool_down=1.0, clock=clock)


@pytest.fixture
def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(3):
        breaker.failed(breaker.enter())
    return breaker


def entered(breaker: CircuitBreaker) -> bool:
    try:
        breaker.enter()
    except CacheUnavailable:
        return False
    return True


def test_opens_after_three_failures_in_a_row(breaker: CircuitBreaker) -> None:
    """Two failures are bad luck, the third closes the door."""
    let_in = []
    for _ in range(3):
        let_in.append(entered(breaker))
        breaker.failed(0)
    assert let_in == [True, True, True]
    assert not entered(breaker)


def test_a_success_forgets_earlier_failures(breaker: CircuitBreaker) -> None:
    """Failures count only in a row."""
    for _ in range(5):
        breaker.failed(breaker.enter())
        breaker.failed(breaker.enter())
        breaker.succeeded(breaker.enter())
    assert not breaker.is_open


def test_lets_nobody_in_before_the_cool_down(opened: CircuitBreaker, clock: Clock) -> None:
    """Callers of a dead Redis pay nothing."""
    clock.now += 0.99
    assert not entered(opened)


def test_a_trial_that_succeeds_closes_it(opened: CircuitBreaker, clock: Clock) -> None:
    """One good answer is enough."""
    clock.now += 1.0
    opened.succeeded(opened.enter())
    assert not opened.is_open
    assert entered(opened)


def test_a_trial_that_fails_starts_the_cool_down_anew(opened: CircuitBreaker, clock: Clock) -> None:
    """A dead Redis is tried once per cool-down."""
    clock.now += 1.0
    opened.failed(opened.enter())
    assert not entered(opened)
    clock.now += 1.0
    assert entered(opened)


def test_a_cancelled_trial_lets_the_next_one_try_at_once(
    opened: CircuitBreaker, clock: Clock
) -> None:
    """Nothing was learnt, so nobody waits for another cool-down."""
    clock.now += 1.0
    opened.gave_up(opened.enter())
    assert entered(opened)


def test_only_one_trial_however_long_it_takes(opened: CircuitBreaker, clock: Clock) -> None:
    """The second trial waits for the first one's end, not for a time."""
    clock.now += 1.0
    assert entered(opened)
    clock.now += 60.0
    assert not entered(opened)


def test_a_late_failure_does_not_end_the_trial(breaker: CircuitBreaker, clock: Clock) -> None:
    """Who asked before it opened cannot let a second trial in beside the first."""
    late = breaker.enter()
    for _ in range(3):
        breaker.failed(breaker.enter())
    clock.now += 1.0
    breaker.enter()
    breaker.failed(late)
    breaker.gave_up(late)
    assert not entered(breaker)


def test_a_cancelled_call_is_no_failure(breaker: CircuitBreaker) -> None:
    """Cancellation says nothing about Redis."""
    for _ in range(10):
        breaker.gave_up(breaker.enter())
    assert not breaker.is_open


def test_threads_share_one_trial(opened: CircuitBreaker, clock: Clock) -> None:
    """Of 16 threads that come at the same moment, one is let in."""
    clock.now += 1.0
    barrier = threading.Barrier(16)

    def come() -> bool:
        barrier.wait()
        return entered(opened)

    with ThreadPoolExecutor(16) as threads:
        came = [threads.submit(come) for _ in range(16)]
        assert sum(each.result() for each in came) == 1


async def test_tasks_share_one_trial(opened: CircuitBreaker, clock: Clock) -> None:
    """Tasks interleave at awaits only, and still one is let in while it is under way."""
    clock.now += 1.0

    async def come() -> bool:
        await asyncio.sleep(0)
        return entered(opened)

    assert sum(await asyncio.gather(*(come() for _ in range(16)))) == 1


def _states(breaker: CircuitBreaker, clock: Clock) -> Iterator[str]:
    yield repr(breaker)
    for _ in range(3):
        breaker.failed(breaker.enter())
    yield repr(breaker)
    clock.now += 1.0
    breaker.enter()
    yield repr(breaker)


def test_repr_shows_the_state(breaker: CircuitBreaker, clock: Clock) -> None:
    """What a log line about it needs."""
    assert list(_states(breaker, clock)) == [
        "<CircuitBreaker closed failures=0>",
        "<CircuitBreaker open, trial in 1.0 s>",
        "<CircuitBreaker trial>",
    ]


def test_tells_of_its_changes(clock: Clock) -> None:
    """Once when it opens and once when it closes, however often Redis fails or answers."""
    told: list[bool] = []
    breaker = CircuitBreaker(failures=3, cool_down=1.0, clock=clock, changed=told.append)
    for _ in range(5):
        breaker.failed(0)
    assert told == [True]
    clock.now += 1.0
    breaker.failed(breaker.enter())
    clock.now += 1.0
    breaker.succeeded(breaker.enter())
    breaker.succeeded(0)
    assert told == [True, False]


def test_a_retired_one_is_not_open_any_more(clock: Clock) -> None:
    """Nobody counts it among the open ones, whatever its last callers find."""
    told: list[bool] = []
    breaker = CircuitBreaker(failures=1, clock=clock, changed=told.append)
    breaker.failed(0)
    breaker.retire()
    breaker.succeeded(0)
    breaker.failed(0)
    breaker.retire()
    assert told == [True, False]


def test_what_is_told_last_is_so(clock: Clock) -> None:
    """A change while the observer is being told of another is told next; nobody waits for it."""
    told: list[bool] = []

    def slow(is_open: bool) -> None:
        if is_open:
            # Meanwhile somebody's trial succeeds.
            other = threading.Thread(target=slowly.succeeded, args=(0,))
            other.start()
            other.join(PATIENCE)
            assert not other.is_alive()
        told.append(is_open)

    slowly = CircuitBreaker(failures=1, clock=clock, changed=slow)
    slowly.failed(0)
    assert told == [True, False]
