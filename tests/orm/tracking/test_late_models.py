"""Models of another registry, imported after the first write."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cached, CachePolicy
from tests.fixtures.logs import RedisLog
from tests.support.orm.library import SHELF, Author


def test_another_registry(
    library: Engine, sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """A write to a model that came late, and that nothing has configured, is told."""
    with sessions.begin() as session:
        session.execute(text("create table late_things (id int primary key, label text)"))
        session.execute(text("insert into late_things values (1, 'old')"))
        session.add(Author(id=1, name="Kim"))

    class LateBase(DeclarativeBase):
        pass

    class LateThing(LateBase, Cached):
        __tablename__ = "late_things"
        __cache__ = CachePolicy(SHELF, key="late:{id}")

        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str]

    table: Any = LateThing.__table__
    redis_log.clear()
    with library.begin() as connection:
        connection.execute(update(table).values(label="new"))
    assert any("late:1" in command.args for command in redis_log.commands())


def test_text_to_another_registry(
    library: Engine, sessions: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """So is SQL text that writes its table."""
    with sessions.begin() as session:
        session.execute(text("create table later_things (id int primary key)"))
        session.add(Author(id=1, name="Kim"))

    class LaterBase(DeclarativeBase):
        pass

    class LaterThing(LaterBase, Cached):
        __tablename__ = "later_things"
        __cache__ = CachePolicy(SHELF, key="later:{id}")

        id: Mapped[int] = mapped_column(primary_key=True)

    redis_log.clear()
    with library.begin() as connection:
        connection.execute(text("insert into later_things values (1)"))
    assert any("~s:later_things" in command.args for command in redis_log.commands())
