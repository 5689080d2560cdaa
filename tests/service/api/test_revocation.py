"""A revoked token is refused at once, everywhere; the table says so, Redis only sooner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import Engine, text

from tests.fixtures.patience import eventually
from tests.support.service.process import TOKENS, Application, bearer

REVOKED = (401, {"detail": "Token revoked"})


def token_of(header: dict[str, str]) -> str:
    return header["Authorization"].removeprefix("Bearer ")


def revoke(application: Application, asking: dict[str, str], token: str, reason: str = "") -> int:
    body = {"token": token, "reason": reason}
    answer = application.client.post("/auth/revoke", headers=asking, json=body)
    return int(answer.status_code)


def test_it_ends_everywhere_at_once(applications: tuple[Application, Application]) -> None:
    """Both processes remember "not revoked", and neither lets it in again after the answer."""
    one, other = applications
    for _ in range(20):
        token = bearer("u0012")
        for each in applications:
            assert each.get("/profile/u0012", token).status_code == 200
        assert revoke(one, token, token_of(token)) == 200
        answers = [each.get("/profile/u0012", token) for each in (other, one)]
        assert [(each.status_code, each.json()) for each in answers] == [REVOKED] * 2


def test_the_document_says_what_is_answered(application: Application) -> None:
    """A message, and what is known of it afterwards: by whom, why, when, until when."""
    old, new = bearer("u0013"), bearer("u0013")
    held = TOKENS.read(token_of(old))
    before = datetime.now(UTC)
    done = application.client.post(
        "/auth/revoke", headers=new, json={"token": token_of(old), "reason": "lost phone"}
    )
    known = application.get(f"/auth/revocations/{held.jti}", new).json()

    assert done.json() == {"message": "Token revoked"}
    assert {name: known[name] for name in ("jti", "user_id", "reason")} == {
        "jti": held.jti,
        "user_id": "u0013",
        "reason": "lost phone",
    }
    assert datetime.fromisoformat(known["expires_at"]) == held.expires_at
    assert abs(datetime.fromisoformat(known["revoked_at"]) - before) < timedelta(seconds=60)
    assert application.get("/profile/u0013", new).status_code == 200


def test_times_are_utc(town_url: str, town_redis: str) -> None:
    """Whatever zone the database speaks in."""
    token = bearer("u0013")
    with Application(f"{town_url}?options=-c%20timezone%3DAsia/Seoul", town_redis) as seoul:
        assert revoke(seoul, bearer("u0013"), token_of(token)) == 200
        jti = TOKENS.read(token_of(token)).jti
        known = seoul.get(f"/auth/revocations/{jti}", bearer("u0013")).json()
        profile = seoul.get("/profile/u0013", bearer("u0013")).json()
    assert known["expires_at"].endswith("Z")
    assert known["revoked_at"].endswith("Z")
    assert profile["created_at"].endswith("Z")
    assert datetime.fromisoformat(known["expires_at"]) == TOKENS.read(token_of(token)).expires_at


def test_it_is_written_through(application: Application, auth_redis: redis.Redis) -> None:
    """`blacklist:{jti}` is there when the answer is, for as long as the token would have lived."""
    token, held = bearer("u0014", timedelta(minutes=10)), bearer("u0014")
    jti = TOKENS.read(token_of(token)).jti
    revoke(application, held, token_of(token))

    assert auth_redis.type(f"blacklist:{jti}") == "string"
    assert 480 < int(auth_redis.ttl(f"blacklist:{jti}")) <= 600


def test_not_revoked_is_remembered_for_five_seconds(
    application: Application, auth_redis: redis.Redis
) -> None:
    """At most, and for all who ask."""
    token = bearer("u0014")
    key = f"blacklist:{TOKENS.read(token_of(token)).jti}"

    def left_ms() -> int:
        application.get("/profile/u0014", token)
        return max(0, int(auth_redis.pttl(key)))

    assert 0 < eventually(left_ms) <= 5000


def test_evicted_entries_let_nobody_in(application: Application, auth_redis: redis.Redis) -> None:
    """The database answers (fault 7 of the sketch)."""
    token = bearer("u0015")
    revoke(application, token, token_of(token))
    auth_redis.flushall()
    answer = application.get("/profile/u0015", token)
    assert (answer.status_code, answer.json()) == REVOKED


def test_twice_is_once(application: Application, town: Engine) -> None:
    """The first reason stays."""
    token, held = bearer("u0016"), bearer("u0016")
    jti = TOKENS.read(token_of(token)).jti
    assert revoke(application, held, token_of(token), "first") == 200
    assert revoke(application, held, token_of(token), "second") == 200
    with town.connect() as connection:
        reasons = connection.scalars(
            text("select reason from auth_db.revocations where jti = :jti"), {"jti": jti}
        ).all()
    assert reasons == ["first"]


@pytest.mark.parametrize(
    "token",
    [
        token_of(bearer("u0018")),
        "x.y.z",
        token_of(bearer("u0017"))[:-2] + "xx",
    ],
)
def test_only_ones_own(application: Application, token: str) -> None:
    """Somebody else's, or nobody's: 403, and it goes on being good."""
    assert revoke(application, bearer("u0017"), token) == 403
    theirs = bearer("u0018")
    jti = TOKENS.read(token_of(theirs)).jti
    assert revoke(application, theirs, token_of(theirs)) == 200
    assert application.get(f"/auth/revocations/{jti}", bearer("u0017")).status_code == 403


def test_one_that_has_expired(application: Application) -> None:
    """There is nothing left to end, and nothing wrong with asking."""
    expired = token_of(bearer("u0019", timedelta(seconds=-5)))
    assert revoke(application, bearer("u0019"), expired) == 200


def test_somebody_has_to_ask(application: Application) -> None:
    """Without a token of one's own, or with a revoked one, nothing is revoked."""
    token = bearer("u0019")
    assert revoke(application, {}, token_of(token)) == 401
    assert revoke(application, token, token_of(token)) == 200
    assert revoke(application, token, token_of(bearer("u0019"))) == 401
