"""Nearby by precision: how often a cell is found cached, how much it holds, what a hit costs.

    python -m benchmarks.nearby          prints the table; --write puts it into benchmarks/nearby.md

100,000 places in a country; 30,000 of them in a city of 40 by 45 km, 10,000 in its middle. 1,500
people of the city ask for the 20 nearest within 1 and 5 km: most around three squares, some
anywhere. Nothing is cached when they begin. Then once more, while after every 50 questions a place
somewhere in the country moves by some metres, and the entries around it end.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.geo import Nearby
from cachedorm.geo.candidates import Candidates
from examples.servers import scratch_database, servers
from tests.differential.world import Base, Spot, nearby_by

WRITTEN = Path(__file__).with_suffix(".md")
SQUARES = ((37.5665, 126.978), (37.5172, 127.0473), (37.5511, 126.9882))
ASKED, MOVES = 1_500, 30
# Never split, but for the last: cells of precision 5, and what is crowded goes down.
WAYS = {
    "precision 5": (5, 10_000),
    "precision 6": (6, 10_000),
    "precision 7": (7, 10_000),
    "precision 5, split above 500": (5, 500),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way came to."""

    hit_rate: float
    with_moves: float
    candidates: float
    hit_ms: float
    miss_ms: float


def country(engine: Engine) -> None:
    """The table, filled."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("select setseed(0.7)"))
        connection.execute(
            text(
                "insert into spots (id, note, lat, lon) select 's' || i, 'a place to go to',"
                " case when i % 10 = 0 then 37.55 + (random() - 0.5) * 0.1"
                " when i % 10 < 4 then 37.55 + (random() - 0.5) * 0.36"
                " else 34 + random() * 4.5 end,"
                " case when i % 10 = 0 then 126.98 + (random() - 0.5) * 0.1"
                " when i % 10 < 4 then 126.98 + (random() - 0.5) * 0.5"
                " else 126 + random() * 3.5 end"
                " from generate_series(1, 100000) i"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze spots"))


def people() -> Iterator[tuple[float, float]]:
    """Where those who ask stand; the same for every way."""
    draw = random.Random(5)
    for _ in range(ASKED):
        if draw.random() < 0.8:
            lat, lon = draw.choice(SQUARES)
            yield lat + draw.gauss(0, 0.008), lon + draw.gauss(0, 0.01)
        else:
            yield draw.uniform(37.4, 37.7), draw.uniform(126.8, 127.2)


@dataclass
class Questions:
    """Everybody asks; what each question cost, apart for hits and misses, in milliseconds."""

    cache: Cache
    factory: sessionmaker[Session]
    query: Nearby
    radius_m: float
    hits: list[float] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)

    def ask(self, count: int, moves: int = 0) -> None:
        """So many people ask, and so many places move meanwhile."""
        self.hits.clear()
        self.misses.clear()
        draw = random.Random(9)
        for number, (lat, lon) in enumerate(islice(people(), count)):
            if moves and number % (count // moves) == 0:
                self._move(draw)
            before = self.cache.stats().misses.total()
            began = time.perf_counter()
            with self.factory() as session:
                statement = self.query(lat=lat, lon=lon, radius_m=self.radius_m)
                assert session.execute(statement).all()
            took = (time.perf_counter() - began) * 1000
            missed = self.cache.stats().misses.total() > before
            (self.misses if missed else self.hits).append(took)

    def _move(self, draw: random.Random) -> None:
        with self.factory() as session:
            spot = session.get_one(Spot, f"s{draw.randrange(1, 100_000)}")
            spot.lat += draw.uniform(-0.001, 0.001)
            session.commit()


def measured(engine: Engine, redis_url: str, query: Nearby, radius_m: float) -> Figures:
    """Ask as everybody does, first undisturbed and then with moves in between."""
    factory = sessionmaker(engine)
    with Cache(redis_url) as cache, counted() as candidates:
        cache.attach(factory)
        asked = Questions(cache, factory, query, radius_m)
        asked.ask(20)  # connections, statements
        cache.region(query.region.name).clear()
        candidates.clear()
        asked.ask(ASKED)
        rate, hit_ms, miss_ms = len(asked.hits) / ASKED, quick(asked.hits), quick(asked.misses)
        mean = statistics.mean(candidates)
        cache.region(query.region.name).clear()
        asked.ask(ASKED, MOVES)
        cache.detach(factory)
        cache.detach(engine)
    return Figures(rate, len(asked.hits) / ASKED, mean, hit_ms, miss_ms)


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many candidates each answer was picked from."""
    counts: list[int] = []
    nearest = Candidates.nearest

    def counting(self: Candidates, *asked: Any) -> Any:
        counts.append(len(self))
        return nearest(self, *asked)

    Candidates.nearest = counting  # type: ignore[method-assign, assignment]
    try:
        yield counts
    finally:
        Candidates.nearest = nearest  # type: ignore[method-assign]


def quick(took: list[float]) -> float:
    """The lower quartile: what else runs on the machine only ever makes a question slower."""
    return statistics.quantiles(took, n=4)[0]


def uncached(engine: Engine, radius_m: float) -> float:
    """Milliseconds of the plain query in an ordinary session."""
    factory, query, took = sessionmaker(engine), nearby_by(5), []
    for lat, lon in islice(people(), 200):
        began = time.perf_counter()
        with factory() as session:
            session.execute(query(lat=lat, lon=lon, radius_m=radius_m)).all()
        took.append((time.perf_counter() - began) * 1000)
    return quick(took)


def tables() -> Iterator[str]:
    """One table for each radius, on servers that are started for it."""
    with servers() as found, scratch_database(found.database_url, postgis=True) as url:
        engine = create_engine(url)
        country(engine)
        for radius_m in (1000.0, 5000.0):
            yield f"### {radius_m / 1000:g} km; uncached {uncached(engine, radius_m):.1f} ms\n"
            yield "| | hits | hits, with moves | candidates | a hit, ms | a miss, ms |"
            yield "|---|---|---|---|---|---|"
            for name, (precision, most) in WAYS.items():
                query = nearby_by(precision, most)
                each = measured(engine, found.redis_url, query, radius_m)
                yield (
                    f"| {name} | {each.hit_rate:.1%} | {each.with_moves:.1%}"
                    f" | {each.candidates:,.0f} | {each.hit_ms:.2f} | {each.miss_ms:.1f} |"
                )
            yield ""
        engine.dispose()


def main() -> None:
    """Print the tables; with ``--write``, keep them beside this file."""
    lines = []
    for line in tables():
        print(line, flush=True)
        lines.append(line)
    if "--write" in sys.argv:
        about = (
            f"SQLAlchemy {sqlalchemy.__version__}, Python {sys.version.split()[0]}; wall time,"
            " lower quartiles of single questions, each in a new session"
        )
        head = (__doc__ or "").strip()
        WRITTEN.write_text("\n".join(["# Nearby by precision", "", head, "", about, "", *lines]))


if __name__ == "__main__":
    main()
