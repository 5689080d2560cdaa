"""What is refused, and how it is said: the errors of every path operation, in one form."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from examples.recycling.service.methods import methods_of

logger = logging.getLogger("recycling")

# Long enough for a failover to be over, short enough for a person to wait.
RETRY_AFTER: Final = {"Retry-After": "2"}


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


class NotProcessable(BaseModel):
    """What of a request cannot be taken, and where it is."""

    detail: list[WrongPart]


class WrongPart(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int]
    msg: str
    type: str


_DESCRIPTIONS: Final = {
    401: "No token, or one that is not valid, has expired or was revoked",
    403: "Somebody else's",
    404: "There is no such thing",
    413: "The body is larger than is taken",
    422: "Something in the request cannot be taken",
    429: "Too many requests",
    503: "A server behind this one does not answer; try again",
}
_HEADERS: Final = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of these statuses."""
    return {status: _response(status) for status in statuses}


def _response(status: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "model": NotProcessable if status == 422 else Refusal,
        "description": _DESCRIPTIONS[status],
    }
    if status in _HEADERS:
        kind = "string" if status == 401 else "integer"
        made["headers"] = {_HEADERS[status]: {"required": True, "schema": {"type": kind}}}
    return made


def unauthorized(why: str, *, token: bool = True) -> HTTPException:
    """401; ``token``: whether there was one."""
    challenge = 'Bearer error="invalid_token"' if token else "Bearer"
    return HTTPException(401, why, headers={"WWW-Authenticate": challenge})


def unavailable(why: str) -> HTTPException:
    """503, to be tried again soon."""
    return HTTPException(503, why, headers=RETRY_AFTER)


def not_taken(place: str, name: str, why: str) -> RequestValidationError:
    """422 for a value that only the rows could say is wrong."""
    return RequestValidationError([{"loc": (place, name), "msg": why, "type": "value_error"}])


def answer(status: int, detail: object, headers: dict[str, str] | None = None) -> Response:
    """A refusal as a response."""
    # ASCII only: a name in a request may hold half a surrogate pair, which UTF-8 cannot.
    body = json.dumps({"detail": detail}).encode("ascii")
    return Response(body, status, headers, media_type="application/json")


async def refuse(request: Request, error: Exception) -> Response:
    """What a path operation, or the routing, refused."""
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 405:
        # The router names the methods of the first route of the path only.
        allowed = methods_of(request.app, request.scope)
        return answer(405, error.detail, {"Allow": ", ".join(allowed)})
    if error.status_code == 400:
        # FastAPI's own, for a body that is no JSON in other ways than its parser's error.
        return answer(
            422, _parts([{"loc": ("body",), "msg": error.detail, "type": "json_invalid"}])
        )
    return answer(error.status_code, error.detail, dict(error.headers or {}))


async def refuse_parts(_request: Request, error: Exception) -> Response:
    """What of the request could not be taken; its values are not repeated."""
    assert isinstance(error, RequestValidationError)
    return answer(422, _parts(error.errors()))


def _parts(errors: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in errors]


async def refuse_for_the_database(_request: Request, error: Exception) -> Response:
    """The database is away or overloaded: 503. Other errors of it are ours, and raised."""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if not lost and not isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        raise error
    logger.warning("database: %s", str(error).partition("\n")[0])
    return answer(503, "Database not available", RETRY_AFTER)


async def refuse_unexpectedly(_request: Request, _error: Exception) -> Response:
    """500, without a word of what happened; the log has it."""
    return answer(500, "Internal error")


def install_refusals(app: FastAPI) -> None:
    """Have every error answered in this form."""
    app.add_exception_handler(StarletteHTTPException, refuse)
    app.add_exception_handler(RequestValidationError, refuse_parts)
    app.add_exception_handler(DBAPIError, refuse_for_the_database)
    app.add_exception_handler(PoolTimeout, refuse_for_the_database)
    app.add_exception_handler(Exception, refuse_unexpectedly)


def refuse_to_find(what: str) -> NoReturn:
    """404."""
    raise HTTPException(404, f"{what} not found")
