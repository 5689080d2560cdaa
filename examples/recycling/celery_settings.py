"""Celery's settings: where its queues are, what is given up and when, what beat sends."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

from examples.recycling.settings import WorkerSettings

CELERY_DB = 9
ZONE = "Asia/Seoul"


def configuration(settings: WorkerSettings) -> dict[str, Any]:
    """Celery's settings."""
    url = settings.durable_redis_in(CELERY_DB)
    return {
        "broker_url": url,
        "result_backend": url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_s,
            "socket_connect_timeout": 5,
            "socket_timeout": 5,
        },
        "redis_socket_connect_timeout": 5,
        "redis_socket_timeout": 5,
        # Who asks for a scan also subscribes to its result; a request waits for him. He is told
        # within seconds that this Redis is away. The worker, which has a result, is patient.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.2},
        "result_backend_transport_options": {
            "retry_policy": {"max_retries": 3, "interval_step": 0.2, "interval_max": 1}
        },
        "result_backend_always_retry": True,
        "result_backend_max_retries": 10,
        # Nothing is evicted there, so results must end by themselves.
        "result_expires": timedelta(days=1),
        "accept_content": ["json"],
        "task_track_started": True,
        # A process takes what it works on, so that a slow task holds back no other.
        "worker_prefetch_multiplier": 1,
        "timezone": ZONE,
        "beat_schedule": schedule(warm=settings.warm_by_beat),
    }


def schedule(*, warm: bool) -> dict[str, dict[str, Any]]:
    """What beat sends, at times of Asia/Seoul; an entry that waited too long is not run at all."""
    entries: dict[str, dict[str, Any]] = {
        "prune-revocations": {
            "task": "recycling.prune_revocations",
            "schedule": crontab(minute="17"),
            "options": {"expires": 3_000},
        }
    }
    if warm:
        entries["cache-warming"] = {
            "task": "recycling.warm",
            "schedule": crontab(hour="2", minute="0"),
            "options": {"expires": 3_600},
        }
    return entries
