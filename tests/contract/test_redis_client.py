"""The wire to Redis: one send a command, the same for threads and greenlets, fast lines or not."""

import gc
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from cachedorm.errors import CacheClosedError, CacheUnavailable, ConfigurationError
from cachedorm.store.redis import server
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.connection import _pack_in_python, pack, reply_reader
from cachedorm.store.redis.scripts import Script, ScriptCall
from examples.servers import PrivateRedis
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import PATIENCE
from tests.support.contract.colours import together

SOURCE = b"return redis.call('SET', KEYS[1], ARGV[1])"
SET = Script("set", SOURCE, hashlib.sha1(SOURCE).hexdigest().encode())
BROKEN = Script("broken", b"return redis.call('NO SUCH')", b"0" * 40)

Build = Callable[..., RedisClient]


@pytest.fixture(params=["fast", "public"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lines of our own on redis-py's sockets, or by redis-py's public methods alone."""
    if request.param == "public":
        monkeypatch.setattr(server, "reply_reader", lambda: None)
    elif reply_reader() is None:
        pytest.skip("fast lines need hiredis, which is not installed")
    return str(request.param)


class Closing:
    """What the test opened, to be closed before its loop ends."""

    def __init__(self) -> None:
        self.wires: list[RedisClient] = []

    def close(self) -> None:
        for wire in self.wires:
            wire.close()


@pytest.fixture
def closing(colour: str) -> Iterator[Closing]:
    opened = Closing()
    yield opened
    opened.close()


@pytest.fixture
def build(closing: Closing, lines: str) -> Build:
    """Makes wires that the test need not close."""

    def build(
        url: str, connect_timeout: float = PATIENCE, operation_timeout: float = PATIENCE
    ) -> RedisClient:
        wire = RedisClient(url, connect_timeout, operation_timeout)
        closing.wires.append(wire)
        return wire

    return build


@pytest.fixture
def wire(redis_url: str, build: Build) -> RedisClient:
    return build(redis_url)


def at(db: int, value: str = "v", key: str = "k", script: Script = SET) -> ScriptCall:
    return ScriptCall(db, script, [key], [value])


def test_mget_answers_in_order_with_the_servers_identity(wire: RedisClient) -> None:
    """What is there, None for what is not, and 8 bytes that name the server."""
    wire.call(2, "MSET", "a", b"1", "b", b"\x00\xff\r\n")
    values, identity = wire.mget(2, ["a", "nothing", "b"])
    assert values == [b"1", None, b"\x00\xff\r\n"]
    assert len(identity) == 8
    assert wire.mget(3, ["a"]) == ([None], identity)


def test_mget_takes_another_type_for_nothing(wire: RedisClient) -> None:
    """WRONGTYPE is a miss."""
    wire.call(2, "LPUSH", "list", "x")
    assert wire.mget(2, ["list"])[0] == [None]


def test_a_read_is_one_command_on_a_held_line(wire: RedisClient, redis_log: RedisLog) -> None:
    """No SELECT, no PING, no connection set-up after the first."""
    wire.mget(2, ["a"])
    redis_log.clear()
    for _ in range(3):
        wire.mget(2, ["a", "~s:t"])
    assert [command.name for command in redis_log.commands(handshakes=True)] == ["mget"] * 3


def test_a_connection_says_hello_once(wire: RedisClient, redis_log: RedisLog) -> None:
    """Connecting costs one round trip more: the database and the server's identity, no noise."""
    wire.mget(2, ["a"])
    names = [command.name for command in redis_log.commands(handshakes=True)]
    assert names == ["select", "info", "info", "mget"]


def test_values_larger_than_one_read_come_whole(wire: RedisClient) -> None:
    """Replies arrive in pieces, and all of them are waited for."""
    large = os.urandom(700_000)
    wire.call(2, "SET", "large", large)
    assert wire.mget(2, ["large", "large"])[0] == [large, large]
    assert wire.mget(2, ["x"])[0] == [None]


def test_keys_may_hold_any_text(wire: RedisClient) -> None:
    """Lengths are counted in bytes, not characters."""
    wire.call(2, "SET", "가이드: 플라스틱\r\n", b"x")
    assert wire.mget(2, ["가이드: 플라스틱\r\n"])[0] == [b"x"]


def test_python_packs_what_hiredis_packs() -> None:
    """Where hiredis is missing, the same bytes are sent."""
    command = ("SET", "키", b"\x00\r\n", 12)
    assert _pack_in_python(command) == pack(command)
    assert (
        pack(command) == b"*4\r\n$3\r\nSET\r\n$3\r\n\xed\x82\xa4\r\n$3\r\n\x00\r\n\r\n$2\r\n12\r\n"
    )


def test_callers_at_once_get_their_own_answers(wire: RedisClient) -> None:
    """A line has one user at a time."""

    def ask(number: int) -> Callable[[], bool]:
        def act() -> bool:
            return all(
                wire.call(2, "ECHO", f"{number}-{turn}") == f"{number}-{turn}".encode()
                for turn in range(20)
            )

        return act

    assert all(together(*(ask(number) for number in range(8))))


def test_a_script_runs_by_name_and_is_sent_once(wire: RedisClient, redis_log: RedisLog) -> None:
    """A server that does not know it yet is given the source."""
    reply, identity = wire.script(at(2))
    assert (reply, identity) == (b"OK", wire.identity_again(2))
    wire.script(at(2))
    names = [command.name for command in redis_log.commands() if command.client != "lua"]
    assert names == ["evalsha", "eval", "evalsha"]


def test_a_pipeline_over_databases_is_one_send(wire: RedisClient, redis_log: RedisLog) -> None:
    """SELECTs travel with it, and the line's own database is selected back."""
    for _ in range(2):  # the first time the script is not known yet
        redis_log.clear()
        replies, identity = wire.pipeline([at(2), at(5), at(5, key="l"), at(0)])
    assert (replies, identity) == ([b"OK"] * 4, wire.mget(2, ["k"])[1])
    said = [(c.name, c.db) for c in redis_log.commands(handshakes=True) if c.client != "lua"]
    names = [name for name, _ in said if name != "info"]
    assert names == ["evalsha", "select", *["evalsha"] * 2, "select", "evalsha", "select", "mget"]
    assert len({command.client for command in redis_log.commands(handshakes=True)}) == 1
    assert wire.mget(2, ["k"])[0] == [b"v"]
    assert wire.mget(5, ["k", "l"])[0] == [b"v", b"v"]
    assert wire.mget(0, ["k", "l"])[0] == [b"v", None]


def test_a_pipeline_mends_unknown_scripts_in_their_databases(wire: RedisClient) -> None:
    """After SCRIPT FLUSH the same calls give the same answers."""
    wire.pipeline([at(2), at(3)])
    wire.call(0, "SCRIPT", "FLUSH")
    wire.script(at(4, "known again"))
    wire.call(0, "SCRIPT", "FLUSH")
    assert wire.pipeline([at(2, "1"), at(3, "2"), at(2, "3", "l")])[0] == [b"OK"] * 3
    assert wire.mget(2, ["k", "l"])[0] == [b"1", b"3"]
    assert wire.mget(3, ["k"])[0] == [b"2"]


def test_no_calls_are_no_pipeline(wire: RedisClient, redis_log: RedisLog) -> None:
    assert wire.pipeline([]) == ([], b"")
    assert redis_log == []


def test_an_error_reply_is_unavailable_and_no_answer(wire: RedisClient) -> None:
    """Alone or among others; the next call is answered as if nothing had been."""
    for fail in (
        lambda: wire.call(2, "NOSUCHCOMMAND"),
        lambda: wire.script(at(2, script=BROKEN)),
        lambda: wire.pipeline([at(2), at(3, script=BROKEN), at(2)]),
    ):
        with pytest.raises(CacheUnavailable, match="refused: "):
            fail()
        assert wire.call(2, "ECHO", "next") == b"next"


def test_a_database_the_server_has_not_is_a_configuration_error(wire: RedisClient) -> None:
    """It says which, on a fresh line and in the middle of a pipeline."""
    for ask in (lambda: wire.mget(99, ["k"]), lambda: wire.pipeline([at(2), at(99)])):
        with pytest.raises(ConfigurationError, match="has no database 99"):
            ask()
    assert wire.databases() == 16


def test_databases_are_counted_where_config_is_forbidden(
    private_redis: PrivateRedis, build: Build
) -> None:
    """Managed servers forbid CONFIG."""
    with redis.Redis(port=private_redis.port) as admin:
        admin.execute_command("ACL SETUSER default -config")
    assert build(private_redis.url).databases() == 16


def test_a_replica_is_unavailable_for_writes(private_redis: PrivateRedis, build: Build) -> None:
    """READONLY drops the line, so that the next command may find the new master."""
    wire = build(private_redis.url)
    wire.call(2, "SET", "k", "v")
    with redis.Redis(port=private_redis.port) as admin:
        admin.execute_command("REPLICAOF 127.0.0.1 1")
        with pytest.raises(CacheUnavailable, match="READONLY"):
            wire.script(at(2))
        assert "0 idle connections" in repr(wire)
        admin.execute_command("REPLICAOF NO ONE")
    assert wire.script(at(2))[0] == b"OK"


def test_out_of_memory_is_unavailable_and_keeps_the_line(
    private_redis: PrivateRedis, build: Build
) -> None:
    """A full server is no reason to connect anew for every write."""
    wire = build(private_redis.url)
    wire.mget(2, ["k"])
    with redis.Redis(port=private_redis.port) as admin:
        admin.config_set("maxmemory", 1)
        with pytest.raises(CacheUnavailable, match="OOM"):
            wire.call(2, "SET", "k", "v")
    assert "1 idle connections" in repr(wire)


def test_the_identity_changes_with_a_restart(private_redis: PrivateRedis, build: Build) -> None:
    """Another process may have other data; the line that died with the old one is replaced."""
    wire = build(private_redis.url)
    _, before = wire.mget(2, ["k"])
    private_redis.restart()
    _, after = wire.mget(2, ["k"])
    assert before != after


def test_the_identity_is_asked_again_at_most_once_a_second(
    wire: RedisClient, redis_log: RedisLog
) -> None:
    """A storm of foreign entries does not become a storm of INFOs."""
    wire.mget(2, ["k"])
    redis_log.clear()
    assert len({wire.identity_again(2) for _ in range(5)}) == 1
    assert [c.name for c in redis_log.commands(handshakes=True)] == ["info", "info"]


def test_a_living_line_learns_the_servers_new_name(
    private_redis: PrivateRedis, build: Build
) -> None:
    """A replication history that changes under a living connection is seen by asking again."""
    wire = build(private_redis.url)
    _, before = wire.mget(2, ["k"])
    with redis.Redis(port=private_redis.port) as admin:
        admin.execute_command("REPLICAOF 127.0.0.1 1")
        admin.execute_command("REPLICAOF NO ONE")
    assert wire.mget(2, ["k"])[1] == before
    after = wire.identity_again(2)
    assert after != before
    assert wire.mget(2, ["k"])[1] == after


def test_a_line_closed_while_idle_is_replaced_unnoticed(
    wire: RedisClient, redis_client: "redis.Redis"
) -> None:
    """CLIENT KILL, a server's idle timeout, a restart: no error for the next caller."""
    together(*[lambda: wire.mget(2, ["k"])] * 3)
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert wire.mget(2, ["k"])[0] == [None]
    assert "1 idle connections" in repr(wire)


def test_closed_means_closed(wire: RedisClient) -> None:
    """Twice is once; a call after it says what to do."""
    wire.mget(2, ["k"])
    wire.close()
    wire.close()
    assert repr(wire).endswith("closed>")
    with pytest.raises(CacheClosedError, match="was closed"):
        wire.mget(2, ["k"])


def test_password_and_user_name_come_from_the_url(
    private_redis: PrivateRedis, build: Build
) -> None:
    """With special characters percent-encoded, and never shown."""
    with redis.Redis(port=private_redis.port) as admin:
        admin.execute_command("ACL SETUSER app on >s:e/c@ret ~* +@all")
        admin.config_set("requirepass", "p%ss")
    for user in ("app:s%3Ae%2Fc%40ret", ":p%25ss"):
        wire = build(f"redis://{user}@127.0.0.1:{private_redis.port}")
        assert wire.mget(2, ["k"])[0] == [None]
        assert (
            repr(wire) == f"<RedisClient redis://127.0.0.1:{private_redis.port} 1 idle connections>"
        )


def test_a_wrong_password_is_unavailable_and_not_shown(
    private_redis: PrivateRedis, build: Build
) -> None:
    """NOAUTH and WRONGPASS are answers of a server that does not serve us."""
    with redis.Redis(port=private_redis.port) as admin:
        admin.config_set("requirepass", "right")
    for url in ("redis://:wr0ng@127.0.0.1", "redis://127.0.0.1"):
        with pytest.raises(CacheUnavailable) as caught:
            build(f"{url}:{private_redis.port}").mget(2, ["k"])
        assert "wr0ng" not in repr(caught.value)


def test_unix_sockets(build: Build, tmp_path: Path) -> None:
    """unix:///path"""
    path = tmp_path / "r.sock"
    with PrivateRedis(options=("--unixsocket", str(path))):
        wire = build(f"unix://{path}")
        assert wire.call(2, "ECHO", "x") == b"x"
        assert repr(wire) == f"<RedisClient unix://{path} 1 idle connections>"


def test_ipv6(build: Build) -> None:
    """redis://[::1]:port"""
    with PrivateRedis(options=("--bind", "127.0.0.1", "::1")) as server:
        wire = build(f"redis://[::1]:{server.port}")
        try:
            assert wire.call(2, "ECHO", "x") == b"x"
        except CacheUnavailable as error:
            pytest.skip(f"this machine has no IPv6 loopback: {error}")
        assert repr(wire) == f"<RedisClient redis://[::1]:{server.port} 1 idle connections>"


def test_tls(build: Build, tmp_path: Path) -> None:
    """rediss:// with the certificate checked, and refused if it is not the one expected."""
    key, certificate = _certificate(tmp_path)
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no")
    with _tls_redis(files) as port:
        wire = build(f"rediss://localhost:{port}?ssl_ca_certs={certificate}")
        wire.call(2, "SET", "large", large := os.urandom(200_000))
        assert wire.mget(2, ["large", "k"])[0] == [large, None]
        assert repr(wire) == f"<RedisClient rediss://localhost:{port} 1 idle connections>"
        with pytest.raises(CacheUnavailable, match=r"(?i)certificate"):
            build(f"rediss://localhost:{port}").mget(2, ["k"])


def _certificate(directory: Path) -> tuple[str, str]:
    key, certificate = str(directory / "key.pem"), str(directory / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


class _tls_redis:
    """A Redis that speaks TLS on a port of its own; SkipTest where it was built without."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files

    def __enter__(self) -> int:
        from examples.servers.private_server import free_port

        port = free_port()
        try:
            self._server = PrivateRedis(options=("--tls-port", str(port), *self._files)).start()
        except Exception as error:
            pytest.skip(f"this redis-server does not speak TLS: {error}")
        return port

    def __exit__(self, *exc: object) -> None:
        self._server.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://127.0.0.1:6379/2", "regions name theirs"),
        ("redis://127.0.0.1:6379/0", "regions name theirs"),
        ("redis://127.0.0.1:6379?db=2", "regions name theirs"),
        ("unix:///tmp/redis.sock?db=2", "regions name theirs"),
        ("redis://127.0.0.1/cache", "regions name theirs"),
        ("http://127.0.0.1:6379", "cannot be read"),
        ("redis://user:p/ssw0rd@127.0.0.1:6379", "cannot be read"),
        ("redis://:p4ssw0rd@127.0.0.1:6379?soket_timeout=1", "soket_timeout"),
    ],
)
def test_a_wrong_url_says_what_to_do(url: str, says: str, build: Build) -> None:
    """And never repeats a password."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        build(url)
    for part in ("p/ss", "p4ss", "w0rd"):
        assert part not in str(caught.value)


def test_time_limits_may_stand_in_the_url(redis_url: str, build: Build) -> None:
    """redis-py's own words for them."""
    wire = build(f"{redis_url}?socket_timeout=1&socket_connect_timeout=60")
    with pytest.raises(CacheUnavailable):
        wire.call(2, "BLPOP", "empty", "0")


def test_a_forked_child_has_lines_of_its_own(wire: RedisClient) -> None:
    """Parent and child talk at once, and neither ever reads the other's replies."""
    together(*[lambda: wire.mget(2, ["k"])] * 3)
    child = os.fork()
    if child == 0:
        # In a thread, because a loop is of no use in the child of a fork.
        with ThreadPoolExecutor(1) as fresh:
            os._exit(0 if fresh.submit(_own_answers, wire, "child").result() else 1)
    assert _own_answers(wire, "parent")
    assert os.waitpid(child, 0)[1] == 0


def _own_answers(wire: RedisClient, name: str) -> bool:
    return all(
        wire.call(2, "ECHO", f"{name}-{turn}") == f"{name}-{turn}".encode() for turn in range(500)
    )


def test_a_child_that_ends_leaves_the_parents_lines_alone(wire: RedisClient) -> None:
    """Neither what it forgets at the fork nor what is finalised at its end reaches the parent."""
    together(*[lambda: wire.mget(2, ["k"])] * 3)
    before, idle = wire.call(2, "CLIENT", "ID"), repr(wire)
    child = os.fork()
    if child == 0:
        wire._idle._buried.clear()
        gc.collect()
        os._exit(0 if "0 idle" in repr(wire) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert repr(wire) == idle
    assert wire.call(2, "CLIENT", "ID") == before
    assert all(together(*[lambda: wire.mget(2, ["k"])[0] == [None]] * 3))
