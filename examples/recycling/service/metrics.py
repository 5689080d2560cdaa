"""`/metrics`, for Prometheus: beside the probes, counted under no limit, for whoever may scrape."""

from __future__ import annotations

import os

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from examples.recycling.service.resources import Resources, resources_of

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """What this process has counted; what all have, if they share a folder to count in."""
    found = generate_latest(registry_of(resources_of(request)))
    return Response(found, media_type=CONTENT_TYPE_LATEST)


def registry_of(resources: Resources) -> CollectorRegistry:
    """The registry to expose. With `uvicorn --workers` any of the processes may be asked."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return resources.metrics
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    return registry
