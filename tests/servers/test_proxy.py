"""The proxy that fault tests put between a client and its server."""

import socket
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fixtures.faults import RedisProxy
from tests.fixtures.patience import PATIENCE
from tests.support.proxy import Fault


@pytest.fixture
def client(proxy: RedisProxy) -> "redis.Redis":
    """A client through the proxy that gives up after 0.2 s and does not try again."""
    return redis.Redis(
        port=proxy.port, socket_timeout=0.2, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0)
    )


def test_pass_is_transparent(proxy: RedisProxy, client: "redis.Redis") -> None:
    """Nothing is changed, however large."""
    client.set("k", b"x" * 1_000_000)
    assert client.get("k") == b"x" * 1_000_000


def test_blackhole_lets_nothing_through(
    proxy: RedisProxy, client: "redis.Redis", redis_client: "redis.Redis"
) -> None:
    """The command times out and the server never saw it; later it does arrive."""
    client.ping()
    proxy.impose(Fault.BLACKHOLE)
    with pytest.raises(redis.TimeoutError):
        client.set("k", "v")
    assert redis_client.get("k") is None
    proxy.heal()
    assert client.ping()


def test_half_open_applies_the_write_whose_answer_is_lost(
    proxy: RedisProxy, client: "redis.Redis", redis_client: "redis.Redis"
) -> None:
    """The client sees a timeout, the server has done it: the outcome nobody can assume away."""
    client.ping()
    proxy.impose(Fault.HALF_OPEN)
    with pytest.raises(redis.TimeoutError):
        client.set("k", "v")
    assert redis_client.get("k") == b"v"


def test_refuse_is_a_closed_port_until_healed(proxy: RedisProxy, client: "redis.Redis") -> None:
    """Open connections are reset, new ones refused, and the same port comes back."""
    client.ping()
    proxy.impose(Fault.REFUSE)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.heal()
    assert client.ping()


def test_delay_makes_answers_late(proxy: RedisProxy, client: "redis.Redis") -> None:
    """Each way costs the delay."""
    client.ping()
    proxy.impose(Fault.DELAY, delay=0.05)
    before = time.monotonic()
    client.ping()
    assert time.monotonic() - before >= 0.1


def test_reset_cuts_open_and_new_connections(proxy: RedisProxy) -> None:
    """ECONNRESET, not a quiet end."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as line:
        line.sendall(b"PING\r\n")
        assert line.recv(16) == b"+PONG\r\n"
        proxy.impose(Fault.RESET)
        with pytest.raises(ConnectionResetError):
            line.recv(16)


def test_a_race_can_wait_until_something_is_held(proxy: RedisProxy) -> None:
    """The test moves on when the answer is known to be on its way and kept back."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as line:
        proxy.impose(Fault.HALF_OPEN)
        line.sendall(b"PING\r\n")
        proxy.wait_until_held()
        proxy.heal()
        assert line.recv(16) == b"+PONG\r\n"
    with pytest.raises(TimeoutError, match="holds 0 bytes"):
        proxy.wait_until_held(timeout=0.01)
