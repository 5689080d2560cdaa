"""One table under two names, partitions, inheritance children, views: whose rows are written."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, delete, text, update
from sqlalchemy.orm import Session, sessionmaker

from tests.support.orm.entries import Entries
from tests.support.orm.kin import (
    TABLES,
    AdminBox,
    Box,
    BoxView,
    Call,
    LetterSent,
    calls_ruled,
    letters_sent_1,
    parcels_old,
)

Sessions = sessionmaker[Session]

BOXES = ["box:1", "box:2"]
PARCELS = ["parcel:1", "parcel:2", "parcel:3"]
SENT = ["sent:1", "sent:2"]
CALLS = ["call:1", "call:2"]
ALL = [*BOXES, *PARCELS, *SENT, *CALLS]

boxes: Any = Box.__table__
sent: Any = LetterSent.__table__
calls: Any = Call.__table__


@pytest.fixture(autouse=True)
def filled(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """The tables with their rows, all cached; the engine's connections are new."""
    with library.begin() as connection:
        connection.exec_driver_sql(TABLES)
    library.dispose()
    with sessions.begin() as session:
        session.execute(text("update diaries set text = ''"))
    entries.fill(*ALL)


def test_by_the_other_name(sessions: Sessions, entries: Entries) -> None:
    """A flush of another class of the same table, by its schema, ends exactly its row."""
    with sessions.begin() as session:
        session.get_one(AdminBox, 1).label = "new"
    assert entries.ended(*ALL) == ["box:1"]


def test_by_the_other_name_in_core(library: Engine, entries: Entries) -> None:
    """So does Core, and a filter that names no key."""
    admin: Any = AdminBox.__table__
    with library.begin() as connection:
        connection.execute(update(admin).where(admin.c.label == "old").values(label="new"))
    assert entries.ended(*ALL) == BOXES


def test_cascade_by_the_other_name(library: Engine, entries: Entries) -> None:
    """A foreign key that spells its table otherwise than the statement does is followed."""
    with library.begin() as connection:
        connection.execute(delete(boxes).where(boxes.c.id == 1))
    assert entries.ended(*ALL) == ["box:1", "parcel:1", "parcel:2"]


def test_partition(library: Engine, entries: Entries) -> None:
    """A write to a partition is one to its table, by Core and by text."""
    statement = update(letters_sent_1).where(letters_sent_1.c.id == 1).values(label="new")
    with library.begin() as connection:
        connection.execute(statement)
    assert entries.ended(*ALL) == SENT
    with library.begin() as connection:
        connection.execute(text("update letters_sent_1 set label = 'text'"))
    assert entries.ended(*ALL) == SENT


def test_partitioned_table(library: Engine, entries: Entries) -> None:
    """A write to the partitioned table itself ends the rows it names."""
    with library.begin() as connection:
        connection.execute(update(sent).where(sent.c.id == 1).values(label="new"))
    assert entries.ended(*ALL) == ["sent:1"]


def test_inheritance_child(library: Engine, entries: Entries) -> None:
    """Rows of a child are read from its parent as well."""
    with library.begin() as connection:
        connection.execute(update(parcels_old).where(parcels_old.c.id == 3).values(label="new"))
    assert entries.ended(*ALL) == PARCELS


def test_view(sessions: Sessions, library: Engine, entries: Entries) -> None:
    """What is written to a view may be any table's, by the ORM and by text."""
    with sessions.begin() as session:
        session.get_one(BoxView, 1).label = "new"
    assert entries.ended(*ALL) == ALL
    with library.begin() as connection:
        connection.execute(text("update boxes_view set label = 'text'"))
    assert entries.ended(*ALL) == ALL


def test_rule(library: Engine, entries: Entries) -> None:
    """What a rule on a table does may be anything."""
    with library.begin() as connection:
        connection.execute(update(calls_ruled).where(calls_ruled.c.id == 1).values(label="new"))
    assert entries.ended(*ALL) == ALL
