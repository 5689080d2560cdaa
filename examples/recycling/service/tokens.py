"""Bearer tokens: who is asking, told by a signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import jwt

# Fixed: what a token says about its own algorithm is the attacker's word.
ALGORITHMS: Final = ["HS256"]
REQUIRED: Final = ["exp", "jti", "sub"]
TOKEN_MAX: Final = 2048
# What the columns hold; a NUL would make PostgreSQL fail.
IDENTIFIER: Final = r"^[^\x00-\x1F\x7F/]{1,64}$"

_DAY_S: Final = 86_400
_identifier = re.compile(IDENTIFIER.removesuffix("$") + r"\Z")


class TokenRefused(Exception):
    """This text is no token of ours, or not any more; the message may be shown to its bearer."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds a valid token, and which one."""

    user_id: str
    jti: str
    expires_at: datetime


class Tokens:
    """Signs and reads the tokens of one issuer."""

    def __init__(self, secret: str, issuer: str) -> None:
        self._secret = secret
        self._issuer = issuer

    def issue(self, user_id: str, life: timedelta = timedelta(hours=1)) -> str:
        """A new token of this user."""
        now = datetime.now(UTC)
        claims = {
            "sub": user_id,
            "jti": uuid4().hex,
            "iss": self._issuer,
            "iat": now,
            "exp": now + life,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHMS[0])

    def read(self, token: str, *, expired: bool = False) -> Caller:
        """Who holds this token; TokenRefused unless it is ours and valid (or was: ``expired``)."""
        if len(token) > TOKEN_MAX:
            raise TokenRefused("Token not valid")
        try:
            claims = self._claims(token, expired=expired)
            return _caller(claims)
        except jwt.ExpiredSignatureError:
            raise TokenRefused("Token expired") from None
        # RecursionError: a header of nested brackets is read before any signature is checked.
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, OSError, RecursionError):
            raise TokenRefused("Token not valid") from None

    def _claims(self, token: str, *, expired: bool) -> dict[str, Any]:
        return jwt.decode(
            token,
            self._secret,
            algorithms=ALGORITHMS,
            issuer=self._issuer,
            options={"require": [*REQUIRED, "iss"], "verify_exp": not expired},
        )

    def __repr__(self) -> str:
        return f"<Tokens of {self._issuer!r}>"


def _caller(claims: dict[str, Any]) -> Caller:
    user_id, jti = claims["sub"], claims["jti"]
    for name in (user_id, jti):
        if not isinstance(name, str) or not _identifier.match(name):
            raise ValueError("no identifier")
        name.encode()  # JSON may hold half a surrogate pair, which neither server takes
    # Its end must have a date in every zone, for the database may give it in its own.
    end = datetime.fromtimestamp(int(claims["exp"]) + _DAY_S, UTC) - timedelta(seconds=_DAY_S)
    return Caller(user_id, jti, end)
