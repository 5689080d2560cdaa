"""What a hit costs in Python calls of the library's own, which every cached read pays."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session, sessionmaker

import cachedorm
from cachedorm import CachedQuery
from tests.support.orm.library import SHELF, Author, Book

LIBRARY = str(Path(cachedorm.__file__).parent) + os.sep
GET_MAX = 38
QUERY_MAX = 64

Sessions = sessionmaker[Session]


@contextmanager
def counted() -> Iterator[list[str]]:
    """The library's functions that are called within the block, as ``file:function``."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(LIBRARY):
            calls.append(f"{path.removeprefix(LIBRARY)}:{frame.f_code.co_qualname}")

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def calls_of(sessions: Sessions, read: Callable[[Session], Any]) -> list[str]:
    """The calls of a read that is a hit, in a session that has read before."""
    for _ in range(2):
        with sessions() as session:
            read(session)
    with sessions() as session, counted() as calls:
        read(session)
    return calls


def test_get_hit(stocked: Sessions) -> None:
    """A ``get`` that is a hit makes few calls."""
    calls = calls_of(stocked, lambda session: session.get(Book, 1))
    assert len(calls) <= GET_MAX, "\n".join([str(len(calls)), *calls])


def test_query_hit(stocked: Sessions) -> None:
    """A cached query of three rows that is a hit makes few calls."""
    with stocked() as session:
        session.add_all(Book(id=number, title="more", author_id=7) for number in (7, 8, 9))
        session.add(Author(id=7, name="Seven"))
        session.commit()
    books = CachedQuery(
        SHELF,
        "calls:{author_id}",
        select(Book).where(Book.author_id == bindparam("author_id")).order_by(Book.id),
    )

    def read(session: Session) -> None:
        assert len(session.scalars(books(author_id=7)).all()) == 3

    calls = calls_of(stocked, read)
    assert len(calls) <= QUERY_MAX, "\n".join([str(len(calls)), *calls])
