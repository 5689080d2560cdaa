"""Forked workers: no shared lines, and a ledger that works in the child."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import PATIENCE
from tests.support.orm.entries import Entries
from tests.support.orm.library import Book

Sessions = sessionmaker[Session]

FORK = multiprocessing.get_context("fork")


def in_child(act: Callable[[], Any]) -> Any:
    """What ``act`` gives in a forked child; its error is raised here."""
    here, there = FORK.Pipe()
    child = FORK.Process(target=_tell, args=(act, there))
    child.start()
    there.close()
    error, answer = here.recv()
    child.join(PATIENCE)
    assert error is None, error
    assert child.exitcode == 0
    return answer


def _tell(act: Callable[[], Any], pipe: Connection) -> None:
    try:
        pipe.send((None, act()))
    except BaseException as error:
        pipe.send((repr(error), None))


def test_child_writes(
    sessions: Sessions, library: Engine, entries: Entries, redis_log: RedisLog
) -> None:
    """A child's commit ends the parent's entries, over a connection of its own to Redis."""
    with sessions.begin() as session:
        session.add_all(Book(title="old") for _ in range(2))
    entries.fill("book:1", "book:2")
    redis_log.clear()

    def rename() -> str:
        library.dispose(close=False)
        with sessions.begin() as session:
            session.get_one(Book, 1).title = "new"
        return "done"

    assert in_child(rename) == "done"
    child = {command.client for command in redis_log.commands()}
    redis_log.clear()
    assert entries.ended("book:1", "book:2") == ["book:1"]
    assert child.isdisjoint(command.client for command in redis_log.commands())


def test_child_reads(sessions: Sessions, library: Engine, entries: Entries, cache: Cache) -> None:
    """A child is served what its parent cached."""
    with sessions.begin() as session:
        session.add(Book(title="old"))
    entries.fill("book:1")

    def read() -> tuple[Any, int]:
        library.dispose(close=False)
        entries.sql_log.clear()
        return entries.read("book:1")["title"], len(entries.sql_log)

    assert in_child(read) == ("old", 0)


def test_parent_and_child_at_once(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """Both write and read, and neither gets the other's replies."""
    with sessions.begin() as session:
        session.add_all(Book(title="old") for _ in range(2))

    def work(number: int) -> list[str]:
        titles = []
        for count in range(30):
            with sessions.begin() as session:
                session.get_one(Book, number).title = f"{number}-{count}"
            titles.append(entries.read(f"book:{number}")["title"])
        return titles

    def work_in_child() -> list[str]:
        library.dispose(close=False)
        return work(2)

    here, there = FORK.Pipe()
    child = FORK.Process(target=_tell, args=(work_in_child, there))
    child.start()
    assert work(1) == [f"1-{count}" for count in range(30)]
    error, answer = here.recv()
    child.join(PATIENCE)
    assert (error, answer) == (None, [f"2-{count}" for count in range(30)])
