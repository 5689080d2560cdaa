"""A commit that changes cached rows, against the same commit with no cache attached.

    python -m benchmarks.commit         prints the table; --write puts it into benchmarks/commit.md

Rows of two small tables on real PostgreSQL and Redis, found as the tests find them: one cached by
its primary key, one by a natural key. Each call changes every row that its session holds, and
commits: BEGIN, UPDATE, COMMIT, and what the cache adds. Method: benchmarks/interleaved.py; each
ratio is to the uncached commit of as many rows, in the same rounds, in client CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count

from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.interleaved import Figure, compare, publish
from cachedorm import Cache, Cached, CachePolicy, Region
from examples.servers import servers

REGION = Region("bench-commit", db=1, ttl=timedelta(hours=1))
SIZES = (1, 100)
HELD_TO = {1: 1.6, 100: 2.0}


class Base(DeclarativeBase):
    """The declarative base of the benchmark's tables."""


class Row:
    """What every table has."""

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]


class Plain(Row, Base):
    """Cached nowhere."""

    __tablename__ = "bench_plain"


class ByKey(Cached, Row, Base):
    """Cached by its primary key."""

    __tablename__ = "bench_by_key"
    __cache__ = CachePolicy(REGION, key="bench:key:{id}")


class ByCode(Cached, Row, Base):
    """Cached by a natural key, whose old value a write has to ask for: one SELECT more."""

    __tablename__ = "bench_by_code"
    __cache__ = CachePolicy(REGION, key="bench:code:{code}")


def stock(engine: Engine) -> None:
    """As many rows as the largest commit changes, in each table."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    rows = [{"id": n, "code": f"c{n}", "title": ""} for n in range(1, max(SIZES) + 1)]
    with sessionmaker(engine).begin() as session:
        for model in (Plain, ByKey, ByCode):
            session.execute(insert(model), rows)


def ways(sessions: sessionmaker[Session], rows: int) -> dict[str, Callable[[], object]]:
    """A commit of so many rows: uncached, and followed by the cache."""
    titles = map(str, count())

    def commit_of(model: type[Row]) -> Callable[[], None]:
        session = sessions(expire_on_commit=False)
        held = session.scalars(select(model).where(model.id <= rows)).all()
        session.commit()

        def commit() -> None:
            title = next(titles)
            for row in held:
                row.title = title
            session.commit()

        return commit

    return {
        name(rows, "not cached"): commit_of(Plain),
        name(rows, "by primary key"): commit_of(ByKey),
        name(rows, "by natural key"): commit_of(ByCode),
    }


def name(rows: int, kind: str) -> str:
    """How a line of the table is called."""
    return f"{rows} row{'s' * (rows > 1)}, {kind}"


def measure(rounds: int = 40) -> list[Figure]:
    """The figures on servers that are started for it, every size against its own baseline."""
    figures: list[Figure] = []
    with servers() as found:
        engine, plain_engine = create_engine(found.database_url), create_engine(found.database_url)
        stock(engine)
        cached, plain = sessionmaker(engine), sessionmaker(plain_engine)
        with Cache(found.redis_url) as cache:
            cache.attach(cached)
            for rows in SIZES:
                baseline = name(rows, "not cached")
                mine = ways(cached, rows) | {baseline: ways(plain, rows)[baseline]}
                calls = max(1, 20 // rows)
                figures += compare(mine, baseline=baseline, rounds=rounds, calls=calls)
            cache.detach(cached)
            cache.detach(engine)
        engine.dispose()
        plain_engine.dispose()
    return figures


def main() -> None:
    """Print the table; with ``--write``, keep it beside this file."""
    held_to = {
        name(rows, kind): HELD_TO[rows]
        for rows in SIZES
        for kind in ("by primary key", "by natural key")
    }
    publish(__file__, "Commits", __doc__, measure(), held_to)


if __name__ == "__main__":
    main()
