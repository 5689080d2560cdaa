"""A row that becomes another class's while it is read."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from tests.fixtures.patience import patient_cache
from tests.support.orm.library import REGIONS, Animal, Base, Dog


@pytest.mark.parametrize("times", [1, 20])
def test_class_changes_between_the_two_reads(engine: Engine, redis_url: str, times: int) -> None:
    """A row that is there throughout is found, whichever class's it is at the moment."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Dog(id=1, name="Rex", tricks=1))
        session.commit()
    other = create_engine(engine.url)
    done: list[str] = []

    def change(_: Connection, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith("SELECT") or len(done) >= times:
            return
        to_dog = "dogs" not in statement and len(done) % 2 == 1
        done.append(statement)
        with other.begin() as connection:
            if to_dog:
                connection.execute(text("insert into dogs values (1, 1)"))
                connection.execute(text("update animals set kind = 'dog'"))
            else:
                connection.execute(text("delete from dogs"))
                connection.execute(text("update animals set kind = 'animal'"))

    with patient_cache(redis_url, regions=REGIONS) as cache:
        factory = sessionmaker(engine)
        cache.attach(factory)
        cache.attach(other)
        event.listen(engine, "after_cursor_execute", change)
        with factory() as session:
            assert session.get(Animal, 1) is not None
        assert done
        event.remove(engine, "after_cursor_execute", change)
        with factory() as session:
            found = session.get_one(Animal, 1)
            assert type(found).__name__.lower() == found.kind
        cache.detach(factory)
        cache.detach(engine)
        cache.detach(other)
    other.dispose()
