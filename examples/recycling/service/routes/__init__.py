"""The path operations, one area of the domain a file."""

from fastapi import APIRouter

from examples.recycling.service.limits import ByAddress
from examples.recycling.service.refusals import refusals
from examples.recycling.service.routes import auth, character, chat, info, location, my, scan

AREAS = (my, character, location, info, chat, scan, auth)


def api() -> APIRouter:
    """Every path operation that is counted under its caller's address."""
    router = APIRouter(dependencies=[ByAddress], responses=refusals(413, 429, 503))
    for area in AREAS:
        router.include_router(area.router)
    return router
