"""`cachedorm stats`: what Redis tells, counted by what stands at its keys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from models import Guide, User
from tests.fixtures.command_line import Command
from tests.fixtures.patience import PATIENCE

Town = sessionmaker[Session]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def filled(town: Town, redis_client: redis.Redis) -> redis.Redis:
    """Database 2 with one key of each kind, and a few guides in 5."""
    with town() as session:
        for user_id in ("u0001", "u0002", "nobody"):
            session.get(User, user_id)
        for guide in session.query(Guide).limit(4):
            session.scalar(Guide.by(category=guide.category))
    redis_client.select(2)
    redis_client.set("user:profile:filling", b"L" + b"1" * 16)
    redis_client.set("user:profile:writing", b"I" + b"1" * 16)
    redis_client.set("user:profile:old", b"V\2rest")
    redis_client.set("user:profile:cut", (redis_client.get("user:profile:u0001") or b"")[:40])
    redis_client.zadd("~i:user:profile:writing", {"w": 2e13})
    redis_client.zadd("~i:user:profile:died", {"w": 1})
    redis_client.rpush("queue", "x")
    return redis_client


def test_every_kind_is_counted(filled: redis.Redis, command: Command) -> None:
    """Exactly, where every key is looked at."""
    done = command("stats", "--json", "--sample", "0").json

    my, info = (each for each in done["databases"] if each["db"] in (2, 5))
    assert my["kinds"] == {
        "absent": 1,
        "garbage": 1,
        "intent": 1,
        "lease": 1,
        "not ours": 1,
        "other format": 1,
        "stamp": 1,
        "value": 2,
        "writers": 1,
        "writers gone": 1,
    }
    assert my["templates"] == {"user:profile:{user_id}": 3}
    assert (my["regions"], my["keys"], my["sampled"]) == (["my"], 11, 11)
    assert info["templates"] == {"info:guide:{category}": 4}
    assert info["entry_bytes"] > 50
    assert done["registry"]["of_this_application"] >= 1
    assert done["redis"]["keyspace_hits"] > 0


def test_a_sample_is_scaled(town: Town, redis_client: redis.Redis, command: Command) -> None:
    """Of many keys a few are looked at, and the rest is judged by those."""
    redis_client.select(2)
    with redis_client.pipeline() as pipeline:
        for number in range(2000):
            pipeline.set(f"user:profile:{number}", b"L" + b"1" * 16)
        pipeline.execute()
    done = command("stats", "--json", "--sample", "100", "--region", "my").json
    (my,) = done["databases"]

    assert (my["keys"], my["sampled"]) == (2000, 100)
    assert my["estimated"] == {"lease": 2000}
    assert "~2000" in command("stats", "--sample", "100", "--region", "my").stdout


def test_for_people(filled: redis.Redis, command: Command) -> None:
    """A table of the regions, and of the keys by template; nothing in it is cut."""
    said = command("stats").stdout

    assert "key lookups since server start" in said
    assert "user:profile:{user_id}" in said
    assert not any(line.endswith(" ") for line in said.splitlines())


def test_a_watch_counts_what_is_new(filled: redis.Redis) -> None:
    """Each look after the first says what happened since; Ctrl-C ends it well."""
    words = [
        "stats",
        "--app",
        "tests.support.service.warm_app:made",
        "--watch",
        "--every",
        "0.1",
        "--json",
    ]
    with subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "cachedorm.cli", *words],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first, second = _document(watching.stdout), _document(watching.stdout)
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=PATIENCE)

    assert "since" not in first
    assert second["since"]["seconds"] > 0
    assert (watching.returncode, complaint) == (0, "")


def _document(stream: object) -> dict[str, dict[str, float]]:
    lines = []
    for line in stream:  # type: ignore[attr-defined]
        lines.append(line)
        if line == "}\n":
            break
    found: dict[str, dict[str, float]] = json.loads("".join(lines))
    return found


@pytest.mark.parametrize(
    ("words", "app", "says"),
    [
        (("--region", "nope"), "warm_app:made", "no region is named 'nope'"),
        (("--sample", "-1"), "warm_app:made", "--sample"),
        ((), "cli_apps:in_this_process", "has no Redis"),
    ],
)
def test_wrong_words(
    town: Town, command: Command, words: tuple[str, ...], app: str, says: str
) -> None:
    """One line, and 2."""
    done = command("stats", *words, app=f"tests.support.service.{app}")

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_redis_away(town: Town, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said where it was looked for, without the password."""
    monkeypatch.setenv("WARM_REDIS", "redis://me:s3cret@127.0.0.1:1")
    done = command("stats")

    assert (done.status, done.stdout) == (2, "")
    assert "127.0.0.1:1" in done.stderr
    assert "s3cret" not in done.stderr
