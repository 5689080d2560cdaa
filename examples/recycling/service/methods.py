"""HTTP methods: which of them a path has, and HEAD wherever there is GET."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def methods_of(app: FastAPI, scope: Scope) -> list[str]:
    """The methods that this request's path answers, for ``Allow``."""
    asked = {name: scope.get(name, "") for name in ("type", "path", "root_path")}
    found = [method for method in _METHODS if _answers(app, {**asked, "method": method})]
    return found if "GET" not in found or "HEAD" in found else ["GET", "HEAD", *found[1:]]


def _answers(app: FastAPI, scope: dict[str, Any]) -> bool:
    return any(route.matches(dict(scope))[0] is Match.FULL for route in app.routes)


class HeadAsGet:
    """Answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
