"""Cached queries over inheritance: classes whose rows one SELECT holds whole, or an error."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session, sessionmaker, with_polymorphic

from cachedorm import CachedQuery
from cachedorm.errors import DeclarationError
from tests.fixtures.logs import SqlLog
from tests.support.orm.library import SHELF, Animal, Cat, Dog

QUERIES: dict[str, tuple[CachedQuery[Any], str]] = {
    "a joined subclass": (
        CachedQuery(SHELF, "dogs:all", select(Dog).order_by(Dog.id)),
        "animals.*, dogs.*",
    ),
    "a joined subclass by its key": (
        CachedQuery(SHELF, "dogs:{id}", select(Dog).where(Dog.id == bindparam("id"))),
        "",
    ),
    "a single-table subclass": (
        CachedQuery(SHELF, "cats:all", select(Cat).order_by(Cat.id)),
        "animals.*",
    ),
    "columns of the base class": (
        CachedQuery(SHELF, "animals:names", select(Animal.name, Animal.kind).order_by(Animal.name)),
        "animals.*",
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_subclasses_answer_as_without_a_cache(
    name: str, sessions: sessionmaker[Session], plain: sessionmaker[Session], sql_log: SqlLog
) -> None:
    """Their own rows only, whole, of their own class; writes of either table are followed."""
    cached, depends = QUERIES[name]
    if depends:
        assert {str(each) for each in cached.dependencies} == set(depends.split(", "))
    values = {"id": 2} if "id" in cached.parameters else {}
    with sessions() as session:
        session.add_all(
            [Animal(id=1, name="a"), Dog(id=2, name="d", tricks=3), Cat(id=3, name="c", lives=9)]
        )
        session.commit()

    def read(factory: sessionmaker[Session]) -> list[Any]:
        with factory() as session:
            return [_shown(row) for row in session.execute(cached(**values))]

    for tricks in (3, 4):
        expected = read(plain)
        assert expected
        assert read(sessions) == expected
        sql_log.clear()
        assert read(sessions) == expected
        assert sql_log == []
        with sessions() as session:
            session.get_one(Dog, 2).tricks = tricks + 1
            session.get_one(Cat, 3).lives = tricks
            session.get_one(Animal, 2).name = "e"
            session.commit()


def test_a_base_class_is_refused(sessions: sessionmaker[Session]) -> None:
    """Its rows are of several classes, and the error says what to select instead."""
    for entity in (Animal, with_polymorphic(Animal, [Dog])):
        cached = CachedQuery(SHELF, "animals:all", select(entity))
        with sessions() as session, pytest.raises(DeclarationError) as refused:
            session.execute(cached())
        assert "Animal has subclasses, whose rows one SELECT does not hold whole" in str(
            refused.value
        )


def _shown(row: Any) -> Any:
    value = row[0]
    if not isinstance(value, Animal):
        return tuple(row)
    names = [attribute.key for attribute in type(value).__mapper__.column_attrs]
    return type(value), {each: value.__dict__[each] for each in names}
