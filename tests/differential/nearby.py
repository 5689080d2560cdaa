"""What the cache answers to "nearby" against what PostGIS answers, with writes in between.

    python -m tests.differential.nearby         10,000 comparisons; --write puts the report into
                                                benchmarks/nearby_differential.md

Every comparison executes one statement in a session that the cache serves and in one that it does
not: the rows, every column of them, their order, and the distances must be the same.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, create_engine, delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from cachedorm.geo import Nearby
from examples.servers import scratch_database, servers
from tests.differential.report import REPORT, Report, described
from tests.differential.world import ROWS, SEOUL, SIDE, Spot, nearby, populate
from tests.fixtures.patience import patient_cache

# Distances may differ by this much, in metres; the promise is a millimetre.
TOLERANCE_M = 1e-6

Point = tuple[float, float]
Answer = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, and what kind of place it is about."""

    place: str
    query: Nearby
    point: Point
    radius_m: float
    k: int

    def statement(self) -> Select[Any]:
        """The statement that asks it."""
        lat, lon = self.point
        return self.query(lat=lat, lon=lon, radius_m=self.radius_m, k=self.k)


class Differential:
    """One run: a sequence of points asked and rows written, the same for the same seed."""

    def __init__(
        self,
        served: sessionmaker[Session],
        plain: sessionmaker[Session],
        seed: int,
        queries: tuple[Nearby, ...] = (nearby,),
    ) -> None:
        self.report = Report()
        self._served, self._plain = served, plain
        self._seed = seed
        self._random = random.Random(seed)
        self._queries = queries
        self._made = 0
        self._k_max = 500
        # Points close to each other, so that many of them find their cell cached.
        self._hot = [self._near(SEOUL, 0.15) for _ in range(8)]
        self._hot += [(0.0, 0.0), (89.9, 12.0), (-89.95, -170.0), (3.0, 179.99), (-7.0, -179.98)]

    def run(self, comparisons: int, k_max: int = 500) -> Report:
        """Compare so many times; a write comes before every seventh or so."""
        began = time.monotonic()
        self._k_max = k_max
        asked = self._asked()
        for _ in range(comparisons):
            # Half of the time somebody close by asks the same: a hit, unless a write came between.
            again = self._random.random() < 0.5
            asked = self._beside(asked) if again else self._asked()
            if self._random.random() < 0.15:
                self._write(asked.point)
            self._compare(asked)
        self.report.seconds = time.monotonic() - began
        return self.report

    # --- what is asked

    def _asked(self) -> Asked:
        place, point = self._point()
        k = self._random.choices((1, 5, 20, 100, 500), (10, 20, 60, 9, 1))[0]
        query = self._random.choice(self._queries)
        return Asked(place, query, point, self._radius(point), min(k, self._k_max))

    def _beside(self, asked: Asked) -> Asked:
        point = self._near(asked.point, self._random.choice((0.0, 1e-7, 0.0005, 0.01)))
        return replace(asked, point=point)

    def _point(self) -> tuple[str, Point]:
        draw = self._random
        choices: dict[str, Callable[[], Point]] = {
            "hot cells": lambda: self._near(draw.choice(self._hot), 0.01),
            "city": lambda: self._near(SEOUL, 0.2),
            "a row's own place": self._at_a_row,
            "cell borders": self._on_border,
            "poles": lambda: (
                draw.choice((90.0, -90.0, draw.uniform(88.9, 90), draw.uniform(-90, -88.9))),
                draw.uniform(-180, 180),
            ),
            "antimeridian": lambda: (
                draw.uniform(-20, 20),
                draw.choice((180.0, -180.0, draw.uniform(179.8, 180), draw.uniform(-180, -179.8))),
            ),
            "lattice": lambda: (draw.randint(-40, 40) * 0.005, draw.randint(-40, 40) * 0.005),
            "anywhere, mostly empty": lambda: (draw.uniform(-90, 90), draw.uniform(-180, 180)),
        }
        weights = (40, 15, 10, 10, 7, 7, 4, 7)
        place = draw.choices(list(choices), weights)[0]
        return place, choices[place]()

    def _near(self, point: Point, degrees: float) -> Point:
        lat = point[0] + self._random.uniform(-degrees, degrees)
        lon = point[1] + self._random.uniform(-degrees, degrees)
        return max(-90.0, min(90.0, lat)), (lon + 180) % 360 - 180

    def _at_a_row(self) -> Point:
        with self._plain() as session:
            spot = session.scalars(
                select(Spot).where(Spot.id > f"c{self._random.randrange(ROWS)}").limit(1)
            ).first()
            return SEOUL if spot is None else (spot.lat, spot.lon)

    def _on_border(self) -> Point:
        lat = (852 + self._random.randrange(6)) * SIDE
        lon = (2888 + self._random.randrange(6)) * SIDE
        return self._random.choice(((lat, lon), (lat, lon + 0.01), (lat + 0.003, lon)))

    def _radius(self, point: Point) -> float:
        draw = self._random
        kind = draw.random()
        if kind < 0.75:
            return draw.choice((500.0, 1000.0, 5000.0))
        if kind < 0.85:
            return self._distance_of_a_row(point)
        return float(round(10 ** draw.uniform(0.5, 4.6), draw.choice((0, 3))))

    def _distance_of_a_row(self, point: Point) -> float:
        """A radius at whose very end a row is."""
        distance = nearby.distance(nearby.point(*point))
        with self._plain() as session:
            found = session.scalars(
                select(distance)
                .where(func.ST_DWithin(Spot.location, nearby.point(*point), 3000))
                .limit(1)
            ).first()
        return found or 1234.5

    # --- what is compared

    def _compare(self, asked: Asked) -> None:
        statement = asked.statement()
        with self._served() as session:
            answer = _rows(session, statement)
        with self._plain() as session:
            truth = _rows(session, statement)
        self.report.comparisons += 1
        self.report.rows += len(truth)
        self.report.places[asked.place] += 1
        apart = max((abs(a[0] - b[0]) for a, b in zip(answer, truth, strict=False)), default=0.0)
        self.report.farthest_apart_m = max(self.report.farthest_apart_m, apart)
        if apart > TOLERANCE_M or [row[1:] for row in answer] != [row[1:] for row in truth]:
            self.report.differences.append(f"{asked}: {_first_difference(answer, truth)}")

    # --- what is written

    def _write(self, point: Point) -> None:
        """One write near the point, or far from it, through a session that the cache serves."""
        kinds = (self._insert, self._move, self._rename, self._delete, self._shift, self._undo)
        write = self._random.choice(kinds)
        with self._served() as session:
            write(session, point)
        self.report.writes[write.__name__.strip("_")] += 1

    def _some(self, session: Session, point: Point, count: int) -> list[Spot]:
        statement = nearby(lat=point[0], lon=point[1], radius_m=5000, k=count)
        return list(session.scalars(statement))

    def _insert(self, session: Session, point: Point) -> None:
        self._made += 1
        lat, lon = self._near(point, self._random.choice((0.0, 0.001, 0.02)))
        session.add(Spot(id=f"new{self._seed}-{self._made}", note="new", lat=lat, lon=lon))
        session.commit()

    def _move(self, session: Session, point: Point) -> None:
        for spot in self._some(session, point, 3):
            spot.lat, spot.lon = self._near(point, self._random.choice((0.001, 0.03, 20.0)))
        session.commit()

    def _rename(self, session: Session, point: Point) -> None:
        for spot in self._some(session, point, 2):
            spot.note = f"renamed {self._random.random()}"
        session.commit()

    def _delete(self, session: Session, point: Point) -> None:
        for spot in self._some(session, point, 1):
            session.delete(spot)
        session.commit()

    def _shift(self, session: Session, point: Point) -> None:
        """Many rows at once, without the ORM's units of work."""
        keys = [spot.id for spot in self._some(session, point, 30)]
        few = Spot.id.in_(keys)
        if self._random.random() < 0.2:
            session.execute(delete(Spot).where(few))
        else:
            session.execute(update(Spot).where(few).values(lat=Spot.lat * 0.999))
        session.commit()

    def _undo(self, session: Session, point: Point) -> None:
        """A write that is rolled back changes nothing."""
        for spot in self._some(session, point, 1):
            spot.lat = 0.0
        session.flush()
        session.rollback()


def _rows(session: Session, statement: Any) -> Answer:
    found = []
    for row in session.execute(statement):
        spot = row.Spot
        assert spot in session
        found.append((row.distance_m, spot.id, spot.note, spot.lat, spot.lon, spot.location.data))
    return found


def _first_difference(answer: Answer, truth: Answer) -> str:
    for place, (a, b) in enumerate(zip(answer, truth, strict=False)):
        if a != b:
            return f"row {place} is {a}, should be {b}"
    return f"{len(answer)} rows, should be {len(truth)}"


def main() -> int:
    """Run, print the report, and say by the exit status whether there was no difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    chosen = parser.parse_args()
    with servers(say=print) as found, scratch_database(found.database_url, postgis=True) as url:
        engine = create_engine(url)
        populate(engine)
        with patient_cache(found.redis_url) as cache:
            served = sessionmaker(engine)
            cache.attach(served)
            run = Differential(served, sessionmaker(engine), chosen.seed)
            report = run.run(chosen.comparisons)
            told = described(report, cache, engine)
            cache.detach(served)
        engine.dispose()
    print(told)
    if chosen.write:
        REPORT.write_text(told)
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
