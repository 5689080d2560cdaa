"""The Celery worker of the recycling application, as processes of their own on real servers."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from examples.recycling import worker as recycling
from examples.recycling.caching import Stores, open_stores
from examples.recycling.migrate import migrate
from examples.recycling.scans import UnknownUser
from examples.servers import Found, PrivateRedis, scratch_database
from models import Guide, Revocation, ScanResult, ScanStatus, User, scan_history
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.manifests import pod
from tests.support.service.worker_process import (
    Stand,
    WorkerProcess,
    guides_locked,
    pool_process_of,
    stopped_by,
)

BOTTLE = {"category": "plastic-bottle", "title": "Bottles"}


@pytest.fixture(scope="module")
def stand(servers: Found, template_database: str) -> Iterator[Stand]:
    """A database with a user and two guides, and two Redises; this process sends tasks there."""
    with (
        scratch_database(servers.database_url, template=template_database) as url,
        PrivateRedis() as caches,
        PrivateRedis() as durable,
    ):
        engine = create_engine(url)
        with engine.begin() as connection:
            migrate(connection)
        with Session(engine) as session:
            session.add(User(user_id="u1", email="u1@example.com", nickname="n", password_hash="h"))
            session.add(Guide(category="plastic-bottle", title="Bottles", content="rinse"))
            session.add(Guide(category="paper", title="Paper", content="tie"))
            session.commit()
        engine.dispose()
        made = Stand(url, caches, durable)
        with pytest.MonkeyPatch.context() as patched:
            for name, value in made.environment.items():
                patched.setenv(name, value)
            read_environment(recycling.app)
            yield made
            recycling.app.close()


@pytest.fixture(scope="module")
def running(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with two pool processes, ended by SIGTERM."""
    worker = WorkerProcess(stand, tmp_path_factory.mktemp("worker") / "log")
    try:
        worker.start()
        yield worker
        worker.terminate()
        assert worker.wait() == 0
    finally:
        worker.kill()


@pytest.fixture
def reader(stand: Stand) -> Iterator[Stores]:
    """The service's side: sessions and a Cache of this process, on the worker's servers."""
    stores = open_stores(stand.settings)
    yield stores
    stores.close()


@pytest.fixture
def engine(stand: Stand) -> Iterator[Engine]:
    """The database itself, past every cache."""
    made = create_engine(stand.database_url)
    yield made
    made.dispose()


@pytest.fixture
def quiet_caches(stand: Stand) -> None:
    """Nothing is cached, so a scan has to ask the database for the guides."""
    with redis.Redis.from_url(stand.caches.url) as client:
        client.flushall()


def result_of(task_id: str) -> AsyncResult[Any]:
    return AsyncResult(task_id, app=recycling.app)


def row(engine: Engine, task_id: str) -> tuple[str, Any, datetime | None] | None:
    with engine.connect() as connection:
        found = connection.execute(
            text("select status, result, finished_at from scan_db.scan_results where task_id=:t"),
            {"t": task_id},
        ).one_or_none()
    return None if found is None else (found.status, found.result, found.finished_at)


def test_a_scan_is_followed_at_once(running: WorkerProcess, reader: Stores) -> None:
    """Who saw the scan pending, cached, sees it completed as soon as its result is there."""
    for _ in range(10):
        task_id = recycling.request_scan(reader.sessions, "u1", "plastic_bottle.jpg")
        with reader.sessions() as session:
            session.get(ScanResult, task_id)
            session.scalars(scan_history(user_id="u1", limit=3)).all()

        assert result_of(task_id).get(timeout=PATIENCE) == BOTTLE

        with reader.sessions() as session:
            seen = session.get_one(ScanResult, task_id)
            newest = session.scalars(scan_history(user_id="u1", limit=3)).first()
            assert (seen.status, seen.result) == (ScanStatus.COMPLETED, BOTTLE)
            assert newest is seen
    with reader.sessions() as session:
        hits = reader.cache.stats().hits["scan"]
        session.get_one(ScanResult, task_id)
        assert reader.cache.stats().hits["scan"] == hits + 1


def test_an_open_reader_is_served_while_a_scan_runs(
    running: WorkerProcess, reader: Stores, engine: Engine, quiet_caches: None
) -> None:
    """Until the commit the row is pending, in the cache as in the database."""
    with guides_locked(engine) as lock:
        task_id = recycling.request_scan(reader.sessions, "u1", "plastic_bottle.jpg")
        stopped_by(lock)
        for _ in range(2):
            with reader.sessions() as session:
                assert session.get_one(ScanResult, task_id).status is ScanStatus.PENDING
    assert result_of(task_id).get(timeout=PATIENCE) == BOTTLE
    with reader.sessions() as session:
        assert session.get_one(ScanResult, task_id).status is ScanStatus.COMPLETED


def test_a_second_delivery_changes_nothing(
    running: WorkerProcess, stand: Stand, engine: Engine
) -> None:
    """The same task again, even of another file: what was found first stands."""
    task_id = uuid4().hex
    recycling.scan.apply_async(("u1", "plastic_bottle.jpg"), task_id=task_id).get(timeout=PATIENCE)
    before = row(engine, task_id)

    recycling.scan.apply_async(("u1", "paper.jpg"), task_id=task_id)
    eventually(lambda: stand.waiting() == (0, 0))

    assert row(engine, task_id) == before
    assert result_of(task_id).get(timeout=PATIENCE) == BOTTLE


@pytest.mark.usefixtures("quiet_caches")
def test_two_deliveries_at_once(running: WorkerProcess, stand: Stand, engine: Engine) -> None:
    """Both processes of the pool work on one task that has no row yet; one row comes of it."""
    task_id = uuid4().hex
    with guides_locked(engine) as lock:
        for _ in range(2):
            recycling.scan.apply_async(("u1", "plastic_bottle.jpg"), task_id=task_id)
        stopped_by(lock)
        eventually(lambda: stand.waiting() == (0, 2))
    eventually(lambda: stand.waiting() == (0, 0))

    assert result_of(task_id).get(timeout=PATIENCE) == BOTTLE
    found = row(engine, task_id)
    assert found is not None
    assert found[:2] == ("completed", BOTTLE)


@pytest.mark.parametrize(
    ("file_name", "found"),
    [
        ("mystery.jpg", {"category": None, "title": None}),
        ("종이.PNG", {"category": "paper", "title": "Paper"}),
    ],
)
def test_what_is_found(running: WorkerProcess, file_name: str, found: dict[str, Any]) -> None:
    """Korean names count, and a thing without a guide is an answer too."""
    assert recycling.scan.delay("u1", file_name).get(timeout=PATIENCE) == found


def test_no_photograph_is_a_failed_scan(running: WorkerProcess, reader: Stores) -> None:
    """The row says FAILED, and why, when the result says so; nothing is tried again."""
    task_id = recycling.request_scan(reader.sessions, "u1", "plastic.exe")

    with pytest.raises(Exception, match=r"a scan takes \.heic"):
        result_of(task_id).get(timeout=PATIENCE)

    with reader.sessions() as session:
        seen = session.get_one(ScanResult, task_id)
        assert seen.status is ScanStatus.FAILED
        assert seen.result is not None
        assert "plastic.exe" in seen.result["error"]
        assert seen.finished_at is not None


def test_an_unknown_user(running: WorkerProcess, reader: Stores, engine: Engine) -> None:
    """Nobody's scan is refused where it is asked for, and fails in the worker without a row."""
    with pytest.raises(UnknownUser, match="no user 'nobody'"):
        recycling.request_scan(reader.sessions, "nobody", "paper.jpg")
    sent = recycling.scan.delay("nobody", "paper.jpg")
    with pytest.raises(Exception, match="no user 'nobody'"):
        sent.get(timeout=PATIENCE)
    assert row(engine, sent.id) is None


@pytest.mark.usefixtures("quiet_caches")
def test_a_database_error_is_tried_again(running: WorkerProcess, engine: Engine) -> None:
    """The connection is cut in the middle of a scan; the next attempt completes it."""
    with guides_locked(engine) as lock:
        sent = recycling.scan.delay("u1", "plastic_bottle.jpg")
        cut(lock, stopped_by(lock))
        eventually(lambda: sent.state == "RETRY" or f"{sent.id}] retry" in running.log)
    assert sent.get(timeout=PATIENCE) == BOTTLE


@pytest.mark.usefixtures("quiet_caches")
def test_attempts_run_out(running: WorkerProcess, reader: Stores, engine: Engine) -> None:
    """After the last attempt the row is FAILED, and does not tell users about the database."""
    with guides_locked(engine) as lock:
        last = recycling.scan.max_retries
        sent = recycling.scan.apply_async(("u1", "plastic_bottle.jpg"), retries=last)
        cut(lock, stopped_by(lock))
        with pytest.raises(Exception, match="terminating connection"):
            sent.get(timeout=PATIENCE)
    with reader.sessions() as session:
        seen = session.get_one(ScanResult, sent.id)
        assert (seen.status, seen.result) == (ScanStatus.FAILED, {"error": "OperationalError"})


@pytest.mark.usefixtures("quiet_caches")
def test_a_killed_pool_process_loses_no_task(running: WorkerProcess, engine: Engine) -> None:
    """SIGKILL in the middle of a scan: the task is delivered to a new process."""
    with guides_locked(engine) as lock:
        sent = recycling.scan.delay("u1", "plastic_bottle.jpg")
        stopped_by(lock)
        os.kill(pool_process_of(recycling.app, sent.id), signal.SIGKILL)
        stopped_by(lock, count=2)  # the dead process's statement, and the new one's
    assert sent.get(timeout=PATIENCE) == BOTTLE


def test_the_beats_tasks_run(
    running: WorkerProcess, stand: Stand, reader: Stores, engine: Engine, quiet_caches: None
) -> None:
    """Warming puts the guides into database 5; pruning leaves what expired just now."""
    with Session(engine) as session:
        for jti, age in (("old", timedelta(hours=2)), ("fresh", timedelta(minutes=5))):
            expired = datetime.now(UTC) - age
            session.add(Revocation(jti=jti, user_id="u1", revoked_at=expired, expires_at=expired))
        session.commit()

    # By the names that beat sends.
    names = [each["task"] for each in recycling.app.conf.beat_schedule.values()]
    warmed = recycling.app.send_task("recycling.warm").get(timeout=PATIENCE)
    pruned = recycling.app.send_task("recycling.prune_revocations").get(timeout=PATIENCE)

    assert sorted(names) == ["recycling.prune_revocations", "recycling.warm"]
    assert warmed["guides"] == 2
    assert pruned == 1
    with redis.Redis.from_url(stand.caches.url, db=5) as client:
        assert len(client.keys("info:guide:*")) == 2


def test_the_liveness_probe(running: WorkerProcess, stand: Stand) -> None:
    """As Kubernetes runs it: the worker answers, one that is not there does not."""

    def probe(name: str, timeout: int) -> int:
        (container,) = pod("worker").spec["containers"]
        (*_, command) = container["livenessProbe"]["exec"]["command"]
        program, *words = shlex.split(
            command.replace("celery@$(hostname)", name).replace("timeout=10", f"timeout={timeout}")
        )
        asked = [sys.executable, "-m", program, *words]
        environment = {**os.environ, **stand.environment}
        return subprocess.run(asked, env=environment, check=False, capture_output=True).returncode

    assert probe(running.name, 60) == 0
    assert probe("nobody@test", 1) != 0


def test_beat_starts(stand: Stand, tmp_path: Path) -> None:
    """By the deployed command, told nothing of the database; SIGTERM ends it with its state."""
    (container,) = pod("beat").spec["containers"]
    program, *words = container["command"]
    schedule = tmp_path / "schedule"
    words = [word.replace("/tmp/celerybeat-schedule", str(schedule)) for word in words]
    environment = {**os.environ, **stand.environment}
    del environment["RECYCLING_DATABASE_URL"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        beat = subprocess.Popen(
            [sys.executable, "-m", program, *words, "--loglevel=DEBUG"],
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        # It says "Starting" before its schedule is open, when a signal is an error still.
        eventually(lambda: "beat: Waking up" in log.read_text())
        beat.terminate()
        assert beat.wait(timeout=PATIENCE) == 0
    finally:
        beat.kill()
        beat.wait()
    assert list(tmp_path.glob("schedule*"))


def test_a_queue_that_was_away(
    running: WorkerProcess, stand: Stand, reader: Stores, engine: Engine
) -> None:
    """Who asked was told, his scan is not pending for ever, and the next one is worked on."""
    stand.durable.stop()
    try:
        with pytest.raises(Exception, match=r"result store|refused"):
            recycling.request_scan(reader.sessions, "u1", "paper.jpg")
    finally:
        stand.durable.restart()
    with engine.connect() as connection:
        newest = connection.execute(
            text("select status, result from scan_db.scan_results order by created_at desc limit 1")
        ).one()
    assert tuple(newest) == ("failed", {"error": "the scan could not be queued"})

    task_id = recycling.request_scan(reader.sessions, "u1", "paper.jpg")
    eventually(lambda: (row(engine, task_id) or "")[0] == "completed")


def test_sigterm_finishes_what_is_begun(
    stand: Stand, engine: Engine, tmp_path: Path, quiet_caches: None
) -> None:
    """The scan in the middle is completed, the one behind it stays in the queue; status 0."""
    worker = WorkerProcess(stand, tmp_path / "ending", queue="ending")
    try:
        with guides_locked(engine) as lock:
            begun = send(queue="ending")
            worker.start(concurrency=1)
            stopped_by(lock)
            later = send(queue="ending")
            worker.terminate()
            eventually(lambda: "Warm shutdown" in worker.log)
        assert worker.wait() == 0
    finally:
        worker.kill()
    assert begun.get(timeout=PATIENCE) == BOTTLE
    assert row(engine, later.id) is None
    assert stand.waiting("ending") == (1, 0)


def test_a_killed_worker_loses_no_task(
    stand: Stand, engine: Engine, tmp_path: Path, quiet_caches: None
) -> None:
    """SIGKILL of the whole worker: after the visibility timeout the next one gets the task."""
    timeout = 1
    settings = {"RECYCLING_VISIBILITY_TIMEOUT_S": str(timeout)}
    first, second = (
        WorkerProcess(stand, tmp_path / name, queue="killed", **settings)
        for name in ("first", "second")
    )
    try:
        with guides_locked(engine) as lock:
            sent = send(queue="killed")
            first.start(concurrency=1)
            stopped_by(lock)
            first.kill()
            assert stand.waiting("killed") == (0, 1)
        # A worker looks for such tasks when it starts, and again only 100 s later.
        delivered = stand.oldest_delivery()
        eventually(lambda: time.time() > delivered + timeout)
        second.start(concurrency=1)
        assert sent.get(timeout=PATIENCE) == BOTTLE
    finally:
        first.kill()
        second.kill()


def send(queue: str) -> AsyncResult[Any]:
    """Send a scan to a queue of its own, for a worker of its own."""
    return recycling.scan.apply_async(("u1", "plastic_bottle.jpg"), queue=queue)


def read_environment(app: Celery) -> None:
    """Let an application read its settings anew."""
    app.config_from_object({}, force=True)


def cut(lock: Any, pids: list[int]) -> None:
    """End these connections of the database, as an administrator would."""
    for pid in pids:
        lock.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
