"""The two colours: waiting, signalling, and acts that outlive a cancellation."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.store.runtime import concurrency
from cachedorm.store.runtime.concurrency import await_


class Act:
    """An act that pauses midway, in a greenlet, until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = False

    def __call__(self) -> str:
        self.begun.set()
        await_(self.go_on.wait())
        self.ended = True
        return "done"


def shielded_then(act: Act, after: list[str]) -> Callable[[], str]:
    def run() -> str:
        answer = concurrency.shielded(act)
        after.append("returned")
        return answer

    return run


async def test_a_cancelled_task_finishes_the_act_first() -> None:
    """The act ends, its caller goes on, and the cancellation strikes at the next await."""
    act, after = Act(), list[str]()

    async def work() -> None:
        await greenlet_spawn(shielded_then(act, after))
        after.append("before the await")
        await asyncio.sleep(60)
        after.append("never")

    task = asyncio.create_task(work())
    await act.begun.wait()
    task.cancel("please")
    await asyncio.sleep(0)
    assert not task.done()
    act.go_on.set()
    with pytest.raises(asyncio.CancelledError, match="please"):
        await task
    assert act.ended
    assert after == ["returned", "before the await"]
    assert (task.cancelled(), task.cancelling()) == (True, 1)


async def test_a_timeout_finishes_the_act_first() -> None:
    """asyncio.timeout gets its CancelledError back, and turns it into TimeoutError."""
    act, after = Act(), list[str]()
    task = asyncio.current_task()
    assert task is not None

    async def work() -> None:
        async with asyncio.timeout(None) as limit:
            asyncio.get_running_loop().call_soon(_expire_then_go_on, limit, act)
            await greenlet_spawn(shielded_then(act, after))
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await work()
    assert (act.ended, after) == (True, ["returned"])
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_timeout_whose_block_ends_with_the_act_leaves_nothing_behind() -> None:
    """Nobody awaits between the act and the block's end: no CancelledError strikes later."""
    act = Act()
    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(None) as limit:
        asyncio.get_running_loop().call_soon(_expire_then_go_on, limit, act)
        await greenlet_spawn(shielded_then(act, []))
    assert act.ended
    assert task.cancelling() == 0
    for _ in range(3):
        await asyncio.sleep(0)


def _expire_then_go_on(limit: asyncio.Timeout, act: Act) -> None:
    limit.reschedule(asyncio.get_running_loop().time())
    asyncio.get_running_loop().call_later(0.02, act.go_on.set)


async def test_a_task_group_that_fails_finishes_the_act_first() -> None:
    """The group's own cancellation of its parent is counted right, too."""
    act = Act()
    task = asyncio.current_task()
    assert task is not None

    async def fail() -> None:
        await act.begun.wait()
        asyncio.get_running_loop().call_later(0.02, act.go_on.set)
        raise ValueError("child")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await greenlet_spawn(shielded_then(act, []))
            await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup):
        await work()
    assert act.ended
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_cancelled_twice_is_delivered_once_with_its_count() -> None:
    """Two requests stay two requests, and the act is not interrupted by either."""
    act = Act()

    async def work() -> None:
        await greenlet_spawn(shielded_then(act, []))
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await act.begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    act.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert act.ended
    assert task.cancelling() == 2


async def test_a_cancellation_that_was_counted_before_is_not_delivered_again() -> None:
    """An act in the clean-up of a cancelled task runs, and nothing strikes a second time."""
    act = Act()
    act.go_on.set()

    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await greenlet_spawn(shielded_then(act, []))
            await asyncio.sleep(0)
            return "cleaned up"
        return "never"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"


async def test_what_the_act_raises_reaches_its_caller() -> None:
    """Shielded, not swallowed."""

    def fail() -> None:
        raise ValueError("act")

    with pytest.raises(ValueError, match="act"):
        await greenlet_spawn(concurrency.shielded, fail)


def test_a_thread_just_runs_the_act() -> None:
    assert concurrency.shielded(lambda: threading.get_ident()) == threading.get_ident()


async def test_a_loops_signal_wakes_its_greenlets() -> None:
    """One sets, all who wait go on; a time limit answers False."""
    made: list[concurrency.Signal] = []

    def wait(limit: float | None) -> bool:
        return made[0].wait(limit)

    made.append(await greenlet_spawn(concurrency.signal))
    assert not await greenlet_spawn(wait, 0.01)
    waiting = [asyncio.create_task(greenlet_spawn(wait, 60.0)) for _ in range(3)]
    await asyncio.sleep(0)
    made[0].set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await greenlet_spawn(wait, None)


def test_a_threads_signal_is_an_event() -> None:
    signal = concurrency.signal()
    assert not signal.wait(0.01)
    signal.set()
    assert signal.wait()


async def test_the_domain_is_the_loop_for_greenlets_and_none_for_threads() -> None:
    assert await greenlet_spawn(concurrency.domain) is asyncio.get_running_loop()
    assert concurrency.domain() is None


async def test_sleep_frees_the_loop() -> None:
    """Ten greenlets sleep side by side."""
    began = time.monotonic()
    await asyncio.gather(*(greenlet_spawn(concurrency.sleep, 0.5) for _ in range(10)))
    assert time.monotonic() - began < 4.0
