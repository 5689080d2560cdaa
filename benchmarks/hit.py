"""An entity by its key, warm: cachedorm against the bare client, hand-written code and peers.

    python -m benchmarks.hit            prints the table; --write puts it into benchmarks/hit.md

One row of 12 columns (about 500 bytes as JSON) on real PostgreSQL and Redis, found as the tests
find them. Method: benchmarks/interleaved.py. Baseline: ``redis.Redis().get`` of the same payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import redis
import sqlalchemy
from dogpile.cache import make_region
from sqlalchemy import Numeric, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.interleaved import Figure, compare, publish
from cachedorm import Cache, Cached, CachePolicy, Region
from examples.servers import servers

REGION = Region("bench", db=1, ttl=timedelta(hours=1))
MUST = {
    "session.get, open session": 1.1,
    "session.get, new session per read": 1.35,
    "Model.by": 1.6,
}


class Base(DeclarativeBase):
    """The declarative base of the benchmark's table."""


class Person(Cached, Base):
    """Twelve columns of the usual types."""

    __tablename__ = "bench_people"
    __cache__ = CachePolicy(REGION, key="bench:person:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[UUID]
    name: Mapped[str]
    email: Mapped[str]
    bio: Mapped[str]
    city: Mapped[str]
    balance: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    score: Mapped[float]
    active: Mapped[bool]
    visits: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


def person() -> Person:
    """The row that is read."""
    return Person(
        id=1,
        token=UUID(int=7),
        name="김하늘",
        email="haneul.kim@example.com",
        bio="재활용을 좋아합니다. " * 6,
        city="서울특별시 마포구",
        balance=Decimal("1234.50"),
        score=0.75,
        active=True,
        visits=42,
        created_at=datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
        updated_at=datetime(2026, 2, 3, 4, 5, 6),  # noqa: DTZ001
    )


def as_json(row: Person) -> bytes:
    """What hand-written code stores: the types are lost."""
    columns = {name: getattr(row, name) for name in Person.__table__.columns.keys()}  # noqa: SIM118
    return json.dumps(columns, default=str, ensure_ascii=False).encode()


def contestants(
    database_url: str, redis_url: str
) -> tuple[dict[str, Callable[[], object]], Callable[[], None]]:
    """The ways to read the row, all warm, and what closes them."""
    engine = create_engine(database_url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    cache = Cache(redis_url)
    cached, plain = sessionmaker(engine), sessionmaker(engine)
    cache.attach(cached)
    with plain() as session:
        session.add(person())
        session.commit()
        payload = as_json(session.get_one(Person, 1))
    client = redis.Redis.from_url(redis_url)
    client.set("bench:payload", payload)
    region = make_region().configure("dogpile.cache.redis", arguments={"url": redis_url})
    region.set("bench:dogpile", json.loads(payload))
    _check(cached, engine)

    def close() -> None:
        cache.detach(cached)
        cache.close()
        engine.dispose()

    return _ways(client, region, cached, plain), close


def _ways(
    client: Any, region: Any, cached: sessionmaker[Session], plain: sessionmaker[Session]
) -> dict[str, Callable[[], object]]:
    opened, uncached = cached(), plain()

    def hit_in_open_session() -> object:
        opened.expunge_all()
        return opened.get(Person, 1)

    def hit_in_new_session() -> object:
        with cached() as session:
            return session.get(Person, 1)

    def hit_by() -> object:
        opened.expunge_all()
        return opened.scalar(Person.by(id=1))

    def uncached_in_open_session() -> object:
        uncached.expunge_all()
        return uncached.get(Person, 1)

    def uncached_in_new_session() -> object:
        with plain() as session:
            return session.get(Person, 1)

    holding = cached()
    held = holding.get(Person, 1)  # the identity map alone would let go of it

    def in_identity_map() -> object:
        return holding.get(Person, 1) is held

    return {
        "redis-py GET": lambda: client.get("bench:payload"),
        "hand-written GET + json.loads": lambda: json.loads(client.get("bench:payload")),
        "dogpile get_or_create": lambda: region.get_or_create("bench:dogpile", dict),
        "session.get, open session": hit_in_open_session,
        "session.get, new session per read": hit_in_new_session,
        "Model.by": hit_by,
        "object already in the session": in_identity_map,
        "uncached session.get, open session": uncached_in_open_session,
        "uncached session.get, new session per read": uncached_in_new_session,
    }


def _check(cached: sessionmaker[Session], engine: sqlalchemy.Engine) -> None:
    """Refuse to measure anything but hits."""
    statements: list[str] = []
    with cached() as session:
        session.get(Person, 1)

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    with cached() as session:
        assert session.get(Person, 1) is not None
        session.expunge_all()
        assert session.scalar(Person.by(id=1)) is not None
    event.remove(engine, "before_cursor_execute", note)
    assert not statements, f"not a hit: {statements}"


def measure(rounds: int = 60) -> list[Figure]:
    """The figures on servers that are started for it."""
    with servers() as found:
        ways, close = contestants(found.database_url, found.redis_url)
        try:
            return compare(ways, baseline="redis-py GET", rounds=rounds)
        finally:
            close()


def main() -> None:
    """Print the table; with ``--write``, keep it beside this file."""
    publish(__file__, "Hits", __doc__, measure(), MUST)


if __name__ == "__main__":
    main()
