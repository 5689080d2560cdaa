"""The order in which servers are found, and what is said when there are none."""

import os
import subprocess
import sys

import pytest

from examples.servers import PrivateRedis, ServersNotFound, servers
from examples.servers.ways import chosen_ways


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that says nothing."""
    for name in list(os.environ):
        if name.startswith("CACHEDORM_"):
            monkeypatch.delenv(name)


def test_every_way_is_tried_in_order() -> None:
    """URLs, containers, local binaries, apt."""
    assert list(chosen_ways()) == ["environment", "containers", "local", "apt"]


def test_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, database_url: str, private_redis: PrivateRedis
) -> None:
    """With both URLs given nothing is started, and the line says so."""
    monkeypatch.setenv("CACHEDORM_DATABASE_URL", database_url)
    monkeypatch.setenv("CACHEDORM_REDIS_URL", private_redis.url)
    said: list[str] = []
    with servers(say=said.append) as found:
        assert (found.database_url, found.redis_url) == (database_url, private_redis.url)
    assert said == [f"servers: {found.how}"]
    assert "CACHEDORM_DATABASE_URL" in found.how
    assert "CACHEDORM_REDIS_URL" in found.how
    assert private_redis.running


def test_local_binaries_make_private_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without URLs and containers the servers are ours, and end with the block."""
    monkeypatch.setenv("CACHEDORM_SERVERS", "local")
    with servers(say=lambda line: None) as found:
        assert found.how == "PostgreSQL and Redis: private server from local binaries"
        assert found.database_url.startswith("postgresql+psycopg://")
        assert found.redis_url.startswith("redis://")


def test_no_way_left_names_them_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The error lists each way with the reason why it was closed."""
    monkeypatch.setenv("CACHEDORM_NO_INSTALL", "1")
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr("examples.servers.binaries.PLACES", ())
    with pytest.raises(ServersNotFound) as caught, servers(say=lambda line: None):
        pass
    text = str(caught.value)
    assert "environment: CACHEDORM_DATABASE_URL is not set" in text
    assert "containers: no Docker engine answers" in text
    assert "local: no initdb on PATH" in text
    assert "apt: CACHEDORM_NO_INSTALL forbids it" in text


def test_a_url_nobody_answers_at_is_not_passed_over_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who names a server and is mistaken is told so, not given another one."""
    monkeypatch.setenv("CACHEDORM_DATABASE_URL", "postgresql+psycopg://127.0.0.1:1/none")
    with (
        pytest.raises(ServersNotFound, match="CACHEDORM_DATABASE_URL"),
        servers(say=lambda line: None),
    ):
        pass


def test_an_unknown_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in CACHEDORM_SERVERS does not mean "any"."""
    monkeypatch.setenv("CACHEDORM_SERVERS", "contaners")
    with pytest.raises(ServersNotFound, match="contaners"):
        chosen_ways()


def test_the_line_goes_to_standard_error() -> None:
    """A program that prints results keeps its standard output to itself."""
    done = subprocess.run(
        [sys.executable, "-c", "from examples.servers import servers\nwith servers(): pass"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"CACHEDORM_SERVERS": "local"},
    )
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "servers: PostgreSQL and Redis: private server from local binaries"
    ]
