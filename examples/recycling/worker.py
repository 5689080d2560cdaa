"""The Celery application: scans on demand, warming and pruning by the clock.

``celery -A examples.recycling.worker worker`` (prefork, or ``--pool solo``) and, once,
``celery -A examples.recycling.worker beat``. Queues and results live in database 9 of the durable
Redis. Importing this reads no setting and opens nothing; each process of the pool opens its own
engine and Cache when it begins, so no socket crosses a fork.
"""

# mypy: disable-error-code="import-untyped, untyped-decorator"

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from celery import Celery, Task
from celery.signals import worker_process_init, worker_process_shutdown
from celery.utils.log import get_task_logger
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from cachedorm.errors import CacheUnavailable
from examples.recycling.caching import WARM_SETS, Stores, open_stores
from examples.recycling.celery_settings import configuration
from examples.recycling.classification import NotAPhotograph
from examples.recycling.prune import prune_revocations
from examples.recycling.scans import Found, UnknownUser, begin_scan, fail_scan, finish_scan
from examples.recycling.settings import WorkerSettings

BACKOFF_MAX_S = 60
# The database is away, full, restarting, in a deadlock, or another delivery was first (Integrity).
PASSING = (OperationalError, InterfaceError, InternalError, IntegrityError, PoolTimeout)
# Clocks differ, and a service may accept a token a little beyond its end.
PRUNE_AFTER = timedelta(hours=1)

logger = get_task_logger(__name__)
app = Celery("recycling")


@app.on_configure.connect
def configure(sender: Celery, **_: Any) -> None:
    """Read the environment when the settings are first asked for, not on import."""
    sender.config_from_object(configuration(WorkerSettings()))


class Process:
    """What one process of the pool holds from its beginning to its end."""

    def __init__(self) -> None:
        self._stores: Stores | None = None

    def begin(self) -> None:
        """Open the stores; connects to nothing yet, so it is quick whatever is down."""
        self._stores = open_stores(WorkerSettings())

    def end(self) -> None:
        """Close them; nothing happens if they are not open."""
        if self._stores is not None:
            self._stores.close()
            self._stores = None

    @property
    def stores(self) -> Stores:
        """This process's; RuntimeError in a pool that does not announce its processes."""
        if self._stores is None:
            raise RuntimeError(
                "this worker's process has opened no stores: its pool sent no worker_process_init;"
                " start the worker with --pool prefork or --pool solo"
            )
        return self._stores

    def __repr__(self) -> str:
        return f"<Process {'open' if self._stores else 'closed'}>"


process = Process()


@worker_process_init.connect
def begin_process(**_: Any) -> None:
    """After the fork: what was opened before it would be shared with the other processes."""
    process.begin()


@worker_process_shutdown.connect
def end_process(**_: Any) -> None:
    """The pool ends this process."""
    process.end()


# Acknowledged when it is done: a task whose process or worker was killed is delivered again, which
# is harmless (see scans.py). The time limit is below the visibility timeout.
@app.task(
    name="recycling.scan",
    bind=True,
    acks_late=True,
    reject_on_worker_lost=True,
    max_retries=8,
    soft_time_limit=30,
    time_limit=60,
)
def scan(self: Task, user_id: str, file_name: str) -> Found:
    """Write what a photograph shows to the task's row in scan_results; the same is the result.

    The row is committed before the result is there, FAILED too: who waits for the one reads the
    other. Tries again while the database is away, eight times, up to a minute apart.
    """
    sessions, task_id = process.stores.sessions, self.request.id
    try:
        return finish_scan(sessions, task_id, user_id, file_name)
    except PASSING as error:
        if self.request.retries < self.max_retries:
            raise self.retry(exc=error, countdown=backoff_s(self.request.retries)) from error
        give_up(sessions, task_id, user_id, error)
        raise
    except Exception as error:
        give_up(sessions, task_id, user_id, error)
        raise


def backoff_s(retries: int) -> float:
    """How long to wait: up to 1, 2, 4 ... 60 seconds, spread so that not all come back at once."""
    return random.uniform(0, min(BACKOFF_MAX_S, 2**retries))


def give_up(sessions: sessionmaker[Session], task_id: str, user_id: str, error: Exception) -> None:
    """Record FAILED; if the database does not take that either, the row stays pending."""
    # Users read this: no SQL, no addresses.
    known = isinstance(error, NotAPhotograph | UnknownUser)
    why = str(error) if known else type(error).__name__
    try:
        fail_scan(sessions, task_id, user_id, why)
    except SQLAlchemyError:
        logger.exception("scan %s failed and its row could not say so", task_id)


@app.task(
    name="recycling.warm",
    autoretry_for=(CacheUnavailable, *PASSING),
    retry_backoff=True,
    retry_backoff_max=BACKOFF_MAX_S,
    max_retries=5,
    soft_time_limit=1_800,
)
def warm() -> dict[str, int]:
    """Fill guides and popular places, as ``cachedorm warm`` does; how many it stored.

    Searches fill themselves, and count as none.
    """
    cache = process.stores.cache
    return {each.name: cache.warm(each).stored for each in WARM_SETS}


@app.task(
    name="recycling.prune_revocations",
    autoretry_for=PASSING,
    retry_backoff=True,
    retry_backoff_max=BACKOFF_MAX_S,
    max_retries=5,
)
def prune() -> int:
    """Delete the revocations of tokens that expired an hour ago; how many there were."""
    return prune_revocations(process.stores.sessions, datetime.now(UTC) - PRUNE_AFTER)


def request_scan(sessions: sessionmaker[Session], user_id: str, file_name: str) -> str:
    """Ask for a scan and return its task id, under which the row is there from now on.

    Called by the service; blocks. Raises UnknownUser, and what Celery raises if the queue or the
    results cannot be reached (kombu's OperationalError, RuntimeError), after some seconds; the scan
    is FAILED then. A process that dies in here leaves a scan pending for ever: sending ``scan``
    again under the same id is harmless.
    """
    task_id = uuid4().hex
    # Committed before the worker can hear of it, so a reader finds it, and the worker too.
    begin_scan(sessions, task_id, user_id)
    try:
        scan.apply_async((user_id, file_name), task_id=task_id)
    except Exception:
        fail_scan(sessions, task_id, user_id, "the scan could not be queued")
        raise
    return task_id
