"""Both Redises, started with the configurations that are deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from examples.servers import PrivateRedis
from examples.servers.binaries import redis_binary
from tests.support.manifests import compose, redis_conf

SAID = {
    "k8s-redis": {
        "maxmemory": str(1536 * 1024**2),
        "maxmemory-policy": "allkeys-lru",
        "save": "900 1 300 10 60 10000",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "protected-mode": "no",
    },
    "k8s-redis-durable": {
        "maxmemory": str(512 * 1024**2),
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "protected-mode": "no",
    },
}


class GivenRedis(PrivateRedis):
    """A redis-server with given arguments; only its port, its address and its folder are ours."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__()
        self._arguments = arguments

    def _command(self) -> Sequence[str]:
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        return [redis_binary(), *self._arguments, *own]


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[redis.Redis]:
    with (
        GivenRedis(arguments) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        yield client


def as_in_kubernetes(name: str, folder: Path) -> list[str]:
    """The ConfigMap's file; its folder is that of the mount."""
    conf = redis_conf(name)
    assert "\ndir /data\n" in conf
    path = folder / "redis.conf"
    path.write_text(conf.replace("\ndir /data\n", f"\ndir {folder}\n"))
    return [str(path)]


def as_in_compose(name: str) -> list[str]:
    command: list[str] = compose()["services"][name]["command"]
    assert command[0] == "redis-server"
    return command[1:]


@pytest.mark.parametrize("name", SAID)
def test_it_starts_and_has_the_settings(name: str, tmp_path: Path) -> None:
    """What the document says (its `1.5gb` would not even start), in Kubernetes as in Compose."""
    for arguments in (as_in_kubernetes(name, tmp_path), as_in_compose(name)):
        with started(arguments) as client:
            found = {setting: client.config_get(setting)[setting] for setting in SAID[name]}
            assert found == SAID[name]
            assert client.info("persistence")["aof_enabled"] == 1


def test_only_the_durable_one_refuses_to_forget(tmp_path: Path) -> None:
    """Full, the one evicts and takes the write, the other keeps all it has and says no."""
    for name, evicts in (("k8s-redis", True), ("k8s-redis-durable", False)):
        folder = tmp_path / name
        folder.mkdir()
        with started(as_in_kubernetes(name, folder)) as client:
            client.config_set("maxmemory", "4mb")
            taken = fill(client)
            assert (client.info("stats")["evicted_keys"] > 0) is evicts
            assert (taken == 400) is evicts


def fill(client: redis.Redis) -> int:
    """Write 400 values of 20 kB; how many were taken."""
    for number in range(400):
        try:
            client.set(f"k{number}", b"x" * 20_000)
        except redis.OutOfMemoryError:
            return number
    return 400
