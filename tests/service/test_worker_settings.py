"""What Celery is told, without a server."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from examples.recycling.celery_settings import configuration
from examples.recycling.settings import Servers, WorkerSettings
from examples.recycling.worker import BACKOFF_MAX_S, Process, backoff_s, give_up, process, scan
from tests.fixtures.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def test_importing_opens_nothing() -> None:
    """No settings are read, no socket is made; wrong variables are not even looked at."""
    program = (
        "import socket, examples.recycling.worker as w\n"
        "assert not w.app.configured\n"
        "assert repr(w.process) == '<Process closed>'\n"
    )
    environment = {"RECYCLING_DURABLE_REDIS_URL": "redis://r/3", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=PATIENCE)


def test_a_pool_that_announces_no_process() -> None:
    """Threads, say: the error names the pools that do."""
    with pytest.raises(RuntimeError, match="--pool prefork or --pool solo"):
        _ = Process().stores
    assert repr(process) == "<Process closed>"


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("redis://r", "redis://r/9"),
        ("redis://r:6379/", "redis://r:6379/9"),
        ("redis://r:6379/9", "redis://r:6379/9"),
        ("rediss://u:p%40ss@r:1?ssl_cert_reqs=none", "rediss://u:p%40ss@r:1/9?ssl_cert_reqs=none"),
    ],
)
def test_celery_is_in_database_9(url: str, made: str) -> None:
    """Queues and results, whatever else the URL says."""
    settings = configuration(WorkerSettings(durable_redis_url=url))
    assert settings["broker_url"] == settings["result_backend"] == made


def test_another_database_in_the_url() -> None:
    """Two users of one Redis would share a database: refused."""
    with pytest.raises(ValueError, match=r"names database '3', but 9 is asked for; leave"):
        configuration(WorkerSettings(durable_redis_url="redis://r/3"))
    assert Servers(durable_redis_url="redis://r").durable_redis_in(8) == "redis://r/8"


def test_two_in_the_morning_in_seoul() -> None:
    """The warming is due at 17:00 UTC, whatever zone the machine is in."""
    app = Celery("test")
    app.config_from_object(configuration(WorkerSettings()))
    warming = app.conf.beat_schedule["cache-warming"]["schedule"]
    warming.app, warming.nowfun = app, lambda: datetime(2026, 3, 1, 16, 59, 30, tzinfo=UTC)

    left = warming.remaining_estimate(datetime(2026, 2, 28, 17, tzinfo=UTC))

    assert app.conf.timezone == "Asia/Seoul"
    assert left == timedelta(seconds=30)


def test_another_one_warms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a CronJob does it, beat does not."""
    monkeypatch.setenv("RECYCLING_WARM_BY_BEAT", "false")
    assert list(configuration(WorkerSettings())["beat_schedule"]) == ["prune-revocations"]


def test_no_secret_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker holds no key to sign tokens with."""
    monkeypatch.delenv("RECYCLING_JWT_SECRET", raising=False)
    assert "jwt_secret" not in WorkerSettings().model_dump()


def test_the_limits_fit_each_other() -> None:
    """A scan in its longest attempt or its longest wait is not taken for lost."""
    out = configuration(WorkerSettings())["broker_transport_options"]["visibility_timeout"]
    assert out > scan.time_limit > scan.soft_time_limit
    assert out > BACKOFF_MAX_S


def test_waits_grow_to_a_minute() -> None:
    """Drawn between nothing and the bound, so that a crowd does not return at once."""
    longest = [max(backoff_s(retries) for _ in range(200)) for retries in (0, 3, 50)]
    assert longest[0] <= 1 < longest[1] <= 8 < longest[2] <= BACKOFF_MAX_S


def test_a_failure_that_cannot_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    """The database is away for that as well: logged with the task, and the first error goes on."""
    nowhere = sessionmaker(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    give_up(nowhere, "t1", "u1", ValueError("the reason"))
    assert "scan t1 failed and its row could not say so" in caplog.text
