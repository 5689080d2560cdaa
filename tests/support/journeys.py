"""The library's own Python calls on four journeys: a hit, a cached list, a miss, a commit.

    python -m tests.support.journeys            prints each journey stop by stop
    python -m tests.support.journeys --brief    prints the counts and modules alone

Real PostgreSQL and Redis, found as the tests find them. Everything is warm: plans are built,
scripts are loaded, interests are ripe. SQLAlchemy's and the drivers' calls do not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Engine, bindparam, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import cachedorm
from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region, Regions
from examples.servers import scratch_database, servers
from tests.fixtures.patience import patient_cache

LIBRARY = f"{Path(cachedorm.__file__).parent.as_posix()}/"
# Once a second a connection asks for the server's identity, and a process for the registry; the
# shortest of these runs does neither.
RUNS = 7

# The journeys, and the most calls that each may take.
CALLS_MAX = {
    "session.get, hit": 38,
    "CachedQuery, hit of 3 rows": 65,
    "session.get, miss and publish": 160,
    "one-row UPDATE and commit": 190,
}

TOUR = Region("tour", db=1, ttl=timedelta(hours=1), jitter=0)


class Base(DeclarativeBase):
    """The declarative base of the journeys' tables."""


class Town(Cached, Base):
    """Cached row by row, by its primary key."""

    __tablename__ = "journey_towns"
    __cache__ = CachePolicy(TOUR, key="journey:town:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Member(Cached, Base):
    """Stands in a cached list of three."""

    __tablename__ = "journey_members"
    __cache__ = CachePolicy(TOUR, key="journey:member:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[int]


by_team = CachedQuery(
    TOUR,
    key="journey:team:{team}",
    statement=select(Member).where(Member.team == bindparam("team")).order_by(Member.id),
)


@dataclass(frozen=True, slots=True)
class Stop:
    """One call. ``module``: below ``cachedorm``; ``depth``: how many library calls are open."""

    module: str
    function: str
    depth: int

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.module}.{self.function}"


@dataclass(frozen=True, slots=True)
class Journey:
    """The library's calls of one operation, in order."""

    name: str
    stops: tuple[Stop, ...]

    @property
    def calls(self) -> int:
        """The number of calls."""
        return len(self.stops)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the journey passes, in the order of their first call."""
        return tuple(dict.fromkeys(stop.module for stop in self.stops))

    @property
    def brief(self) -> str:
        """One line for a report."""
        names = ", ".join(self.modules)
        return f"{self.name}: {self.calls} calls in {len(self.modules)} modules: {names}"

    def __str__(self) -> str:
        return "\n".join([self.brief, *(f"  {stop}" for stop in self.stops)])


@contextmanager
def library_calls() -> Iterator[list[Stop]]:
    """This thread's calls of the library's functions within the block; the list grows meanwhile.

    A generator counts each time it is resumed, as the interpreter's own profiler counts it.
    """
    stops: list[Stop] = []
    depth = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        path = frame.f_code.co_filename
        if event not in {"call", "return"} or not path.startswith(LIBRARY):
            return
        if event == "return":
            depth -= 1
            return
        module = path.removeprefix(LIBRARY).removesuffix(".py").replace("/", ".")
        stops.append(Stop(module, frame.f_code.co_qualname, depth))
        depth += 1

    sys.setprofile(note)
    try:
        yield stops
    finally:
        sys.setprofile(None)


class Traveller:
    """Makes the four journeys, in sessions of its own that the Cache serves."""

    def __init__(self, engine: Engine, cache: Cache) -> None:
        self._cache = cache
        self._sessions = sessionmaker(engine)
        self._sql: list[str] = []
        event.listen(engine, "before_cursor_execute", self._note_sql)
        cache.attach(self._sessions)
        Base.metadata.create_all(engine)
        with self._sessions() as session:
            session.add(Town(id=1, name="old"))
            session.add_all(Member(id=number, team=1) for number in (1, 2, 3))
            session.commit()

    def journeys(self) -> list[Journey]:
        """All four, each the shortest of several runs."""
        return [
            self._shortest("session.get, hit", self._get, []),
            self._shortest("CachedQuery, hit of 3 rows", self._list, []),
            self._shortest("session.get, miss and publish", self._miss, ["SELECT"]),
            self._shortest("one-row UPDATE and commit", self._update, ["UPDATE"]),
        ]

    def _shortest(self, name: str, travel: Callable[[], list[Stop]], sql: list[str]) -> Journey:
        travel()
        runs = []
        for _ in range(RUNS):
            self._sql.clear()
            runs.append(Journey(name, tuple(travel())))
            # A read that bypasses the cache is shorter than the journey that is meant.
            assert self._sql == sql, f"{name}: {self._sql}"
        return min(runs, key=lambda run: run.calls)

    def _note_sql(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._sql.append(statement.split(maxsplit=1)[0])

    def _get(self) -> list[Stop]:
        with self._sessions() as session, library_calls() as stops:
            town = session.get(Town, 1)
        assert town is not None
        return stops

    def _list(self) -> list[Stop]:
        with self._sessions() as session, library_calls() as stops:
            members = session.scalars(by_team(team=1)).all()
        assert len(members) == 3
        return stops

    def _miss(self) -> list[Stop]:
        self._cache.invalidate(Town, 1)
        stops = self._get()
        with self._sessions() as session:
            # A second SELECT would say that the entry was not published.
            session.get_one(Town, 1)
        return stops

    def _update(self) -> list[Stop]:
        with self._sessions() as session:
            town = session.get_one(Town, 1)
            self._sql.clear()
            with library_calls() as stops:
                town.name = "even" if town.name == "odd" else "odd"
                session.commit()
        return stops


def journeys(database_url: str, redis_url: str) -> list[Journey]:
    """The four journeys on these servers; the database must be empty."""
    engine = create_engine(database_url)
    try:
        with patient_cache(redis_url, regions=Regions(TOUR)) as cache:
            return Traveller(engine, cache).journeys()
    finally:
        engine.dispose()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.journeys", description=__doc__)
    parser.add_argument("--brief", action="store_true", help="counts and modules alone")
    options = parser.parse_args()
    with servers() as found, scratch_database(found.database_url) as database_url:
        for journey in journeys(database_url, found.redis_url):
            print(journey.brief if options.brief else f"{journey}\n")


if __name__ == "__main__":
    main()
