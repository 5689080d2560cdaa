"""Rate limits as dependencies: 429 with Retry-After, and on every answer how much is left."""

from __future__ import annotations

import time

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.recycling.limit import Limit
from examples.recycling.service.access import Asking
from examples.recycling.service.addresses import origin
from examples.recycling.service.limiter import CannotCount, Window
from examples.recycling.service.refusals import unavailable
from examples.recycling.service.resources import Resources, resources_of

_SCOPE_KEY = "recycling.windows"


async def limit_address(request: Request) -> None:
    """Count the request under its address; before anything is looked at that it brings."""
    resources = resources_of(request)
    who = origin(request.scope, resources.settings.trusted_proxies)
    await _spend(request, resources, resources.settings.limit_address, "address", who)


async def limit_user(request: Request, caller: Asking) -> None:
    """Count the request of a user."""
    resources = resources_of(request)
    await _spend(request, resources, resources.settings.limit_user, "user", caller.user_id)


async def limit_exp(request: Request, caller: Asking) -> None:
    """Count a gain of experience: worth cheating for, so closed while nobody can count."""
    resources = resources_of(request)
    await _spend(request, resources, resources.settings.limit_exp, "exp", caller.user_id)


async def limit_revoke(request: Request, caller: Asking) -> None:
    """Count a revocation; open, for a stolen token must be ended whatever is down."""
    resources = resources_of(request)
    await _spend(request, resources, resources.settings.limit_revoke, "revoke", caller.user_id)


ByAddress = Depends(limit_address)
ByUser = Depends(limit_user)
ByExp = Depends(limit_exp)
ByRevoke = Depends(limit_revoke)


async def _spend(request: Request, resources: Resources, limit: Limit, name: str, who: str) -> None:
    try:
        window = await resources.limiter.spend(limit, name, who)
    except CannotCount:
        raise unavailable("Rate limits cannot be counted") from None
    if window is None:
        return
    request.scope.setdefault(_SCOPE_KEY, []).append(window)
    if not window.spent:
        raise HTTPException(
            429, f"Limit of {limit.rate} reached", headers={"Retry-After": str(window.reset)}
        )


class LimitHeaders:
    """Tells on each answer how the narrowest limit stands that the request was counted under.

    A middleware, outside of any cache of responses: the numbers are one caller's, not another's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        windows: list[Window] = []

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and windows:
                _tell(MutableHeaders(scope=message), min(windows, key=_room))
            await send(message)

        await self._app({**scope, _SCOPE_KEY: windows}, receive, telling)


def _room(window: Window) -> tuple[bool, int]:
    return window.spent, window.remaining


def _tell(headers: MutableHeaders, window: Window) -> None:
    headers["RateLimit-Limit"] = headers["X-RateLimit-Limit"] = str(window.amount)
    headers["RateLimit-Remaining"] = headers["X-RateLimit-Remaining"] = str(window.remaining)
    headers["RateLimit-Reset"] = str(window.reset)  # seconds, as the drafts have it
    headers["X-RateLimit-Reset"] = str(int(time.time()) + window.reset)  # a time, as others do
