"""A real Celery worker in processes of its own, and the database and both Redises it works on."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
from celery import Celery
from sqlalchemy import Connection, Engine, create_engine, text

from examples.recycling.celery_settings import CELERY_DB
from examples.recycling.settings import WorkerSettings
from examples.servers import PrivateRedis
from tests.fixtures.patience import PATIENCE, eventually

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Stand:
    """The servers, by the names that the worker's environment gives them."""

    database_url: str
    caches: PrivateRedis
    durable: PrivateRedis

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process of the application."""
        return {
            "RECYCLING_DATABASE_URL": self.database_url,
            "RECYCLING_REDIS_URL": self.caches.url,
            "RECYCLING_REDIS_TIMEOUT": "30",
            "RECYCLING_DURABLE_REDIS_URL": self.durable.url,
        }

    @property
    def settings(self) -> WorkerSettings:
        """The same for this process."""
        return WorkerSettings(
            database_url=self.database_url,
            redis_url=self.caches.url,
            redis_timeout=30,
            durable_redis_url=self.durable.url,
        )

    def waiting(self, queue: str = "celery") -> tuple[int, int]:
        """How many tasks stand in a queue, and how many of any are out and not acknowledged."""
        with redis.Redis.from_url(self.durable.url, db=CELERY_DB) as client:
            return int(client.llen(queue)), int(client.hlen("unacked"))

    def oldest_delivery(self) -> float:
        """When the oldest task that is not acknowledged was delivered, as the broker has it."""
        with redis.Redis.from_url(self.durable.url, db=CELERY_DB) as client:
            ((_, delivered),) = client.zrange("unacked_index", 0, 0, withscores=True)
        return float(delivered)


class WorkerProcess:
    """`celery worker` with some pool processes; it is ready when it has been started."""

    def __init__(self, stand: Stand, log: Path, *, queue: str = "celery", **settings: str) -> None:
        self.name = f"{log.stem}@test"
        self.queue = queue
        self._log = log
        self._environment = {**os.environ, **stand.environment, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, concurrency: int = 2) -> Self:
        """Start it and wait until it takes tasks."""
        words = ["-A", "examples.recycling.worker", "worker", "--loglevel", "INFO"]
        words += ["--hostname", self.name, "--queues", self.queue, "-c", str(concurrency)]
        words += ["--without-gossip", "--without-mingle"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", *words],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: self._running_or_says() and " ready." in self.log)
        return self

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to finish what it works on, and no more."""
        self._here.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status."""
        return self._here.wait(timeout=PATIENCE)

    def kill(self) -> None:
        """End it and its pool as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def _here(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("start() the worker first")
        return self._process

    def _running_or_says(self) -> bool:
        if self._here.poll() is not None:
            raise RuntimeError(f"the worker ended with {self._here.returncode}:\n{self.log}")
        return True


@contextmanager
def guides_locked(engine: Engine) -> Iterator[Connection]:
    """Within the block nobody can read the guides, so a scan stops in its middle."""
    with engine.connect() as connection:
        connection.execute(text("lock table info_db.recycle_guides in access exclusive mode"))
        yield connection
        connection.rollback()


def stopped_by(connection: Connection, *, count: int = 1) -> list[int]:
    """The database's processes that wait for this connection, once there are so many."""
    pid = connection.scalar(text("select pg_backend_pid()"))
    waiting = text(
        "select pid from pg_stat_activity"
        " where datname = current_database() and :pid = any(pg_blocking_pids(pid))"
    )
    watcher = create_engine(connection.engine.url, isolation_level="AUTOCOMMIT")

    def ask() -> list[int]:
        with watcher.connect() as other:
            pids = list(other.scalars(waiting, {"pid": pid}))
        return pids if len(pids) >= count else []

    try:
        return eventually(ask)
    finally:
        watcher.dispose()


def pool_process_of(app: Celery, task_id: str) -> int:
    """The process of the pool that works on a task."""

    def ask() -> Any:
        active = app.control.inspect(timeout=10).active() or {}
        found = [each for tasks in active.values() for each in tasks if each["id"] == task_id]
        return found[0]["worker_pid"] if found else None

    return int(eventually(ask))
