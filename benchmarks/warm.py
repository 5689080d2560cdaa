"""How fast 100,000 guides are warmed, beside the database alone reading them.

    python -m benchmarks.warm [--rows 100000] [--runs 3]

Real PostgreSQL and Redis on this machine. The database alone reads the same columns of the same
rows in pages of the same size: by a plain connection, and as objects by a session. Medians of the
runs; seconds of the clock, and seconds of this process's CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine, insert, select, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from examples.recycling.migrate import migrate
from examples.servers import servers
from models import REGIONS, Guide

BATCH = 500
CONTENT = "종이는 물기에 젖지 않게 하고 반듯하게 펴서 차곡차곡 쌓은 뒤 묶어서 배출한다. " * 8


@dataclass(frozen=True)
class Timed:
    """Seconds by the clock, and of this process's CPU."""

    clock: float
    cpu: float


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with servers() as found:
        engine = create_engine(found.database_url)
        _fill(engine, given.rows)
        # Longer than in production: this machine may run other things too.
        with Cache(found.redis_url, regions=REGIONS, operation_timeout=5) as cache:
            factory = sessionmaker(engine)
            cache.attach(factory)
            _table(given.rows, given.runs, dict(_ways(engine, cache)))
            cache.detach(factory)
            cache.detach(engine)
        with engine.begin() as connection:
            connection.execute(text("truncate info_db.recycle_guides"))
        engine.dispose()


def _fill(engine: Engine, rows: int) -> None:
    with engine.begin() as connection:
        migrate(connection)
        connection.execute(text("truncate info_db.recycle_guides"))
        for start in range(0, rows, 5000):
            connection.execute(
                insert(Guide.__table__),  # type: ignore[arg-type]
                [
                    {
                        "id": f"{number:08d}",
                        "category": f"category {number}",
                        "title": f"title {number}",
                        "content": CONTENT,
                    }
                    for number in range(start, min(start + 5000, rows))
                ],
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze info_db.recycle_guides"))


def _ways(engine: Engine, cache: Cache) -> Iterator[tuple[str, Callable[[], int]]]:
    yield "database alone, rows", lambda: sum(1 for _ in _rows(engine))
    yield "database alone, objects", lambda: sum(1 for _ in _objects(engine))

    yield "warm, nothing there", lambda: cache.warm(Guide, batch=BATCH).stored
    yield "warm, all there", lambda: cache.warm(Guide, batch=BATCH).fresh
    yield "by pattern, all away", lambda: cache.invalidate_matching("info:guide:*", "info")


def _rows(engine: Engine) -> Iterator[object]:
    table = Guide.__table__
    last = ""
    with engine.connect() as connection:
        while True:
            page = select(table).where(table.c.id > last).order_by(table.c.id).limit(BATCH)
            found = connection.execute(page).all()
            yield from found
            if len(found) < BATCH:
                return
            last = found[-1].id


def _objects(engine: Engine) -> Iterator[object]:
    last = ""
    while True:
        with Session(engine) as session:
            page = select(Guide).where(Guide.guide_id > last).order_by(Guide.guide_id).limit(BATCH)
            found = session.scalars(page).all()
            yield from found
            if len(found) < BATCH:
                return
            last = found[-1].guide_id


def _table(rows: int, runs: int, ways: dict[str, Callable[[], int]]) -> None:
    print(f"{rows} rows, batches of {BATCH}, median of {runs} runs\n")
    print("| way | rows/s | seconds | CPU seconds here |")
    print("|---|---|---|---|")
    timed: dict[str, list[Timed]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            timed[name].append(_timed(way, rows))
    for name, each in timed.items():
        clock = statistics.median(one.clock for one in each)
        cpu = statistics.median(one.cpu for one in each)
        print(f"| {name} | {rows / clock:,.0f} | {clock:.2f} | {cpu:.2f} |", flush=True)


def _timed(way: Callable[[], int], rows: int) -> Timed:
    clock, cpu = time.perf_counter(), time.process_time()
    count = way()
    done = Timed(time.perf_counter() - clock, time.process_time() - cpu)
    if count != rows:
        raise SystemExit(f"{count} rows instead of {rows}")
    return done


if __name__ == "__main__":
    main()
