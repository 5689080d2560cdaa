"""Rate limits from outside: who is counted, what is said, and whom to believe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from examples.recycling.limit import Limit
from examples.recycling.service.addresses import origin
from examples.recycling.settings import networks
from tests.support.service.process import Application, bearer


@pytest.fixture(scope="module")
def limited(town_url: str, town_redis: str) -> Iterator[Application]:
    """Three requests an address, two a user, one gain; behind a proxy on this machine."""
    with Application(
        town_url,
        town_redis,
        limit_address="3/hour",
        limit_user="2/hour",
        limit_exp="1/hour closed",
        trusted_proxies="127.0.0.0/8",
        warm_at_start="false",
    ) as application:
        yield application


@pytest.fixture(autouse=True)
def nobody_counted(town_redis: str) -> None:
    """Every test begins with nothing in database 8."""
    with redis.Redis.from_url(town_redis, db=8) as client:
        client.flushdb()


def test_an_address_is_counted(limited: Application) -> None:
    """429 with Retry-After, and the usual numbers before and then."""
    answers = [
        limited.get("/guides/plastic?past=the-kept-responses", {"X-Forwarded-For": "192.0.2.1"})
        for _ in range(4)
    ]

    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers["RateLimit-Remaining"] for each in answers] == ["2", "1", "0", "0"]
    last = answers[-1]
    assert last.json() == {"detail": "Limit of 3/hour reached"}
    assert last.headers["RateLimit-Limit"] == last.headers["X-RateLimit-Limit"] == "3"
    assert 0 < int(last.headers["Retry-After"]) <= 3600
    assert last.headers["Retry-After"] == last.headers["RateLimit-Reset"]
    assert (
        limited.get(
            "/guides/plastic?past=the-kept-responses", {"X-Forwarded-For": "192.0.2.2"}
        ).status_code
        == 200
    )


def test_a_user_is_counted_wherever_from(limited: Application) -> None:
    """The narrowest limit is the one that is told of."""
    answers = [
        limited.get("/profile/u0020", {**bearer("u0020"), "X-Forwarded-For": f"192.0.2.{number}"})
        for number in range(3)
    ]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each.headers["RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]
    other = limited.get("/profile/u0021", {**bearer("u0021"), "X-Forwarded-For": "192.0.2.9"})
    assert other.status_code == 200


def test_gains_have_a_limit_of_their_own(limited: Application) -> None:
    """Refused before anything is gained."""
    token = {**bearer("u0022"), "X-Forwarded-For": "192.0.2.1"}
    path = "/character/u0022/exp?exp=1"
    answers = [limited.client.post(path, headers=token) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 429]


def test_bad_tokens_are_counted_too(limited: Application) -> None:
    """Guessing has a limit: the address is counted before the token is looked at."""
    guess = {"Authorization": "Bearer x.y.z", "X-Forwarded-For": "192.0.2.1"}
    codes = [limited.get("/profile/u0020", guess).status_code for _ in range(4)]
    assert codes == [401, 401, 401, 429]


def test_probes_are_not(limited: Application) -> None:
    """A node asks often, and must not be refused."""
    for path in ("/health", "/ready"):
        answers = [limited.get(path, {"X-Forwarded-For": "192.0.2.1"}) for _ in range(5)]
        assert 429 not in {each.status_code for each in answers}
        assert "RateLimit-Limit" not in answers[0].headers


def test_counts_are_in_database_8(limited: Application, town_redis: str) -> None:
    """Where the document has them, each with an end."""
    limited.get("/guides/plastic?past=the-kept-responses", {"X-Forwarded-For": "192.0.2.1"})
    with redis.Redis.from_url(town_redis, db=8) as client:
        keys = client.keys()
        assert len(keys) == 1
        assert 0 < int(client.ttl(keys[0])) <= 3600


def test_nobody_is_believed_unless_it_is_said(application: Application) -> None:
    """By default X-Forwarded-For is only a header, so it opens no new count."""
    left = [
        int(
            application.get(
                "/guides/plastic?past=the-kept-responses", {"X-Forwarded-For": f"192.0.2.{number}"}
            ).headers["RateLimit-Remaining"]
        )
        for number in range(3)
    ]
    assert left == [left[0], left[0] - 1, left[0] - 2]


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "is_"),
    [
        ("192.0.2.1", "", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.9.9.9", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.0/8", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "", "", "2001:db8:1:2::/64"),
        ("::1", "2001:db8:1:2:3::4", "::1", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("/tmp/socket", "198.51.100.1", "0.0.0.0/0", "unknown"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: str, trusted: str, is_: str) -> None:
    """The nearest hop that nobody trusted put its own word behind; a household by its prefix."""
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"type": "http", "client": (peer, 1), "headers": headers}
    believed = networks(trusted)
    assert isinstance(believed, tuple)
    assert origin(scope, believed) == is_


@pytest.mark.parametrize(
    "text", ["", "many", "0/minute", "5", "5/parsec", "5/minute ajar", "-1/minute"]
)
def test_what_is_no_limit(text: str) -> None:
    """Named at start, with an example."""
    with pytest.raises(ValueError, match="30/minute closed"):
        Limit.of(text)


def test_what_is_one() -> None:
    """Open, unless it says closed."""
    assert Limit.of("5 per 2 seconds") == Limit("5 per 2 seconds")
    assert Limit.of(" 5/minute closed ") == Limit("5/minute", closed=True)
    assert Limit.of("5/minute open") == Limit("5/minute")
