"""How many of the library's own Python functions a commit calls."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

import cachedorm
from tests.support.orm.library import Book

_LIBRARY = str(Path(cachedorm.__file__).parent)


@contextmanager
def library_calls() -> Iterator[Counter[str]]:
    """Count the calls of the library's functions in this thread, by file and function."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, happened: str, _arg: Any) -> None:
        code = frame.f_code
        if happened == "call" and code.co_filename.startswith(_LIBRARY):
            calls[f"{code.co_filename[len(_LIBRARY) + 1 :]}:{code.co_name}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_commit(stocked: sessionmaker[Session]) -> None:
    """An UPDATE of one row, and its COMMIT, once everything they need was made."""
    totals = []
    for number in range(4):
        with stocked() as session:
            book = session.get_one(Book, 1)
            with library_calls() as calls:
                book.title = f"title {number}"
                session.commit()
            totals.append(calls.total())
    assert min(totals) <= 215, calls
