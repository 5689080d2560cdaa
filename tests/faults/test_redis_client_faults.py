"""The wire when Redis refuses, hangs, dies midway, or answers too late or in pieces."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.errors import CacheUnavailable, ConfigurationError
from cachedorm.store.redis import server
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.connection import reply_reader
from cachedorm.store.redis.server import IDENTITY
from examples.servers import PrivateRedis
from tests.contract.test_redis_client import at
from tests.fixtures.faults import RedisProxy
from tests.fixtures.patience import PATIENCE, aeventually
from tests.support.proxy import Fault

# Four times the usual limit: what is tested is that one is waited out, and not two.
LIMIT = 1.0
# A loaded machine is late, but not by another time limit.
LATE = 0.9


@pytest.fixture(params=["fast", "public"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "public":
        monkeypatch.setattr(server, "reply_reader", lambda: None)
    elif reply_reader() is None:
        pytest.skip("fast lines need hiredis, which is not installed")
    return str(request.param)


@pytest.fixture
def closing(colour: str, lines: str, proxy: RedisProxy) -> Iterator[RedisClient]:
    wire = RedisClient(proxy.url, LIMIT, LIMIT)
    yield wire
    wire.close()


@pytest.fixture
def wire(closing: RedisClient) -> RedisClient:
    """A wire through the proxy that holds one line."""
    return closing


def fails_within(seconds: float, act: Callable[[], object]) -> str:
    """What CacheUnavailable said; it came in time."""
    began = time.monotonic()
    with pytest.raises(CacheUnavailable) as caught:
        act()
    assert time.monotonic() - began < seconds + LATE
    return str(caught.value)


def echoes(wire: RedisClient) -> bool:
    """Answers belong to their questions."""
    return all(wire.call(2, "ECHO", f"{n}") == f"{n}".encode() for n in range(5))


def test_refused(wire: RedisClient, proxy: RedisProxy) -> None:
    """Nobody listens: known at once, with and without a held line, and over when it is over."""
    proxy.impose(Fault.REFUSE)
    assert "connect" in fails_within(0, lambda: wire.mget(2, ["k"])).lower()
    proxy.heal()
    assert echoes(wire)
    proxy.impose(Fault.REFUSE)
    fails_within(0, lambda: wire.mget(2, ["k"]))


def test_reset(wire: RedisClient, proxy: RedisProxy) -> None:
    """Connections that are accepted and reset."""
    assert echoes(wire)
    proxy.impose(Fault.RESET)
    for _ in range(2):
        fails_within(0, lambda: wire.mget(2, ["k"]))
    proxy.heal()
    assert echoes(wire)


@pytest.mark.parametrize("fault", [Fault.BLACKHOLE, Fault.HALF_OPEN])
def test_silence_on_a_held_line(wire: RedisClient, proxy: RedisProxy, fault: Fault) -> None:
    """One operation's time limit, not one for each retry; and the late answer is nobody's."""
    assert echoes(wire)
    proxy.impose(fault)
    fails_within(LIMIT, lambda: wire.call(2, "ECHO", "late"))
    assert "0 idle connections" in repr(wire)
    proxy.heal()
    assert echoes(wire)


def test_silence_while_connecting(wire: RedisClient, proxy: RedisProxy) -> None:
    """The connection stands, the greeting is not answered."""
    proxy.impose(Fault.BLACKHOLE)
    fails_within(LIMIT, lambda: wire.mget(2, ["k"]))
    proxy.heal()
    assert echoes(wire)


def test_silence_when_nobody_accepts(lines: str, colour: str) -> None:
    """Packets that vanish: the connect time limit."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        stuffing = [_connecting(full.getsockname()) for _ in range(4)]
        wire = RedisClient(f"redis://127.0.0.1:{full.getsockname()[1]}", LIMIT, LIMIT)
        fails_within(LIMIT, lambda: wire.mget(2, ["k"]))
        for each in stuffing:
            each.close()
        wire.close()


def _connecting(address: Any) -> socket.socket:
    connecting = socket.socket()
    connecting.setblocking(False)
    connecting.connect_ex(address)
    return connecting


def test_a_write_whose_answer_is_lost_was_applied(wire: RedisClient, proxy: RedisProxy) -> None:
    """Unavailable says nothing about what happened: callers must bear both."""
    wire.script(at(2, "before"))
    proxy.impose(Fault.HALF_OPEN)
    fails_within(LIMIT, lambda: wire.script(at(2, "after")))
    proxy.heal()
    assert wire.mget(2, ["k"])[0] == [b"after"]


def test_a_stopped_server(lines: str, colour: str, private_redis: PrivateRedis) -> None:
    """SIGSTOP: the kernel accepts connections for it, and nothing ever answers."""
    wire = RedisClient(private_redis.url, LIMIT, LIMIT)
    assert echoes(wire)
    private_redis.pause()
    for _ in range(2):  # on a held line, then on a new one
        fails_within(LIMIT, lambda: wire.mget(2, ["k"]))
    private_redis.resume()
    assert echoes(wire)
    wire.close()


def test_a_killed_server(lines: str, colour: str, private_redis: PrivateRedis) -> None:
    """SIGKILL, and another in its place: one error at most, then the new one's answers."""
    wire = RedisClient(private_redis.url, LIMIT, LIMIT)
    assert echoes(wire)
    private_redis.kill()
    fails_within(0, lambda: wire.mget(2, ["k"]))
    private_redis.start()
    assert echoes(wire)
    wire.close()


def test_a_commits_own_limit_is_for_everything(lines: str, colour: str, proxy: RedisProxy) -> None:
    """Connecting and waiting together take what was given, no more."""
    wire = RedisClient(proxy.url, PATIENCE, PATIENCE)
    for _ in range(2):  # on a new line, then on a held one
        proxy.impose(Fault.BLACKHOLE)
        fails_within(0.1, lambda: wire.pipeline([at(2), at(3)], timeout=0.1))
        proxy.heal()
        wire.pipeline([at(2), at(3)], timeout=PATIENCE)
    assert echoes(wire)
    wire.close()


def test_a_short_limit_does_not_stay_with_the_line(
    lines: str, colour: str, proxy: RedisProxy
) -> None:
    """The next command on the line has its usual time again."""
    patient = RedisClient(proxy.url, PATIENCE, PATIENCE)
    patient.pipeline([at(2)], timeout=20.0)
    patient.pipeline([at(2)], timeout=2.0)
    # Each way: an answer comes after more than the short limit.
    proxy.impose(Fault.DELAY, delay=1.1)
    assert patient.call(2, "ECHO", "x") == b"x"
    patient.close()


INFO = b"run_id:abc\r\nmaster_replid:def\r\n"


class Scripted:
    """A server that greets as Redis does, and then says to each message what the test says."""

    def __init__(self, *answers: list[bytes], info: bytes = INFO) -> None:
        self._answers = list(answers)
        self._hello = b"+OK\r\n" + b"$%d\r\n%b\r\n" % (len(info), info) * len(IDENTITY)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}"
        self._line: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # The client may leave, or the test may end, at any point.
        with contextlib.suppress(OSError):
            while self._answers:
                self._line, _ = self._listening.accept()
                self._say(self._line, self._answers.pop(0))

    def _say(self, line: socket.socket, answer: list[bytes]) -> None:
        with line, contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.settimeout(PATIENCE)
            line.recv(65536)
            line.sendall(self._hello)
            line.recv(65536)
            for number, piece in enumerate(answer):
                # Not to win a race: the time between the pieces is what is tested.
                time.sleep(0.15 if number else 0)
                line.sendall(piece)

    def close(self) -> None:
        self._answers.clear()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        # A client whose loop waits for this thread cannot say goodbye.
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)


def scripted(*answers: list[bytes]) -> tuple[Scripted, RedisClient]:
    server = Scripted(*answers)
    return server, RedisClient(server.url, LIMIT, LIMIT)


def test_a_reply_in_pieces_is_put_together(lines: str, colour: str) -> None:
    server, wire = scripted([b"*2\r\n$3\r\na", b"bc\r\n$-1\r", b"\n"])
    assert wire.mget(2, ["a", "b"])[0] == [b"abc", None]
    wire.close()
    server.close()


# redis-py's public methods time every read on its own.
@pytest.mark.parametrize("lines", ["fast"], indirect=True)
def test_a_reply_that_trickles_ends_at_the_limit(lines: str, colour: str) -> None:
    """Bytes that come do not start the clock anew."""
    server, wire = scripted([b"*1\r\n$20\r\n", *[b"x"] * 20])
    fails_within(LIMIT, lambda: wire.mget(2, ["a"]))
    server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"*2\r\n$3\r\nab",
        b"$5\r\nhel",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
    ],
)
def test_an_answer_that_is_none(lines: str, colour: str, answer: bytes) -> None:
    """Half a reply and then the end, no reply of Redis, a server that cannot serve: unavailable,
    and the line is not used again."""
    server, wire = scripted([answer], [b"*1\r\n$1\r\nx\r\n"])
    fails_within(LIMIT, lambda: wire.mget(2, ["k"]))
    assert "0 idle connections" in repr(wire)
    server.close()
    wire.close()


def test_a_server_that_hides_its_identity_is_a_configuration_error(lines: str, colour: str) -> None:
    """Without it, an old entry after a failover could not be told from a new one."""
    server = Scripted([], info=b"redis_version:7.0.0\r\n")
    with pytest.raises(ConfigurationError, match="run_id"):
        RedisClient(server.url, PATIENCE, PATIENCE).mget(2, ["k"])
    server.close()


# redis-py's public methods do not show what else has arrived.
@pytest.mark.parametrize("lines", ["fast"], indirect=True)
def test_more_replies_than_commands(lines: str, colour: str) -> None:
    """A line that is out of step is never used again."""
    server, wire = scripted([b"*1\r\n$1\r\nx\r\n*1\r\n$1\r\ny\r\n"])
    fails_within(LIMIT, lambda: wire.mget(2, ["k"]))
    assert "0 idle connections" in repr(wire)
    server.close()


def test_keyboard_interrupt_drops_the_line(
    lines: str, proxy: RedisProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a reply is outstanding: the next command is not answered with it."""
    wire = RedisClient(proxy.url, PATIENCE, PATIENCE)
    assert echoes(wire)
    proxy.impose(Fault.HALF_OPEN)

    def interrupt() -> None:
        proxy.wait_until_held()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        wire.call(2, "ECHO", "interrupted")
    interrupting.join(PATIENCE)
    proxy.heal()
    assert echoes(wire)
    wire.close()


async def _interrupted(wire: RedisClient, proxy: RedisProxy, act: Callable[[], object]) -> None:
    """Cancels the task that acts once Redis has been asked and its answer is held back."""
    task = asyncio.create_task(greenlet_spawn(act))
    await asyncio.to_thread(proxy.wait_until_held)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_drops_the_line(lines: str, proxy: RedisProxy) -> None:
    """A cancelled read is nobody's answer, on a held line and while connecting."""
    wire = RedisClient(proxy.url, PATIENCE, PATIENCE)
    for warm in (True, False):
        if warm:
            assert await greenlet_spawn(echoes, wire)
        proxy.impose(Fault.HALF_OPEN)
        await _interrupted(wire, proxy, lambda: wire.call(2, "ECHO", "cancelled"))
        assert "0 idle connections" in repr(wire)
        proxy.heal()
        assert await greenlet_spawn(echoes, wire)
        wire._idle.close()
    await wire.aclose()


async def test_a_timeout_around_a_read_drops_the_line(lines: str, proxy: RedisProxy) -> None:
    """asyncio.timeout is the caller's, not Redis' silence."""
    wire = RedisClient(proxy.url, PATIENCE, PATIENCE)
    assert await greenlet_spawn(echoes, wire)
    proxy.impose(Fault.HALF_OPEN)

    async def ask() -> None:
        async with asyncio.timeout(0.05):
            await greenlet_spawn(wire.call, 2, "ECHO", "late")

    with pytest.raises(TimeoutError):
        await ask()
    proxy.heal()
    assert await greenlet_spawn(echoes, wire)
    await wire.aclose()


async def test_an_abandoned_greenlet_drops_the_line(lines: str, proxy: RedisProxy) -> None:
    """Nobody will ever switch back to the one that asked."""
    wire = RedisClient(proxy.url, PATIENCE, PATIENCE)
    assert await greenlet_spawn(echoes, wire)
    proxy.impose(Fault.HALF_OPEN)
    asking = greenlet_spawn(wire.call, 2, "ECHO", "abandoned")
    assert asking.send(None) is not None
    asking.close()
    assert "0 idle connections" in repr(wire)
    proxy.heal()
    assert await greenlet_spawn(echoes, wire)
    await wire.aclose()


def test_a_loop_that_ended_leaves_nothing_open(lines: str, redis_url: str) -> None:
    """asyncio.run once a job, one wire for all: no line of a dead loop is kept or used."""
    wire = RedisClient(redis_url, PATIENCE, PATIENCE)
    for _ in range(3):
        asyncio.run(_spawn(lambda: echoes(wire)))
    assert "1 idle connections" in repr(wire)
    wire.close()
    gc.collect()


async def _spawn(act: Callable[[], object]) -> None:
    assert await greenlet_spawn(act)


async def test_closing_in_another_thread_spares_what_is_in_use(lines: str, redis_url: str) -> None:
    """A thread closes the wire; the loop's own lines go in the loop."""
    wire = RedisClient(redis_url, PATIENCE, PATIENCE)
    assert await greenlet_spawn(echoes, wire)
    await asyncio.to_thread(wire.close)
    await aeventually(lambda: repr(wire).endswith("closed>"))
