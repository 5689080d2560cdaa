"""`cachedorm invalidate`: each way to name what is to end, and nothing else ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from models import Guide, User, chat_history, recent_activities
from tests.fixtures.command_line import Command

Town = sessionmaker[Session]
ALL = {
    "user:profile:u0001",
    "user:profile:u0002",
    "user:activity:u0001",
    "chat:history:u0001?limit=10",
    "info:guide:plastic",
}


@pytest.fixture
def filled(town: Town) -> Town:
    """Five entries in three databases."""
    read(town)
    return town


def read(town: Town) -> None:
    with town() as session:
        for user_id in ("u0001", "u0002"):
            session.get(User, user_id)
        session.scalars(recent_activities(user_id="u0001")).all()
        session.scalars(chat_history(user_id="u0001")).all()
        session.scalar(Guide.by(category="plastic"))


def ended(command: Command, client: redis.Redis) -> set[str]:
    """Which entries no reader would take any more."""
    found = {key: command("inspect", key, "--json").json["found"][0]["valid"] for key in ALL}
    return {key for key, valid in found.items() if not valid}


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("User", "u0001"), {"user:profile:u0001"}),
        (("models.my.User", "u0002"), {"user:profile:u0002"}),
        (("Guide", "plastic"), {"info:guide:plastic"}),
        (("--tag", "my_db.activities.user_id=u0001"), {"user:activity:u0001"}),
        (("--tag", "Conversation.user_id=u0001"), {"chat:history:u0001?limit=10"}),
        (
            ("--field", "user_id=u0001"),
            {"user:profile:u0001", "user:activity:u0001", "chat:history:u0001?limit=10"},
        ),
        (("--pattern", "user:*:u0001"), {"user:profile:u0001", "user:activity:u0001"}),
        (("--pattern", "*u0001*", "--region", "chat"), {"chat:history:u0001?limit=10"}),
        (("--region", "info"), {"info:guide:plastic"}),
        (("--region", "my"), {key for key in ALL if key.startswith("user:")}),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_is_named_ends(
    filled: Town,
    command: Command,
    redis_client: redis.Redis,
    words: tuple[str, ...],
    gone: set[str],
) -> None:
    """That, and only that."""
    done = command("invalidate", *words, "--json")

    assert done.status == 0, done.stderr
    assert done.json["errors"] == {}
    assert ended(command, redis_client) == gone


def test_for_coroutines_and_people(filled: Town, command: Command) -> None:
    """A Cache for coroutines ends entries as well, and a line says how many."""
    for app in ("warm_app:made_for_coroutines", "cli_apps:engine_for_coroutines"):
        done = command("invalidate", "User", "u0001", app=f"tests.support.service.{app}")
        assert (done.status, done.stdout) == (
            0,
            "User u0001: invalidated (entries and stamps: 1 in database 2)\n",
        )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one of"),
        (("User", "1", "--field", "user_id=1"), "give one of"),
        (("User", "--region", "my"), "give one of"),
        (("User",), "takes its key's fields: user_id; given: nothing"),
        (("User", "1", "2"), "given: 1 2"),
        (("Usr", "1"), "no cached model is named 'Usr'"),
        (("Activity", "1"), "has no key of its own"),
        (("--tag", "users"), "give table.column=value"),
        (("--tag", "id=1"), "has no table"),
        (("--tag", "my_db.users.nope=1"), "is not cached"),
        (("--tag", "my_db.users.nickname=x"), "nothing carries such a tag"),
        (("--field", "user_id"), "give field=value"),
        (("--field", "nope=1"), "has a field of this name"),
        (("--field", "radius_m"), "give field=value"),
        (("--pattern", ""), "give a glob pattern"),
        (("--region", "nope"), "no region is named"),
    ],
)
def test_wrong_words(
    filled: Town, command: Command, words: tuple[str, ...], says: str, redis_client: redis.Redis
) -> None:
    """One line, 2, and nothing has ended."""
    done = command("invalidate", *words)

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
    redis_client.select(2)
    assert redis_client.exists("user:profile:u0001", "~s:my_db.users") == 2


@pytest.fixture
def paused(private_redis: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Redis that lets nobody write."""
    url = private_redis.url  # type: ignore[attr-defined]
    monkeypatch.setenv("WARM_REDIS", url)
    with redis.Redis.from_url(url) as client:
        client.config_set("min-replicas-to-write", 1)
        yield


def test_redis_that_was_not_told(filled: Town, command: Command, paused: None) -> None:
    """A script must know that the old entries are still there."""
    done = command("invalidate", "User", "u0001")

    assert done.status == 1
    assert "Redis failed" in done.stdout
