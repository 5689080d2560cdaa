"""How the application starts and ends: warm within a bound, and what is under way is finished."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, text

from examples.recycling.settings import Settings
from examples.servers import PrivateRedis
from tests.fixtures.patience import eventually
from tests.support.service.process import SECRET, Application, bearer

WAITING = text(
    "select count(*) from pg_stat_activity"
    " where datname = current_database() and wait_event_type = 'Lock'"
)


@contextmanager
def locked(town: Engine, statement: str) -> Iterator[Connection]:
    """A transaction that has locked something, rolled back at the end."""
    with town.connect() as connection:
        connection.execute(text(statement))
        yield connection
        connection.rollback()


def wait_for_waiters(town: Engine) -> None:
    """Return once a transaction waits for a lock."""
    # A statement each in a transaction of its own, for the view is the transaction's.
    with town.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        eventually(lambda: connection.scalar(WAITING))


def test_guides_and_places_are_warm(town_url: str) -> None:
    """Within the bound, ready means: they are in Redis before anybody has asked."""
    with (
        PrivateRedis() as server,
        Application(town_url, server.url, ready_within="300") as application,
    ):
        assert application.get("/ready").json()["warmed"] is True
        with redis.Redis.from_url(server.url, db=5) as client:
            assert len(client.keys("info:guide:*")) == 60
        with redis.Redis.from_url(server.url, db=4) as client:
            assert client.keys("location:nearby:*")


def test_readiness_does_not_wait_for_the_warming(town: Engine, town_url: str) -> None:
    """It goes on in a task, which is ended with the application or ends by itself."""
    with PrivateRedis() as server:
        with locked(town, "lock table info_db.recycle_guides in access exclusive mode"):
            first = Application(town_url, server.url, ready_within="0.1").answering("/ready")
            assert first.get("/ready").json()["warmed"] is False
            first.terminate()
            assert first.ended() in {0, -15}
            assert "Traceback" not in first.log
            second = Application(town_url, server.url, ready_within="0.1").answering("/ready")
        eventually(lambda: second.get("/ready").json()["warmed"])
        with redis.Redis.from_url(server.url, db=5) as client:
            assert len(client.keys("info:guide:*")) == 60
        second.close()
        first.close()


def test_a_cold_start_is_a_start(town_url: str) -> None:
    """Without Redis and without the database the process lives, says so, and ends in order."""
    application = Application("postgresql+psycopg://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1")
    application.answering("/health")
    ready = application.get("/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "down")
    assert application.get("/guides/plastic").status_code == 503
    assert "warming guides at startup failed" in application.log
    application.terminate()
    assert application.ended() in {0, -15}
    application.close()


def test_what_is_under_way_is_finished(town: Engine, town_url: str, town_redis: str) -> None:
    """SIGTERM in the middle of a write: it is answered, it is committed, then the process ends."""
    application = Application(town_url, town_redis, warm_at_start="false").answering()
    token = bearer("u0030")
    with ThreadPoolExecutor(1) as pool:
        with locked(town, "select 1 from my_db.users where id = 'u0030' for update"):
            change = pool.submit(
                application.client.put, "/profile/u0030", headers=token, json={"nickname": "last"}
            )
            wait_for_waiters(town)
            application.terminate()
        answer = change.result()
    assert (answer.status_code, answer.json()) == (200, {"message": "Profile updated"})
    assert application.ended() in {0, -15}
    assert "Traceback" not in application.log
    with town.connect() as connection:
        found = connection.scalar(text("select nickname from my_db.users where id = 'u0030'"))
    assert found == "last"
    application.close()


def test_what_takes_too_long_is_ended(town: Engine, town_url: str, town_redis: str) -> None:
    """503 in time, and nothing of it is done later."""
    with Application(
        town_url, town_redis, request_timeout="2", warm_at_start="false"
    ) as application:
        with locked(town, "select 1 from my_db.users where id = 'u0031' for update"):
            answer = application.client.put(
                "/profile/u0031", headers=bearer("u0031"), json={"nickname": "too late"}
            )
        assert (answer.status_code, answer.json()) == (503, {"detail": "Took too long"})
        assert answer.headers["Retry-After"] == "2"
        profile = eventually(
            lambda: application.get("/profile/u0031", bearer("u0031")).json().get("nickname")
        )
        assert profile != "too late"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwt_secret", "too short"),
        ("limit_user", "5/parsec"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("body_max_bytes", "-1"),
        ("request_timeout", "0"),
        ("ready_within", "soon"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, without repeating it: it may be a secret."""
    monkeypatch.setenv("RECYCLING_JWT_SECRET", SECRET)
    monkeypatch.setenv(f"RECYCLING_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name) as found:
        Settings()  # type: ignore[call-arg]
    assert f"input_value='{value}'" not in str(found.value)


def test_a_durable_redis_has_no_number() -> None:
    """The limits have database 8, whatever else uses that server."""
    settings = Settings(jwt_secret=SECRET, durable_redis_url="redis://h/3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave the number out"):
        settings.durable_redis_in(8)
    assert Settings(jwt_secret=SECRET).durable_redis_in(8).endswith("/8")  # type: ignore[arg-type]
