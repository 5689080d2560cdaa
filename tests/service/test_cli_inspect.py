"""`cachedorm inspect`: what stands at a key, and whether a reader would take it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from cachedorm.orm.database.factories import sessions_of
from cachedorm.responses import CacheRule, ResponseCache
from models import (
    API,
    Guide,
    RecycleCenter,
    User,
    character_state,
    chat_history,
    nearby_centers,
    search_guides,
)
from tests.fixtures.command_line import Command
from tests.support.contrib.site import asking, is_stored
from tests.support.service.warm_app import made

Town = sessionmaker[Session]
USER = "user:profile:u0001"


@pytest.fixture
def my(town: Town, redis_client: redis.Redis) -> redis.Redis:
    """Database 2, with the profile of u0001 in it."""
    with town() as session:
        session.get(User, "u0001")
    redis_client.select(2)
    return redis_client


def _bytes_at(client: redis.Redis, key: str) -> bytes:
    found = client.get(key)
    assert isinstance(found, bytes)
    return found


def inspected(command: Command, key: str, *words: str) -> Any:
    """The one verdict on a key."""
    done = command("inspect", key, "--json", *words)
    assert done.status == 0, done.stderr
    (found,) = done.json["found"]
    return found


def test_a_valid_entry(my: redis.Redis, command: Command) -> None:
    """Its value by names, its stamp with what that stands for; excluded columns are not there."""
    found = inspected(command, USER)

    assert (found["kind"], found["valid"], found["db"]) == ("value", True, 2)
    assert found["regions"] == ["my"]
    assert found["declared"]["name"] == "User"
    (stamp,) = found["stamps"]
    assert stamp["key"] == "~s:my_db.users"
    assert stamp["matches"]
    assert stamp["carried"] == stamp["now"]
    (row,) = found["value"]["rows"]
    assert row["email"] == "u0001@example.com"
    assert "password_hash" not in row
    assert 0 < found["ttl_ms"] <= 3_600_000
    assert found["header"]["fingerprint"] == found["header"]["expected_fingerprint"]


def test_it_changes_nothing(my: redis.Redis, command: Command) -> None:
    """Neither the bytes nor what else is there."""
    before = {key: my.dump(key) for key in my.scan_iter()}
    inspected(command, USER)

    assert {key: my.dump(key) for key in my.scan_iter()} == before


def test_the_answer_of_a_query(town: Town, command: Command) -> None:
    """Its declaration, what it depends on, and the stamps of exactly its parameters."""
    with town() as session:
        session.scalars(chat_history(user_id="u0001", limit=2)).all()
    found = inspected(command, "chat:history:u0001?limit=2", "--rows", "1")

    assert found["valid"]
    assert found["declared"]["depends_on"] == ["chat_db.conversations.user_id=:user_id"]
    assert "conversations.user_id = :user_id" in found["declared"]["statement"]
    assert [stamp["key"] for stamp in found["stamps"]] == [
        "~s:chat_db.conversations",
        "~s:chat_db.conversations.user_id=u0001",
    ]
    assert (found["value"]["count"], len(found["value"]["rows"])) == (2, 1)


@pytest.mark.parametrize("app", ["made", "made_for_coroutines"])
def test_every_kind_of_declaration(town: Town, command: Command, app: str) -> None:
    """Rows by a unique key, aggregates, searches, candidates of a cell: all valid and readable."""
    with town() as session:
        session.scalar(Guide.by(category="plastic"))
        session.scalars(search_guides(keyword=" 플라스틱 ")).all()
        session.execute(character_state(user_id="u0001")).all()
        centre = session.get_one(RecycleCenter, "c00001")
        session.execute(nearby_centers(lat=centre.lat, lon=centre.lon, radius_m=1500)).all()
        session.get(User, "none")
    done = {
        key: command("inspect", key, "--json", app=f"tests.support.service.warm_app:{app}").json[
            "found"
        ][0]
        for key in (
            "info:guide:plastic",
            "info:search:플라스틱",
            "character:state:u0001",
            "user:profile:none",
            _only("location:nearby:*", 4, town),
        )
    }

    assert {key: each["valid"] for key, each in done.items()} == dict.fromkeys(done, True)
    assert [each["kind"] for each in done.values()] == ["value"] * 3 + ["absent", "value"]
    *_, nearby = done.values()
    assert nearby["value"]["count"] >= 1
    assert any(".geohash=" in stamp["key"] for stamp in nearby["stamps"])
    assert "missions" in str(done["character:state:u0001"]["value"]["rows"])


def _only(pattern: str, db: int, town: Town) -> str:
    import os

    with redis.Redis.from_url(os.environ["WARM_REDIS"], db=db) as client:
        (key,) = client.keys(pattern)
        return bytes(key).decode()


@pytest.mark.parametrize(
    ("slot", "kind", "why"),
    [
        (b"L" + b"\7" * 16, "lease", "a reader is filling it"),
        (b"I" + b"\7" * 16, "intent", "a writer is about to commit"),
        (b"L", "garbage", "not an entry"),
        (b"V\1" + b"x" * 20, "garbage", "not an entry"),
        (b"V\2" + b"x" * 60, "other format", "another format"),
        (b"", "garbage", "not an entry"),
        (b'{"user_id": 42}', "garbage", "not an entry"),
    ],
)
def test_other_slots(my: redis.Redis, command: Command, slot: bytes, kind: str, why: str) -> None:
    """Each is called by its name."""
    my.set(USER, slot)
    found = inspected(command, USER)

    assert (found["kind"], found["valid"], found["ttl_ms"]) == (kind, False, None)
    assert why in found["why"]


def test_a_list_is_nothing_of_ours(my: redis.Redis, command: Command) -> None:
    """Another type of value is said to be one."""
    my.delete(USER)
    my.rpush(USER, "x")
    found = inspected(command, USER)

    assert (found["kind"], found["type"]) == ("not ours", "list")
    assert "holds a list" in found["why"]


@pytest.mark.parametrize(
    ("at", "put", "why"),
    [
        (slice(2, 10), b"\7" * 8, "its schema differs"),
        (slice(10, 18), b"\7" * 8, "another Redis server"),
        (slice(36, 52), b"\7" * 16, "one of its stamps"),
        (slice(35, 36), b"\0", "one of its stamps"),
        (slice(53, 60), b"\xc1" * 7, "cannot be decoded"),
        (slice(18, 19), b"\x40", "not an entry"),
    ],
)
def test_why_it_is_not_valid(
    my: redis.Redis, command: Command, at: slice, put: bytes, why: str
) -> None:
    """Every part of the header and the payload has its reason."""
    slot = bytearray(_bytes_at(my, USER))
    slot[at] = put
    my.set(USER, bytes(slot))
    found = inspected(command, USER)

    assert found["valid"] is False
    assert why in found["why"]


def test_a_stamp_that_is_gone(my: redis.Redis, command: Command) -> None:
    """The stamp is named, and that nothing stands there now."""
    my.delete("~s:my_db.users")
    found = inspected(command, USER)

    assert (found["valid"], found["stamps"][0]["now"]) == (False, None)
    assert found["value"]["rows"][0]["user_id"] == "u0001"
    assert "missing" in command("inspect", USER).stdout


def test_a_writer_is_seen(my: redis.Redis, command: Command) -> None:
    """An intent on a stamp that the entry carries is said, with how many are alive."""
    my.zadd("~i:~s:my_db.users", {"alive": 2e13, "dead": 1})
    found = inspected(command, USER)

    assert found["writers"] == {"~s:my_db.users": 1}


def test_a_key_where_nothing_stands(town: Town, command: Command) -> None:
    """Whose it would be is said; of a key that nobody makes, that."""
    assert inspected(command, "user:profile:zz")["declared"]["name"] == "User"
    nowhere = command("inspect", "zz:1")
    assert nowhere.status == 0
    assert "no template makes such keys" in nowhere.stdout


def test_a_plain_entry(town: Town, redis_url: str, command: Command) -> None:
    """What dogpile's users store is read too."""
    with made() as cache:
        cache.region("api").set("greeting", {"a": [1]})
        for each in cache.insight.trackers:
            each.engine.dispose()
    found = inspected(command, "greeting")

    assert (found["valid"], found["db"]) == (True, 1)
    assert found["value"]["rows"] == [{"value": {"a": [1]}}]


@pytest.fixture
def response(town: Town, redis_client: redis.Redis) -> str:
    """The key of a kept response, made of one guide and of the absence of another."""
    with made() as cache:
        sessions, app = sessions_of(cache.source), FastAPI()

        @app.get("/guides/{category}")
        def guide(category: str) -> list[str | None]:
            with sessions() as session:
                found = [session.scalar(Guide.by(category=each)) for each in (category, "none")]
            return [each.title if each else None for each in found]

        async def ask() -> None:
            kept = ResponseCache(app, cache, [CacheRule("/guides/{category}")], region=API)
            async with asking(kept) as client:
                assert is_stored(await client.get("/guides/plastic"))

        asyncio.run(ask())
        for each in cache.insight.trackers:
            each.engine.dispose()
    redis_client.select(API.db)
    (key,) = (each for each in redis_client.scan_iter() if not each.startswith(b"~"))
    return bytes(key).decode()


def test_a_response(response: str, command: Command) -> None:
    """What it answers, the entries that it was made of, and that all of them stand."""
    found = inspected(command, response)

    assert (found["kind"], found["valid"], found["db"]) == ("value", True, API.db)
    assert [(each["db"], each["key"], each["state"]) for each in found["sources"]] == [
        (5, "info:guide:plastic", "valid"),
        (5, "info:guide:none", "valid"),
    ]
    assert all(stamp["matches"] for stamp in found["stamps"])
    assert "application/json" in str(found["value"]["rows"])
    assert "info:guide:plastic  valid" in command("inspect", response).stdout


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda client: client.delete("info:guide:plastic"), "missing"),
        (lambda client: client.set("info:guide:plastic", b"I" + b"1" * 16), "is being written"),
        (lambda client: client.set("info:guide:plastic", b"L" + b"1" * 16), "is being filled"),
        (
            lambda client: client.copy("info:guide:none", "info:guide:plastic", replace=True),
            "anoth",
        ),
        (lambda client: client.delete("~s:info_db.recycle_guides"), "no longer valid"),
    ],
)
def test_why_a_response_is_not_valid(
    response: str, command: Command, redis_client: redis.Redis, spoil: Any, state: str
) -> None:
    """The entry is named that is not what it was, and what has become of it."""
    redis_client.select(5)
    spoil(redis_client)
    found = inspected(command, response)

    assert found["valid"] is False
    assert "source entries" in found["why"]
    assert state in found["sources"][0]["state"]


def test_an_entry_that_nobody_declares(my: redis.Redis, command: Command) -> None:
    """Its header and bytes are shown, and that its stamps are unknown."""
    my.set("mystery", _bytes_at(my, USER))
    found = inspected(command, "mystery")

    assert (found["valid"], found["declared"]) == (None, None)
    assert "are unknown" in found["why"]
    assert "u0001@example.com" in str(found["value"]["rows"])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("~s:my_db.users", "the stamp of my_db.users"),
        ("~i:user:profile:1", "0 alive"),
        ("~x", "not the library's"),
    ],
)
def test_what_the_library_keeps(my: redis.Redis, command: Command, key: str, says: str) -> None:
    """Stamps and intents are called what they are."""
    if key != "~s:my_db.users":
        my.zadd(key, {"dead": 1}) if key.startswith("~i") else my.set(key, "x")
    assert says in command("inspect", key, "--region", "my").stdout


def test_without_its_database(
    my: redis.Redis, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Redis holds is shown; what the database would tell is said to be missing."""
    monkeypatch.setenv("WARM_DATABASE", "postgresql+psycopg://me:s3cret@127.0.0.1:1/none")
    done = command("inspect", USER)

    assert done.status == 0
    assert "the database is unavailable" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_nothing_is_obeyed(my: redis.Redis, command: Command) -> None:
    """Neither escape sequences nor markup of a key or a value reach the terminal."""
    key = "user:profile:\x1b[31m[red]x"
    my.set(key, _bytes_at(my, USER))
    said = command("inspect", key).stdout

    assert "\x1b" not in said
    assert "\\x1b[31m[red]x" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [(("", "--json"), "empty"), (("k", "--region", "nope"), "no region is named 'nope'")],
)
def test_wrong_words(town: Town, command: Command, words: tuple[str, ...], says: str) -> None:
    """One line, and 2."""
    done = command("inspect", *words)

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.binary(max_size=120), st.integers(0, 140), st.booleans())
@example(b"\xff" * 40, 36, True)
@example(b"", 0, False)
def test_whatever_the_bytes(
    my: redis.Redis, command: Command, noise: bytes, at: int, keeps: bool
) -> None:
    """No bytes make it fail."""
    whole = _bytes_at(my, "kept" if my.exists("kept") else USER)
    my.set("kept", whole)
    my.set(USER, whole[:at] + noise + (whole[at + len(noise) :] if keeps else b""))

    assert inspected(command, USER)["why"]
    assert command("inspect", USER).status == 0
