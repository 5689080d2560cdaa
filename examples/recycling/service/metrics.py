"""`/metrics`, for Prometheus: beside the probes, counted under no limit, for whoever may scrape."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from examples.recycling.service.resources import resources_of

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """What this process has counted."""
    found = generate_latest(resources_of(request).metrics)
    return Response(found, media_type=CONTENT_TYPE_LATEST)
