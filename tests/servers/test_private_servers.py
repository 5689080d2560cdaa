"""Servers of one's own: their life, their death, and that nothing of them is left."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from examples.servers import PrivatePostgres, PrivateRedis, PrivateServer
from examples.servers.errors import WayClosed
from tests.fixtures.patience import PATIENCE, eventually


def client_of(server: PrivateRedis) -> "redis.Redis":
    """A client that does not try again."""
    return redis.Redis(port=server.port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))


def scalar(server: PrivatePostgres, statement: str) -> object:
    """The one value a statement gives."""
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def alive(pid: int) -> bool:
    """Is there a process that still runs (a zombie does not)?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_dead(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    eventually(lambda: not alive(pid))


def wait_until_gone(directory: Path) -> None:
    """Wait until somebody has removed a directory."""
    eventually(lambda: not directory.exists())


@pytest.mark.parametrize("kind", [PrivateRedis, PrivatePostgres])
def test_close_leaves_nothing(kind: type[PrivateServer]) -> None:
    """After the block neither the process nor the directory is there."""
    with kind() as server:
        pid, directory = server.pid, server.directory
        assert server.running
    assert not alive(pid)
    assert not directory.exists()
    assert repr(server).endswith("down>")


@pytest.mark.parametrize("kind", [PrivateRedis, PrivatePostgres])
def test_an_exception_leaves_nothing(kind: type[PrivateServer]) -> None:
    """A block that fails ends its server too, even a paused one."""
    server = kind()
    server.start()
    pid, directory = server.pid, server.directory
    server.pause()
    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt
    assert not alive(pid)
    assert not directory.exists()


def test_redis_has_sixteen_databases_and_keeps_nothing() -> None:
    """The user's numbers go to 15; a restart on the same port finds an empty Redis."""
    with PrivateRedis() as server, client_of(server) as client:
        assert client.config_get("databases") == {"databases": "16"}
        client.set("k", "v")
        port, pid = server.port, server.pid
        server.restart()
        assert (server.port, server.pid != pid) == (port, True)
        assert client_of(server).get("k") is None


@pytest.mark.parametrize("persistence", ["rdb", "aof"])
def test_redis_keeps_what_it_was_told_to(persistence: str) -> None:
    """With a snapshot or an append-only file, a restart finds the keys again."""
    kept = PrivateRedis(persistence="rdb" if persistence == "rdb" else "aof")
    with kept as server:
        with client_of(server) as client:
            client.set("k", "v")
        server.restart()
        with client_of(server) as client:
            assert client.get("k") == b"v"


def test_an_append_only_redis_survives_a_kill() -> None:
    """SIGKILL is a power cut: what was acknowledged is still there."""
    with PrivateRedis(persistence="aof") as server:
        with client_of(server) as client:
            client.set("k", "v")
        server.kill()
        server.start()
        server.restart()
        with client_of(server) as client:
            assert client.get("k") == b"v"


def test_a_paused_redis_hangs_and_a_killed_one_refuses() -> None:
    """The two ways of being away that clients must tell apart."""
    with PrivateRedis() as server, client_of(server) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        assert not server.running


def test_a_killed_postgres_recovers_what_it_committed() -> None:
    """SIGKILL of server and backends, start on the same port and data."""
    with PrivatePostgres() as server:
        scalar(server, "create table t as select 42 as n")
        scalar(server, "checkpoint")
        port = server.port
        server.kill()
        with pytest.raises(OperationalError):
            scalar(server, "select 1")
        server.start()
        assert server.port == port
        assert scalar(server, "select n from t") == 42


def test_a_paused_postgres_hangs_with_its_backends() -> None:
    """SIGSTOP reaches the backend of an open connection, not only the postmaster."""
    with PrivatePostgres() as server:
        engine = create_engine(server.url)
        with engine.connect() as connection:
            connection.execute(text("select 1"))
            server.pause()
            answered = threading.Event()

            def ask() -> None:
                connection.execute(text("select 2"))
                answered.set()

            thread = threading.Thread(target=ask)
            thread.start()
            assert not answered.wait(0.2)
            server.resume()
            thread.join(PATIENCE)
            assert answered.is_set()
        engine.dispose()


def test_a_server_that_cannot_start_says_why() -> None:
    """The error carries the server's own words, and nothing is left."""
    server = PrivateRedis(options=["--no-such-option", "x"])
    with pytest.raises(WayClosed, match="no-such-option"):
        server.start()
    assert not server.running


OWNER = """
import sys, time
from examples.servers import PrivatePostgres, PrivateRedis
with PrivateRedis() as one, PrivatePostgres() as two:
    for server in (one, two):
        print(server.pid, server.directory, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_die_with_their_owner(how: signal.Signals) -> None:
    """However the owner ends, its servers and their directories end too."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as owner:
        assert owner.stdout is not None
        started = [owner.stdout.readline().split() for _ in range(2)]
        # The whole group, as a terminal's Ctrl-C does.
        os.killpg(owner.pid, how)
        owner.wait(timeout=PATIENCE)
    for pid, directory in started:
        wait_until_dead(int(pid))
        wait_until_gone(Path(directory))
