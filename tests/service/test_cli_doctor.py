"""`cachedorm doctor`: each finding, its severity, and the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from examples.recycling.migrate import migrate
from examples.servers import PrivateRedis
from tests.fixtures.command_line import Command
from tests.fixtures.patience import eventually

Town = sessionmaker[Session]
ROOT = Path(__file__).parents[2]


def findings(command: Command, check: str, app: str = "warm_app:made") -> list[Any]:
    """Severity and text of what was found of one kind."""
    told = command("doctor", "--json", app=f"tests.support.service.{app}").json
    return [
        (each["severity"], each["found"]) for each in told["findings"] if each["check"] == check
    ]


def doctor(*words: str, app: str = "warm_app:made") -> Any:
    """In a process of its own, where nothing is declared but what the application declares."""
    return subprocess.run(
        [
            *(sys.executable, "-W", "error::ResourceWarning", "-m", "cachedorm.cli", "doctor"),
            *("--app", f"tests.support.service.{app}", *words),
        ],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("app", ["warm_app:made", "warm_app:made_for_coroutines"])
def test_the_recycling_models(town: Town, app: str) -> None:
    """Nothing is wrong with them; with --strict an unbounded Redis is."""
    done = doctor("--strict", "--json", app=app)

    told = json.loads(done.stdout)
    assert [each for each in told["findings"] if each["severity"] in ("error", "unknown")] == []
    assert [each["check"] for each in told["findings"] if each["severity"] == "warning"] == [
        "memory"
    ]
    assert (done.returncode, told["status"], done.stderr) == (1, 1, "")


def test_keys_that_run_into_each_other() -> None:
    """One key for two is an error, for some values a warning; no server is needed to see it."""
    done = doctor("--json", app="colliding_app:cache")
    keys = {
        each["severity"]: each["found"]
        for each in json.loads(done.stdout)["findings"]
        if each["check"] == "keys"
    }

    assert done.returncode == 1
    assert "user:activity:{user_id} and user:activity:{user_id}" in keys["error"]
    assert "user:activity:all" in keys["warning"]


def test_for_people(town: Town, command: Command) -> None:
    """The worst first, with what to do, and a summary."""
    said = command("doctor").stdout

    assert "set maxmemory and a maxmemory-policy" in said
    assert "exit status" in said.splitlines()[-1]


@pytest.fixture
def settings(
    town: Town, private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Sets up a Redis of the test's own, which the application uses."""
    monkeypatch.setenv("WARM_REDIS", private_redis.url)
    with redis.Redis.from_url(private_redis.url) as client:

        def configure(**chosen: str | int) -> Any:
            for name, value in chosen.items():
                client.config_set(name.replace("_", "-"), value)
            return client

        yield configure


def test_what_must_not_be_evicted(settings: Callable[..., Any], command: Command) -> None:
    """evictable=False under allkeys-lru is an error, a neighbour's database a warning."""
    settings(maxmemory="64mb", maxmemory_policy="allkeys-lru")
    with redis.Redis.from_url(os.environ["WARM_REDIS"], db=13) as client:
        client.set("job", "x")

    severities = dict(findings(command, "evictable", "cli_apps:kept"))
    assert list(severities) == ["error", "warning"]
    assert "kept is declared evictable=False" in severities["error"]
    assert "13 (a queue)" in severities["warning"]
    assert findings(command, "maxmemory-policy", "cli_apps:kept")[0][0] == "info"


def test_nothing_is_evicted_yet(settings: Callable[..., Any], command: Command) -> None:
    """Without maxmemory the same is a warning; with noeviction nothing."""
    settings(maxmemory_policy="volatile-lru")
    assert [s for s, _ in findings(command, "evictable", "cli_apps:kept")] == ["warning"]
    settings(maxmemory_policy="noeviction")
    assert findings(command, "evictable", "cli_apps:kept") == []


@pytest.mark.parametrize("policy", ["volatile-ttl", "volatile-random", "allkeys-random"])
def test_intents_that_go_early(settings: Callable[..., Any], command: Command, policy: str) -> None:
    """By what ends first, or at random."""
    settings(maxmemory="64mb", maxmemory_policy=policy)
    assert tuple(s for s, _ in findings(command, "maxmemory-policy")) == ("warning", "info")


def test_a_full_redis(settings: Callable[..., Any], command: Command) -> None:
    """Nothing can be written there any more."""
    client = settings()
    used = client.info("memory")["used_memory"]
    settings(maxmemory=int(used * 1.01), maxmemory_policy="noeviction")
    assert findings(command, "memory")[0][0] == "error"


def test_persistence(settings: Callable[..., Any], command: Command) -> None:
    """Said what it means, which is little."""
    settings(save="900 1")
    severity, found = findings(command, "persistence")[0]
    assert severity == "info"
    assert "are not served" in found


def test_saving_that_fails(
    settings: Callable[..., Any], private_redis: PrivateRedis, command: Command
) -> None:
    """Redis refuses even PING then; the rest is examined all the same."""
    client = settings(save="900 1")
    (private_redis.directory / client.config_get("dbfilename")["dbfilename"]).mkdir()
    client.set("x", "y")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok")
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        client.ping()

    found = findings(command, "persistence")
    assert [severity for severity, _ in found] == ["info", "error"]
    assert "rdb_last_bgsave_status" in found[-1][1]
    assert findings(command, "registry") != []


def test_a_replica_refuses_writes(
    settings: Callable[..., Any], redis_url: str, command: Command
) -> None:
    """Connected to the wrong one of two."""
    client = settings()
    client.replicaof("127.0.0.1", 1)
    assert findings(command, "role")[0][0] == "error"


def test_a_number_beyond_the_server(town: Town, command: Command) -> None:
    """The region and the server's count are named; the rest is examined all the same."""
    severity, found = findings(command, "databases", "cli_apps:kept")[0]
    assert severity == "error"
    assert "beyond (99)" in found
    assert findings(command, "clock", "cli_apps:kept") != []
    assert any("beyond" in found for _, found in findings(command, "intents", "cli_apps:kept"))


def test_strangers(town: Town, redis_client: redis.Redis, command: Command) -> None:
    """Somebody else's keys in a region's database are seen."""
    redis_client.select(5)
    redis_client.rpush("celery", "job")
    severity, found = findings(command, "strangers")[0]
    assert severity == "warning"
    assert "'celery'" in found


def test_the_registry(town: Town, redis_client: redis.Redis, command: Command) -> None:
    """Interests that this code does not know are counted."""
    redis_client.hset("~interest", mapping={"~version": "v", "~born": "1", "2|a|a|x": "1 2"})
    severity, found = findings(command, "registry")[0]
    assert (severity, "1 of them unknown" in found) == ("info", True)


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("WARM_REDIS", "redis://me:s3cret@127.0.0.1:1", "redis"),
        ("WARM_DATABASE", "postgresql+psycopg://me:s3cret@127.0.0.1:1/x", "database"),
    ],
)
def test_what_cannot_be_examined(
    town: Town,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    check: str,
) -> None:
    """It is said, the rest is examined, and the status is 2."""
    monkeypatch.setenv(name, value)
    done = command("doctor", "--json")

    assert (done.status, done.json["status"]) == (2, 2)
    unknown = [each for each in done.json["findings"] if each["severity"] == "unknown"]
    assert [each["check"] for each in unknown] == [check]
    assert "s3cret" not in done.stdout + done.stderr
    assert len(done.json["findings"]) > 3


def test_a_cache_without_redis(town: Town, command: Command) -> None:
    """Is no fault, but said."""
    assert findings(command, "redis", "cli_apps:in_this_process")[0][0] == "info"


def test_nothing_attached(town: Town, command: Command) -> None:
    """Such a Cache serves nobody."""
    assert findings(command, "attached", "cli_apps:unattached")[0][0] == "error"


def test_isolation(town: Town, command: Command) -> None:
    """Snapshots keep every read from the cache."""
    severity, found = findings(command, "isolation", "cli_apps:by_snapshots")[0]
    assert severity == "warning"
    assert "REPEATABLE READ" in found


def test_tables_that_are_not_what_they_seem(
    town: Town, database_url: str, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Row-level security, triggers, and a table that is not there, each by its name."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        migrate(connection)
        for statement in (
            "alter table my_db.users enable row level security",
            "create function f() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger t before insert on auth_db.revocations for each row"
            " execute function f()",
            "drop table scan_db.scan_results cascade",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    monkeypatch.setenv("WARM_DATABASE", database_url)

    tables = [text for severity, text in findings(command, "tables") if severity == "error"]
    assert any("my_db.users is never served" in text for text in tables)
    assert any("scan_db.scan_results" in text for text in tables)
    ((severity, found),) = findings(command, "triggers")
    assert severity == "warning"
    assert "auth_db.revocations has a trigger" in found
    assert "not written through" in found
