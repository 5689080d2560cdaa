"""Servers that are stopped under the running application."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import redis

from examples.servers import PrivatePostgres, PrivateRedis
from tests.fixtures.patience import eventually
from tests.support.service.process import TOKENS, Application, bearer

Own = tuple[Application, PrivatePostgres, PrivateRedis]
REVOKED = (401, {"detail": "Token revoked"})
NO_DATABASE = (503, {"detail": "Database not available"})


@pytest.fixture(scope="module")
def running(own_postgres: tuple[PrivatePostgres, str]) -> Iterator[Own]:
    """An application on a PostgreSQL and a Redis of its own."""
    postgres, url = own_postgres
    with (
        PrivateRedis() as server,
        Application(
            url,
            server.url,
            limit_exp="1000/minute closed",
            warm_at_start="false",
        ) as application,
    ):
        yield application, postgres, server


@pytest.fixture
def own(running: Own) -> Iterator[Own]:
    """The same with everything up, before and after."""
    application, postgres, server = running
    yield running
    postgres.start()
    server.start()
    counting(application.answering("/ready"))
    print(application.log)  # shown where a test fails


def counting(application: Application) -> None:
    """Return once it counts requests: again a second after it found Redis gone."""
    path = "/guides/plastic?past=the-kept-responses"
    eventually(lambda: "RateLimit-Remaining" in application.get(path).headers)


def told(application: Application, token: dict[str, str]) -> tuple[int, object]:
    answer = application.get("/profile/u0001", token)
    if answer.status_code == 503:
        assert answer.headers["Retry-After"] == "2"
    return answer.status_code, answer.json() if answer.status_code != 200 else None


def revoked(application: Application) -> dict[str, str]:
    token = bearer("u0001")
    body = {"token": token["Authorization"].removeprefix("Bearer ")}
    assert application.client.post("/auth/revoke", headers=token, json=body).status_code == 200
    return token


def key_of(token: dict[str, str]) -> str:
    return f"blacklist:{TOKENS.read(token['Authorization'].removeprefix('Bearer ')).jti}"


def hold(application: Application, server: PrivateRedis, token: dict[str, str]) -> None:
    """Have "not revoked" remembered, and stop its clock: its five seconds are tested elsewhere."""
    with redis.Redis.from_url(server.url) as client:

        def held() -> bool:
            assert told(application, token)[0] == 200
            return bool(client.persist(key_of(token)))

        eventually(held)


def test_without_redis_the_table_answers(own: Own) -> None:
    """Who is revoked stays out and who is not comes in; also a new one is revoked."""
    application, _, server = own
    bad, good = revoked(application), bearer("u0001")
    server.stop()

    assert told(application, bad) == REVOKED
    assert told(application, good) == (200, None)
    assert told(application, revoked(application)) == REVOKED
    # Whether the database is up is asked with a time limit of a second.
    degraded = {"database": "up", "redis": "down", "warmed": True}
    eventually(lambda: application.get("/ready").json() == degraded)


def test_a_redis_that_hangs_is_no_different(
    own: Own, own_postgres: tuple[PrivatePostgres, str]
) -> None:
    """Its time limit is short, and it is not asked every time."""
    _, _, server = own
    with Application(
        own_postgres[1],
        server.url,
        redis_timeout="0.25",
        limit_timeout="0.25",
        warm_at_start="false",
    ) as application:
        bad, good = revoked(application), bearer("u0001")
        server.pause()
        try:
            assert told(application, bad) == REVOKED
            assert told(application, good) == (200, None)
        finally:
            server.resume()


def test_without_both_nobody_is_let_in(own: Own) -> None:
    """Fail closed: 503, also to those who were let in a moment ago."""
    application, postgres, server = own
    good, bad = bearer("u0001"), revoked(application)
    assert told(application, good) == (200, None)
    server.stop()
    postgres.stop()

    assert told(application, good) == NO_DATABASE
    assert told(application, bad) == NO_DATABASE
    assert application.get("/ready").status_code == 503
    assert application.get("/health").status_code == 200


def test_without_the_database_only_what_is_remembered(own: Own) -> None:
    """ "Not revoked" of the last seconds lets in, "revoked" keeps out, a miss is refused."""
    application, postgres, server = own
    good, bad = bearer("u0001"), revoked(application)
    hold(application, server, good)
    # After an outage of Redis it is not written to at once; a read brings the entry.
    with redis.Redis.from_url(server.url) as client:

        def written() -> bool:
            assert told(application, bad) == REVOKED
            return int(client.ttl(key_of(bad))) >= 60

        eventually(written)
    postgres.stop()

    assert told(application, good) == (200, None)
    assert told(application, bad) == REVOKED
    assert told(application, bearer("u0001")) == NO_DATABASE
    with redis.Redis.from_url(server.url) as client:
        client.delete(key_of(good), key_of(bad))
    assert told(application, good) == NO_DATABASE
    assert told(application, bad) == NO_DATABASE


def test_a_write_without_the_database(own: Own) -> None:
    """503, not a 500; afterwards everything is as before."""
    application, postgres, server = own
    token = bearer("u0001")
    hold(application, server, token)
    postgres.stop()
    change = application.client.put("/profile/u0001", headers=token, json={"nickname": "x"})
    gain = application.client.post("/character/u0001/exp?exp=1", headers=token)
    assert [(each.status_code, each.json()) for each in (change, gain)] == [NO_DATABASE] * 2
    postgres.start()
    application.answering("/ready")
    assert told(application, bearer("u0001")) == (200, None)


def test_a_database_that_hangs(own: Own, own_postgres: tuple[PrivatePostgres, str]) -> None:
    """The request's time limit ends it, and its connection is not used again."""
    _, postgres, server = own
    late = (503, {"detail": "Took too long"})
    with Application(
        own_postgres[1], server.url, request_timeout="2", warm_at_start="false"
    ) as application:
        # With a connection in the pool that the pause catches.
        assert eventually(lambda: in_time(application, late)) == (200, None)
        postgres.pause()
        try:
            assert told(application, bearer("u0001")) == late
        finally:
            postgres.resume()
        assert eventually(lambda: in_time(application, late)) == (200, None)


def in_time(application: Application, late: tuple[int, object]) -> tuple[int, object] | None:
    """The answer to a new token; None if the machine was too slow for the time limit."""
    try:
        answer = told(application, bearer("u0001"))
    except httpx.TransportError:  # the kept connection was closed meanwhile
        return None
    return None if answer == late else answer


def test_limits_without_redis(own: Own) -> None:
    """An open limit lets in, a closed one refuses what cannot be counted; then both count again."""
    application, _, server = own
    token = bearer("u0001")
    server.stop()
    open_, closed = (
        application.get("/profile/u0001", token),
        application.client.post("/character/u0001/exp?exp=1", headers=token),
    )
    assert open_.status_code == 200
    assert "RateLimit-Remaining" not in open_.headers
    assert (closed.status_code, closed.json()) == (
        503,
        {"detail": "Rate limits cannot be counted"},
    )
    assert closed.headers["Retry-After"] == "2"
    server.start()
    counting(application)
    assert application.client.post("/character/u0001/exp?exp=1", headers=token).status_code == 200
