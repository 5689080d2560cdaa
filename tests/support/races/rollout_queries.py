"""One process of a rolling deploy that brings queries:
``python -m tests.support.races.rollout_queries VERSION SCHEMA DATABASE REDIS``.

Versions of the code, each of which spells the tables' schema as it is told (``public`` or ``-``):

- ``new`` caches five queries over players, their missions and spots;
- ``old`` caches missions by their id and by their status, and has never heard of those queries;
- ``bare`` imported neither, and writes through tables of its own;
- ``text`` imported neither, and writes SQL text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from geoalchemy2 import Geography
from sqlalchemy import (
    Column,
    Computed,
    Double,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from cachedorm import Cached, CachedQuery, CachePolicy, Region, cached
from cachedorm.geo import Nearby
from tests.fixtures.patience import patient_cache
from tests.support.races.processes import serve, wait
from tests.support.races.staging import Stage

GAME = Region("game", db=3, ttl=600)
MAP = Region("map", db=4, ttl=600)
OLD = Region("old", db=5, ttl=600)

SEOUL = (37.5665, 126.978)
Reads = dict[str, Callable[[], Any]]


def tables(schema: str | None) -> MetaData:
    """The tables, their schema spelled so."""
    metadata = MetaData()
    Table(
        "rollout_players",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(50)),
        schema=schema,
    )
    Table(
        "rollout_missions",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("player_id", Integer),
        Column("status", String(20)),
        Column("points", Integer),
        schema=schema,
    )
    place = "(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography"
    Table(
        "rollout_spots",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("lat", Double),
        Column("lon", Double),
        Column("place", Geography("POINT", srid=4326), Computed(place, persisted=True)),
        schema=schema,
    )
    return metadata


class Models:
    """The mapped classes of a version, and what it reads."""

    def __init__(self, metadata: MetaData, *, new: bool) -> None:
        class Base(DeclarativeBase):
            pass

        Base.metadata = metadata
        by_name = {table.name: table for table in metadata.tables.values()}

        def model(name: str, policy: CachePolicy | None = None) -> Any:
            body: dict[str, Any] = {"__table__": by_name[f"rollout_{name.lower()}s"]}
            if policy is not None:
                body["__cache__"] = policy
            return type(name, (Cached, Base) if policy else (Base,), body)

        self.mission = model("Mission", CachePolicy(OLD, key="mission:{id}"))
        self.player = model("Player")
        self.spot = model("Spot")
        self.reads: Reads = self._new() if new else self._old()

    def _old(self) -> Reads:
        mission = self.mission
        status = select(mission).where(mission.status == bindparam("status"))
        self._kept = CachedQuery(OLD, "missions:{status}", status.order_by(mission.id))
        return {"status": lambda: self._kept(status="open")}

    def _new(self) -> Reads:
        mission, player, spot = self.mission, self.player, self.spot
        mine = select(mission).where(mission.player_id == bindparam("player_id"))
        rich = select(mission).where(mission.points > bindparam("least")).order_by(mission.id)
        total = (
            select(player, func.count(mission.id), func.sum(mission.points))
            .outerjoin(mission, mission.player_id == player.id)
            .where(player.id == bindparam("player_id"))
            .group_by(player.id)
        )
        narrow = CachedQuery(GAME, "missions:{player_id}", mine.order_by(mission.id))
        whole = CachedQuery(GAME, "rich:{least}", rich)
        totals = CachedQuery(GAME, "totals:{player_id}", total)
        near = Nearby(
            MAP,
            "near:{geohash}:{radius}",
            spot,
            geography=spot.place,
            lat=spot.lat,
            lon=spot.lon,
        )
        done = select(func.count(mission.id)).where(mission.status == "done")
        return {
            "narrow": lambda: narrow(player_id=1),
            "whole": lambda: whole(least=5),
            "totals": lambda: totals(player_id=1),
            "near": lambda: near(lat=SEOUL[0], lon=SEOUL[1], radius_m=3000),
            "spot": lambda: done.options(cached(GAME)),
        }


class Program:
    """What a process of one version does when it is asked."""

    def __init__(self, version: str, schema: str, database_url: str, redis_url: str) -> None:
        self._engine = create_engine(database_url)
        self._stage = Stage(self._engine)
        self._metadata = tables(None if schema == "-" else schema)
        self._cache = patient_cache(redis_url)
        self._sessions = sessionmaker(self._engine)
        self._as_text = version == "text"
        self._reads: Reads = {}
        if version in ("new", "old"):
            self._models = Models(self._metadata, new=version == "new")
            self._reads = self._models.reads
            self._cache.attach(self._sessions)
        else:
            self._cache.attach(self._engine)

    def read(self, what: str) -> list[str]:
        """The rows of a query, as this version reads them."""
        return _rows(self._sessions, self._reads[what]())

    def truth(self, what: str) -> list[str]:
        """The same rows, as a session reads them that no cache serves."""
        return _rows(sessionmaker(self._engine), self._reads[what]())

    def write(self, table: str, key: int, values: dict[str, Any], pause: str | None = None) -> None:
        """Insert or change a row, or delete it (no values); stop ``before`` or ``after`` COMMIT."""
        if pause is not None:
            setattr(self._stage, pause, wait)
        with self._sessions() as session:
            if self._as_text:
                _write_text(session, f"rollout_{table}s", key, values)
            else:
                self._write(session, self._table(f"rollout_{table}s"), key, values)
            session.commit()

    def reset(self) -> None:
        """The rows that there were at first."""
        with self._sessions() as session:
            for name, rows in ROWS.items():
                table = self._table(name)
                session.execute(table.delete())
                session.execute(insert(table), rows)
            session.commit()

    def hits(self) -> int:
        """How many reads were served so far."""
        return sum(self._cache.stats().hits.values())

    def _table(self, name: str) -> Table:
        return next(table for table in self._metadata.tables.values() if table.name == name)

    def _write(self, session: Session, table: Table, key: int, values: dict[str, Any]) -> None:
        mine = table.c.id == key
        if not values:
            session.execute(table.delete().where(mine))
        elif session.scalar(select(table.c.id).where(mine)) is None:
            session.execute(insert(table).values(id=key, **values))
        else:
            session.execute(table.update().where(mine).values(**values))


def _write_text(session: Session, table: str, key: int, values: dict[str, Any]) -> None:
    names, given = list(values), {"id": key, **values}
    if not values:
        session.execute(text(f"delete from {table} where id = :id"), given)
        return
    columns = ", ".join(f"{name} = :{name}" for name in names)
    update = text(f"update {table} set {columns} where id = :id returning id")
    if session.execute(update, given).first() is None:
        listed = ", ".join(["id", *names])
        bound = ", ".join(f":{name}" for name in ["id", *names])
        session.execute(text(f"insert into {table} ({listed}) values ({bound})"), given)


def _rows(sessions: sessionmaker[Session], statement: Any) -> list[str]:
    """Rows in words: the columns of entities, and plain values."""
    with sessions() as session:
        return [repr([_plain(each) for each in row]) for row in session.execute(statement)]


def _plain(value: Any) -> Any:
    table = getattr(value, "__table__", None)
    if table is None:
        return round(value, 3) if isinstance(value, float) else value
    return [getattr(value, column.name) for column in table.columns if column.name != "place"]


def create(engine: Engine) -> None:
    """The tables, with two players, three missions and two spots."""
    metadata = tables(None)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name, rows in ROWS.items():
            connection.execute(insert(metadata.tables[name]), rows)


ROWS: dict[str, list[dict[str, Any]]] = {
    "rollout_players": [{"id": 1, "name": "Kim"}, {"id": 2, "name": "Lee"}],
    "rollout_missions": [
        {"id": 1, "player_id": 1, "status": "open", "points": 3},
        {"id": 2, "player_id": 1, "status": "done", "points": 9},
        {"id": 3, "player_id": 2, "status": "open", "points": 7},
    ],
    "rollout_spots": [
        {"id": 1, "lat": 37.567, "lon": 126.979},
        {"id": 2, "lat": 35.1, "lon": 129.0},
    ],
}


if __name__ == "__main__":
    serve(Program(*sys.argv[1:5]))
