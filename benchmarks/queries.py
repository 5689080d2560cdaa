"""Lists, aggregates, search and nearby, warm: cachedorm against hand-written code and peers.

    python -m benchmarks.queries   prints the tables; --write puts them into benchmarks/queries.md

A town of 2,000 users and 200 guides, and 100,000 points for the nearby queries, on real PostgreSQL
and Redis. Method: benchmarks/interleaved.py; the baseline is ``redis.Redis().get`` of the answer as
JSON. Every contestant is asked for the same answer, and it is checked that all but the uncached
session send no SQL. Sessions are made anew for each read, unless it says that one is kept open.
What stands at hand-written code's and dogpile's keys is the answer as JSON, which nobody
invalidates; for nearby that is the answer for this very point, of no use to anyone else, where
cachedorm keeps the candidates of a cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from dogpile.cache import make_region
from sqlalchemy import Engine, bindparam, create_engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.interleaved import Contestant, compare, publish_tables, table, versions
from benchmarks.recipe import FromCache, install
from cachedorm import Cache, CachedQuery
from examples.recycling.data import generate, load
from examples.recycling.migrate import migrate
from examples.servers import scratch_database, servers
from models import (
    MY,
    REGIONS,
    Conversation,
    User,
    character_state,
    chat_history,
    nearby_centers,
    search_guides,
)

GET = "redis-py GET"
Ways = dict[str, Contestant]

one_user = CachedQuery(
    MY,
    key="bench:user:{user_id}",
    statement=select(User).where(User.user_id == bindparam("user_id")),
)


@dataclass(frozen=True, slots=True)
class Question:
    """One query, and what cachedorm is held to."""

    name: str
    statement: Callable[[], Any]
    must: dict[str, float]
    calls: int = 50


def questions(user_id: str) -> list[Question]:
    """What is asked for."""

    def near(radius_m: int) -> Callable[[], Any]:
        return lambda: nearby_centers(lat=37.5665, lon=126.978, radius_m=radius_m)

    return [
        Question("one row", lambda: one_user(user_id=user_id), {"cachedorm, open session": 1.6}),
        Question(
            "20-row list",
            lambda: chat_history(user_id=user_id, limit=20),
            {"cachedorm": 3.0, "cachedorm, open session": 3.0},
        ),
        Question("aggregate over two tables", lambda: character_state(user_id=user_id), {}),
        Question("search (10 guides)", lambda: search_guides(keyword="플라스틱"), {}),
        Question("nearby 1 km (20 of 100,000)", near(1000), {}, calls=20),
        Question("nearby 5 km (20 of 100,000)", near(5000), {}, calls=20),
    ]


class Rivals:
    """Redis as hand-written code, dogpile and SQLAlchemy's recipe use it, each in its database."""

    def __init__(self, redis_url: str) -> None:
        self.client = redis.Redis.from_url(redis_url, db=11)
        self.region = _region(redis_url, 12)
        self.frozen = _region(redis_url, 13)

    def keep(self, name: str, rows: list[Any]) -> None:
        """Let the answer stand where hand-written code and dogpile look for it."""
        payload = as_json(rows)
        self.client.set(name, payload)
        self.region.set(name, json.loads(payload))

    def by_hand(self, name: str) -> object:
        return json.loads(self.client.get(name))  # type: ignore[arg-type]

    def ways(self, name: str) -> Ways:
        """The ways that give no objects."""
        return {
            GET: lambda: self.client.get(name),
            "hand-written GET + json.loads": lambda: self.by_hand(name),
            "dogpile get_or_create": lambda: self.region.get_or_create(name, dict),
        }


def _region(redis_url: str, db: int) -> Any:
    return make_region().configure("dogpile.cache.redis", arguments={"url": f"{redis_url}/{db}"})


@dataclass(frozen=True, slots=True)
class Factories:
    """Sessions that are served by nothing, by cachedorm, by SQLAlchemy's recipe."""

    plain: sessionmaker[Session]
    cached: sessionmaker[Session]
    recipe: sessionmaker[Session]


def contestants(question: Question, factories: Factories, rivals: Rivals) -> Ways:
    """The ways to get one answer, all warm."""
    name, statement = question.name, question.statement
    with factories.plain() as session:
        rivals.keep(name, list(session.execute(statement()).all()))

    def by_recipe() -> Any:
        return statement().options(FromCache(rivals.frozen, name))

    return {
        **rivals.ways(name),
        "SQLAlchemy's dogpile recipe": _asking(factories.recipe, by_recipe),
        "cachedorm": _asking(factories.cached, statement),
        "cachedorm, open session": _asking_again(factories.cached, statement),
        "uncached session": _asking(factories.plain, statement),
    }


def _asking(factory: sessionmaker[Session], made: Callable[[], Any]) -> Contestant:
    def way() -> object:
        with factory() as session:
            return session.execute(made()).all()

    return way


def _asking_again(factory: sessionmaker[Session], made: Callable[[], Any]) -> Contestant:
    session = factory()

    def way() -> object:
        session.expunge_all()
        return session.execute(made()).all()

    return way


def many_entities(cache: Cache, factories: Factories, rivals: Rivals) -> Ways:
    """The ways to get 100 users by their keys in one call."""
    keys = [f"u{number:04}" for number in range(1, 101)]
    names = [f"user:{key}" for key in keys]
    asked = select(User).where(User.user_id.in_(keys))
    with factories.plain() as session:
        rows = session.scalars(asked).all()
        rivals.client.set("100 users", as_json(list(rows)))
        for name, row in zip(names, rows, strict=True):
            rivals.keep(name, [row])

    def get_many() -> object:
        with factories.cached() as session:
            return cache.get_many(session, User, keys)

    def mget() -> object:
        found: Any = rivals.client.mget(names)
        return [json.loads(each) for each in found]

    return {
        GET: lambda: rivals.client.get("100 users"),
        "hand-written MGET + json.loads": mget,
        "dogpile get_multi": lambda: rivals.region.get_multi(names),
        "cachedorm get_many": get_many,
        "cachedorm, select(User).where(IN)": _asking(factories.cached, lambda: asked),
        "uncached session": _asking(factories.plain, lambda: asked),
    }


def check(engine: Engine, ways: Ways) -> None:
    """Refuse to measure anything but hits, or different answers."""
    expected = answer(ways["uncached session"]())
    for name, way in ways.items():
        if "cachedorm" not in name and "recipe" not in name:
            continue
        way()  # fills it
        with statements(engine) as sent:
            found = answer(way())
        assert not sent, f"{name}: not a hit: {sent}"
        assert found == expected, f"{name}: another answer than without a cache"


def answer(rows: Any) -> list[str]:
    """An answer in words that differ if it does; lists of keys have no order."""
    words = [json.dumps(_plain(row), default=str) for row in rows]
    return words if "distance" in words[0] else sorted(words)


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """What is sent to the database within the block."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def as_json(rows: list[Any]) -> bytes:
    """What hand-written code stores of an answer: dicts, the types lost."""
    return json.dumps([_plain(row) for row in rows], default=str, ensure_ascii=False).encode()


def _plain(row: Any) -> dict[str, Any]:
    names = row._fields if hasattr(row, "_fields") else ("",)
    found: dict[str, Any] = {}
    for name, part in zip(names, row if hasattr(row, "_fields") else (row,), strict=True):
        mapper = getattr(type(part), "__mapper__", None)
        if mapper is None:
            found[name] = part
        else:  # hand-written code keeps no password hash, and a point by its lat and lon
            keys = {each.key for each in mapper.column_attrs} - {"password_hash", "location"}
            found.update({key: getattr(part, key) for key in sorted(keys)})
    return found


def prepared(engine: Engine) -> str:
    """The town and the points; gives the id of a user with a long history."""
    with engine.begin() as connection:
        migrate(connection)
        load(connection, generate(1, datetime(2026, 11, 1, tzinfo=UTC)))
        connection.execute(text("select setseed(0.5)"))
        connection.execute(
            text(
                "insert into location_db.recycle_centers (id, name, address, lat, lon, created_at)"
                " select 'p' || n, 'point ' || n, 'somewhere', 33.5 + random() * 4.5,"
                " 126.0 + random() * 3.4, now() from generate_series(1, 95000) n"
            )
        )
        connection.execute(text("analyze"))
    with Session(engine) as session:
        user = session.scalars(select(User.user_id).order_by(User.user_id).limit(1)).one()
        session.add_all(
            [Conversation(user_id=user, message=f"m{n}", response=f"r{n}") for n in range(30)]
        )
        session.commit()
    return user


def measure() -> list[str]:
    """The tables, on servers that are started for it."""
    tables = []
    with servers() as found, scratch_database(found.database_url, postgis=True) as url:
        engine = create_engine(url)
        user = prepared(engine)
        factories = Factories(*(sessionmaker(engine) for _ in range(3)))
        install(factories.recipe)
        rivals = Rivals(found.redis_url)
        with Cache(found.redis_url, regions=REGIONS) as cache:
            cache.attach(factories.cached)
            for question in questions(user):
                ways = contestants(question, factories, rivals)
                check(engine, ways)
                figures = compare(ways, baseline=GET, rounds=30, calls=question.calls)
                tables.append(table(question.name, figures, question.must))
            ways = many_entities(cache, factories, rivals)
            check(engine, ways)
            figures = compare(ways, baseline=GET, rounds=30, calls=20)
            tables.append(table("100 entities by key", figures, {"cachedorm get_many": 9.0}))
        engine.dispose()
    return tables


def main() -> None:
    """Print the tables; with ``--write``, keep them beside this file."""
    publish_tables(__file__, "Queries", __doc__, [f"{versions()}.", *measure()])


if __name__ == "__main__":
    main()
