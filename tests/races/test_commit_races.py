"""The races of the protocol on the whole stack, each staged by hand: no sleeps, no luck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from examples.servers import PrivateRedis
from tests.fixtures.patience import PATIENCE, patient_cache
from tests.support.orm.library import REGIONS, Base, Book
from tests.support.races.staging import Stage

Sessions = sessionmaker[Session]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stage(engine: Engine) -> Stage:
    """The stage that this engine's commits are on; its database has one book, called old."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Book(title="old"))
        session.commit()
    return Stage(engine)


@pytest.fixture
def opened(engine: Engine) -> Iterator[Callable[[str], tuple[Cache, Sessions]]]:
    """Opens caches on that engine, or on engines of their own, and closes all of them."""
    made: list[tuple[Cache, Engine]] = []

    def open_cache(redis_url: str) -> tuple[Cache, Sessions]:
        mine = create_engine(engine.url) if made else engine
        cache = patient_cache(redis_url, regions=REGIONS)
        factory = sessionmaker(mine)
        cache.attach(factory)
        made.append((cache, mine))
        return cache, factory

    yield open_cache
    for cache, mine in made:
        cache.detach(mine)
        cache.close()
        mine.dispose()


@pytest.fixture
def sessions(
    stage: Stage, redis_url: str, opened: Callable[[str], tuple[Cache, Sessions]]
) -> Sessions:
    """Served sessions on the stage's engine."""
    return opened(redis_url)[1]


@pytest.fixture
def others(
    sessions: Sessions, redis_url: str, opened: Callable[[str], tuple[Cache, Sessions]]
) -> Sessions:
    """Another process's sessions: another cache, engine and connections, and no stage."""
    return opened(redis_url)[1]


def title(sessions: Sessions) -> str | None:
    with sessions() as session:
        book = session.get(Book, 1)
        return book.title if book is not None else None


def rename(sessions: Sessions, to: str = "new") -> None:
    with sessions() as session:
        session.get_one(Book, 1).title = to
        session.commit()


def is_served(sessions: Sessions) -> bool:
    """Whether the cache answers without the database."""
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", note)
    title(sessions)
    event.remove(engine, "before_cursor_execute", note)
    return not asked


def test_late_fill(stage: Stage, sessions: Sessions, others: Sessions) -> None:
    """A row read before a commit is never stored after it."""
    with stage.after_query("FROM books", lambda: rename(others)):
        assert title(sessions) == "old"
    assert title(sessions) == "new"


def test_fill_across_a_commit(stage: Stage, sessions: Sessions, others: Sessions) -> None:
    """A row read between INTEND and COMMIT is not stored either."""
    stage.before = lambda: _expect(others, "old")
    rename(sessions)
    assert title(others) == "new"


def _expect(sessions: Sessions, expected: str) -> None:
    assert title(sessions) == expected


def test_read_between_commit_and_settle(stage: Stage, sessions: Sessions, others: Sessions) -> None:
    """What was cached before is hidden as soon as the database could answer otherwise."""
    assert title(others) == "old"
    assert is_served(others)
    stage.after = lambda: _expect(others, "new")
    rename(sessions)
    assert title(others) == "new"
    assert is_served(others)


def test_old_snapshot(stage: Stage, sessions: Sessions, others: Sessions) -> None:
    """A REPEATABLE READ transaction sees its old row and gives it to nobody."""
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("select 1"))
        rename(others)
        book = session.get(Book, 1)
        assert book is not None
        assert book.title == "old"
    assert title(others) == "new"


def test_uncommitted_read(sessions: Sessions, others: Sessions) -> None:
    """A row that is rolled back was served to nobody, whoever read it meanwhile."""
    with sessions() as session:
        session.get_one(Book, 1).title = "undone"
        session.flush()
        session.expire_all()
        assert session.get_one(Book, 1).title == "undone"
        assert title(others) == "old"
        session.rollback()
    assert title(sessions) == title(others) == "old"


def test_savepoint_release(sessions: Sessions, others: Sessions) -> None:
    """A reader between RELEASE and COMMIT caches the old row; the commit ends that."""
    with sessions() as session:
        with session.begin_nested():
            session.get_one(Book, 1).title = "new"
        assert title(others) == "old"
        assert is_served(others)
        session.commit()
    assert title(others) == "new"


def test_two_writers(stage: Stage, sessions: Sessions, others: Sessions) -> None:
    """The first to settle does not uncover what the second is about to change."""

    def other_row() -> None:
        with others() as session:
            session.execute(text("update books set title = title where id = 2"))
            session.commit()
        _expect(others, "old")
        assert not is_served(others)

    title(others)
    stage.before = other_row
    rename(sessions)
    assert title(others) == "new"


_WRITER = """
import os, signal, sys
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from tests.fixtures.patience import PATIENCE, patient_cache
from tests.support.orm.library import REGIONS, Book
from tests.support.races.staging import Stage

engine = create_engine(sys.argv[1])
stage = Stage(engine)
sessions = sessionmaker(engine)
patient_cache(sys.argv[2], regions=REGIONS).attach(sessions)
with sessions() as session:
    session.get_one(Book, 1).title = "new"
    setattr(stage, sys.argv[3], lambda: os.kill(os.getpid(), signal.SIGKILL))
    session.commit()
"""


@pytest.mark.parametrize(("when", "left"), [("after", "new"), ("before", "old")])
def test_writer_is_killed(sessions: Sessions, redis_url: str, when: str, left: str) -> None:
    """A writer that dies around its COMMIT leaves intents: the database answers meanwhile."""
    assert title(sessions) == "old"
    url = sessions.kw["bind"].url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _WRITER, url, redis_url, when]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    died = subprocess.run(command, cwd=ROOT, env=environment, timeout=PATIENCE, check=False)
    assert died.returncode == -signal.SIGKILL
    assert title(sessions) == left
    assert not is_served(sessions)


def test_redis_is_killed_at_commit(
    stage: Stage, private_redis: PrivateRedis, opened: Callable[[str], tuple[Cache, Sessions]]
) -> None:
    """The commit succeeds, and Redis is believed again only when it was told of it."""
    url = private_redis.url
    cache, sessions = opened(url)
    _, others = opened(url)
    assert title(sessions) == title(others) == "old"
    stage.before = private_redis.kill
    rename(sessions)
    assert title(sessions) == title(others) == "new"
    private_redis.restart()
    _mended(cache)
    assert title(sessions) == title(others) == "new"
    rename(others, "newer")
    assert title(sessions) == title(others) == "newer"


def test_redis_hangs_at_commit(
    stage: Stage, private_redis: PrivateRedis, opened: Callable[[str], tuple[Cache, Sessions]]
) -> None:
    """A Redis that does not answer holds up no commit; then it is told, and believed."""
    cache, sessions = opened(private_redis.url)
    _, others = opened(private_redis.url)
    assert title(sessions) == title(others) == "old"
    stage.before = private_redis.pause
    rename(sessions)
    assert title(sessions) == "new"
    private_redis.resume()
    _mended(cache)
    assert title(sessions) == title(others) == "new"


def _mended(cache: Cache) -> None:
    """Wait for the end of the thread that tells Redis later."""
    thread = cache._store._retry_thread._thread
    if thread is not None:
        thread.join(PATIENCE)
    assert not cache._store._journal.by_db


def test_redis_is_away_at_intend(
    stage: Stage, private_redis: PrivateRedis, opened: Callable[[str], tuple[Cache, Sessions]]
) -> None:
    """A Redis that is gone before INTEND costs the commit nothing but its news."""
    cache, sessions = opened(private_redis.url)
    assert title(sessions) == "old"
    with sessions() as session:
        session.get_one(Book, 1).title = "new"
        session.flush()
        private_redis.kill()
        session.commit()
        assert session.scalar(select(Book.title)) == "new"
    assert title(sessions) == "new"
    private_redis.restart()
    _mended(cache)
    assert title(sessions) == "new"
    assert is_served(sessions) or title(sessions) == "new"
