"""The scene of a whole response: the service answers, and Redis database 1 keeps what it said."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from examples.recycling.scenes import Scene, guide
from examples.recycling.service.app import create_app
from examples.recycling.service.resources import Resources
from examples.recycling.settings import Settings
from models import API


def response(category: str) -> Scene:
    """A guide as the service answers it. The key ends in a digest of the request."""
    path = f"/guides/{category}"
    return replace(
        guide(category), domain="api", region=API, key=f"response:{path}:*", asks=f"GET {path}"
    )


async def title(client: AsyncClient, category: str, _: AsyncSession) -> str:
    """The same read from outside: no session of ours has a part in it."""
    answered = await client.get(f"/guides/{category}")
    return str(answered.raise_for_status().json()["title"])


@asynccontextmanager
async def service(url: str, redis_url: str) -> AsyncIterator[tuple[AsyncClient, Resources]]:
    """The application of `make serve` in this process, with nothing warmed, and who calls it."""
    settings = Settings(
        database_url=url,
        redis_url=redis_url,
        durable_redis_url=redis_url,
        jwt_secret=SecretStr(secrets.token_urlsafe(32)),
        warm_at_start=False,
    )
    app = create_app(settings)
    transport = ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://demo") as client,
    ):
        yield client, app.state.resources
