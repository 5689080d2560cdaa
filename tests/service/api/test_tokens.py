"""Tokens that are refused, and why nobody gets a 500 out of them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from examples.recycling.service.tokens import Tokens
from tests.support.service.process import ISSUER, SECRET, Application, bearer

GOOD: dict[str, Any] = {"sub": "u0001", "jti": "one", "iss": ISSUER, "exp": 4_000_000_000}


def signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def part(given: object) -> str:
    text = given if isinstance(given, str) else json.dumps(given)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def without(name: str) -> str:
    return signed({key: value for key, value in GOOD.items() if key != name})


UNSIGNED = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(GOOD)}."
REFUSED = {
    "unsigned": UNSIGNED,
    "unsigned in capitals": UNSIGNED.replace(
        part({"alg": "none", "typ": "JWT"}), part({"alg": "NONE"})
    ),
    "another algorithm": signed(GOOD, SECRET, "HS512"),
    "another secret": signed(GOOD, SECRET[::-1]),
    "another issuer": signed({**GOOD, "iss": "elsewhere"}),
    "no issuer": without("iss"),
    "no jti": without("jti"),
    "no sub": without("sub"),
    "no exp": without("exp"),
    "not yet": signed({**GOOD, "nbf": 4_000_000_000 - 1}),
    "for somebody else": signed({**GOOD, "aud": "another service"}),
    "a jti that is a number": signed({**GOOD, "jti": 1}),
    "a long jti": signed({**GOOD, "jti": "j" * 65}),
    "a NUL in the jti": signed({**GOOD, "jti": "j\0"}),
    "half a character in the jti": signed({**GOOD, "jti": "\ud800"}),
    "half a character in the sub": signed({**GOOD, "sub": "\udfff"}),
    "a line feed at the end of the sub": signed({**GOOD, "sub": "u0001\n"}),
    "an exp beyond the calendar": signed({**GOOD, "exp": 10**18}),
    "an exp beyond the calendar of some zone": signed({**GOOD, "exp": 253402300799}),
    "nested": f"{part('[' * 1200)}.{part(GOOD)}.x",
    "long": "a." * 3000,
    "no token at all": "x",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(application: Application, name: str) -> None:
    """401 that says no more than that."""
    answer = application.get("/profile/u0001", {"Authorization": f"Bearer {REFUSED[name]}"})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Token not valid"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_an_expired_one(application: Application) -> None:
    """Its bearer is told, and can get another."""
    answer = application.get("/profile/u0001", bearer("u0001", timedelta(seconds=-1)))
    assert (answer.status_code, answer.json()) == (401, {"detail": "Token expired"})


@pytest.mark.parametrize("scheme", ["Basic dTpw", "Bearer", "bearer", "Token x"])
def test_other_credentials(application: Application, scheme: str) -> None:
    """No token is no token."""
    answer = application.get("/profile/u0001", {"Authorization": scheme})
    assert answer.status_code == 401


def test_a_good_one_is_taken(application: Application) -> None:
    """The claims that the refused ones were made of are good."""
    answer = application.get("/profile/u0001", {"Authorization": f"Bearer {signed(GOOD)}"})
    assert answer.status_code == 200


def test_times_are_aware() -> None:
    """In UTC, whatever the zone of the machine."""
    tokens = Tokens(SECRET, ISSUER)
    read = tokens.read(tokens.issue("u0001", timedelta(minutes=1)))
    assert timedelta() < read.expires_at - datetime.now(UTC) <= timedelta(minutes=1)
    assert SECRET not in repr(tokens)
