"""Whether this process lives, and whether it can answer."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from examples.recycling.service.resources import Resources, resources_of

State = Literal["up", "down"]
TIMEOUT = 1.0

# Probes come from the node, without a token, and are counted under no limit.
router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What this process stands on. ``warmed``: whether the warming at start has ended."""

    database: State
    redis: State
    warmed: bool


@router.get("/health")
async def health() -> Health:
    """Liveness. It asks nobody: restarting this process cures nothing that is wrong elsewhere."""
    return Health()


@router.get("/ready", responses={503: {"model": Readiness, "description": "No database"}})
async def ready(request: Request, response: Response) -> Readiness:
    """Readiness: 503 without the database. Without Redis requests are slower, and answered."""
    resources = resources_of(request)
    database, redis = await asyncio.gather(_database(resources), _redis(resources))
    if database == "down":
        response.status_code = 503
    return Readiness(database=database, redis=redis, warmed=resources.warming.done)


async def _database(resources: Resources) -> State:
    try:
        async with asyncio.timeout(TIMEOUT), resources.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        return "down"
    return "up"


async def _redis(resources: Resources) -> State:
    client = Redis.from_url(
        resources.settings.redis_url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        try:
            await client.ping()
        except (RedisError, OSError):
            return "down"
    return "up"
