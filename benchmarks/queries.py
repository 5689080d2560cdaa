"""Lists, aggregates, search and nearby, warm: cachedorm against hand-written code and peers.

    python -m benchmarks.queries   prints the tables; --write puts them into benchmarks/queries.md

A town of 2,000 users and 200 guides, and 100,000 points for the nearby queries, on real PostgreSQL
and Redis. Method: benchmarks/interleaved.py; the baseline is ``redis.Redis().get`` of the answer as
JSON. Every contestant is asked for the same answer in a new session; all are hits but the uncached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import sqlalchemy
from dogpile.cache import make_region
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.interleaved import compare, table
from benchmarks.recipe import FromCache, install
from cachedorm import Cache
from examples.recycling.data import generate, load
from examples.recycling.migrate import migrate
from examples.servers import scratch_database, servers
from models import Conversation, User
from models.character import character_state
from models.chat import chat_history
from models.info import search_guides
from models.location import nearby_centers
from models.regions import REGIONS

MUST = {"cachedorm": 3.0}
Way = Callable[[], object]


def as_json(rows: list[Any]) -> bytes:
    """What hand-written code stores of an answer: dicts, the types lost."""
    return json.dumps([_plain(row) for row in rows], default=str, ensure_ascii=False).encode()


def _plain(row: Any) -> Any:
    parts = tuple(row) if isinstance(row, tuple) or hasattr(row, "_mapping") else (row,)
    found: dict[str, Any] = {}
    for part in parts:
        mapper = getattr(type(part), "__mapper__", None)
        if mapper is None:
            found[f"value{len(found)}"] = part
        else:
            found.update({each.key: getattr(part, each.key) for each in mapper.column_attrs})
    return found


def contestants(
    name: str,
    statement: Callable[[], Any],
    plain: sessionmaker[Session],
    cached: sessionmaker[Session],
    recipe: sessionmaker[Session],
    redis_url: str,
) -> dict[str, Way]:
    """The ways to get one answer."""
    client = redis.Redis.from_url(redis_url, db=11)
    region = make_region().configure("dogpile.cache.redis", arguments={"url": redis_url, "db": 12})
    frozen = make_region().configure("dogpile.cache.redis", arguments={"url": redis_url, "db": 13})
    with plain() as session:
        rows = list(session.execute(statement()).all())
        payload = as_json(rows)
    client.set(name, payload)
    region.set(name, json.loads(payload))

    def ask(factory: sessionmaker[Session], made: Callable[[], Any]) -> Way:
        def way() -> object:
            with factory() as session:
                return session.execute(made()).all()

        return way

    def by_recipe() -> Any:
        return statement().options(FromCache(frozen, name))

    ways = {
        "redis-py GET": lambda: client.get(name),
        "hand-written GET + json.loads": lambda: json.loads(client.get(name)),  # type: ignore[arg-type]
        "dogpile get_or_create": lambda: region.get_or_create(name, dict),
        "cachedorm": ask(cached, statement),
        "uncached session": ask(plain, statement),
    }
    if name != "nearby 1 km" and name != "nearby 5 km":
        ways["SQLAlchemy's dogpile recipe"] = ask(recipe, by_recipe)
    return ways


def prepared(engine: Engine) -> str:
    """The town and the points; gives the id of a user with a long history."""
    with engine.begin() as connection:
        migrate(connection)
        load(connection, generate(1, datetime(2026, 11, 1, tzinfo=UTC)))
    with engine.begin() as connection:
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
        user = session.scalars(select(User.user_id).limit(1)).one()
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
        plain, cached, recipe = sessionmaker(engine), sessionmaker(engine), sessionmaker(engine)
        install(recipe)
        with Cache(found.redis_url, regions=REGIONS) as cache:
            cache.attach(cached)
            for name, statement in {
                "20-row list": lambda: chat_history(user_id=user, limit=20),
                "aggregate over two tables": lambda: character_state(user_id=user),
                "search": lambda: search_guides(keyword="플라스틱"),
                "nearby 1 km": lambda: nearby_centers(lat=37.5665, lon=126.978, radius_m=1000),
                "nearby 5 km": lambda: nearby_centers(lat=37.5665, lon=126.978, radius_m=5000),
            }.items():
                ways = contestants(name, statement, plain, cached, recipe, found.redis_url)
                calls = 20 if name.startswith("nearby") else 50
                figures = compare(ways, baseline="redis-py GET", rounds=30, calls=calls)
                held = MUST if name == "20-row list" else {}
                tables.append(table(name, figures, held))
        engine.dispose()
    return tables


def main() -> None:
    """Print the tables; with ``--write``, keep them beside this file."""
    title = (
        f"SQLAlchemy {sqlalchemy.__version__}, redis-py {redis.__version__},"
        f" Python {sys.version.split()[0]}"
    )
    body = "\n\n".join(measure())
    print(f"{title}\n\n{body}")
    if "--write" in sys.argv:
        head = (__doc__ or "").strip()
        path = Path(__file__).with_suffix(".md")
        path.write_text(f"# Queries\n\n{head}\n\n{title}\n\n{body}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
