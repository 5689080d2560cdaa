"""The domain's rows are served from Redis by key, whatever a process does first."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from examples.recycling.witness import Witness
from models import Guide, RecycleCenter, Revocation, ScanResult, User
from tests.fixtures.patience import patient_cache

Read = Callable[[Session], Any]


@pytest.mark.parametrize(
    ("read", "region"),
    [
        (lambda session: session.get(User, "u0001"), "my"),
        (lambda session: session.get(RecycleCenter, "c00001"), "location"),
        (lambda session: session.scalar(Guide.by(category="plastic")), "info"),
        (lambda session: session.get(ScanResult, some(session, ScanResult.task_id)), "scan"),
        (lambda session: session.get(Revocation, some(session, Revocation.jti)), "auth"),
        (lambda session: session.get(Revocation, "not revoked"), "auth"),
    ],
)
def test_rows_read_twice_are_equal(town: Engine, redis_url: str, read: Read, region: str) -> None:
    """Every column is the same from Redis as from the database, points and JSON included."""
    engine = create_engine(town.url)
    sessions, witness = sessionmaker(engine), Witness()
    with patient_cache(redis_url, observers=[witness]) as cache:
        cache.attach(sessions)
        answers = []
        for _ in range(2):
            with sessions() as session:
                end = witness.begin()
                answers.append(values(read(session)))
                seen = end()
        assert (seen.hits, seen.published) == (1, 0)
        assert answers[0] == answers[1]
        assert cache.stats().hits == {region: 1}
    engine.dispose()


def test_the_first_thing_a_process_does_may_be_a_read(town: Engine, redis_url: str) -> None:
    """Nothing has configured the mappers yet; the second read is a hit all the same."""
    url = town.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_READ, url, redis_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr


FIRST_READ = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from tests.fixtures.patience import patient_cache
from models import User

engine = create_engine(sys.argv[1])
sessions = sessionmaker(engine)
with patient_cache(sys.argv[2]) as cache:
    cache.attach(sessions)
    for _ in range(2):
        with sessions() as session:
            session.get(User, "u0001")
    print(cache.stats().hits.total())
engine.dispose()
"""


def some(session: Session, column: Any) -> Any:
    """The least value of the column."""
    return session.scalars(select(column).order_by(column).limit(1)).one()


def values(row: Any) -> dict[str, Any] | None:
    """The row's columns, loaded or not."""
    if row is None:
        return None
    return {prop.key: getattr(row, prop.key) for prop in inspect(type(row)).column_attrs}
