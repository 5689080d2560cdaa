"""Nearby: exact for the very point asked, from a cell's candidates, and following every write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from examples.servers import Found, scratch_database
from tests.differential.nearby import Differential
from tests.differential.world import PLACES, SEOUL, SIDE, Spot, nearby, nearby_by, populate
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache

DB = PLACES.db
# Kilometres from every row of the world but those that the tests put there.
NOWHERE = (-45.02, -140.03)

Sessions = sessionmaker[Session]


@pytest.fixture(scope="module")
def world_url(servers: Found, template_database: str) -> Iterator[str]:
    """A database with 100,000 places, for all tests of this file."""
    with scratch_database(servers.database_url, template=template_database) as url:
        made = create_engine(url)
        populate(made)
        made.dispose()
        yield url


@pytest.fixture
def world(world_url: str) -> Iterator[Engine]:
    """An engine on the world, in which nothing is nowhere."""
    made = create_engine(world_url)
    with made.begin() as connection:
        connection.execute(text("delete from spots where lat between -47 and -43 and lon < -130"))
    yield made
    made.dispose()


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis."""
    with patient_cache(redis_url) as made:
        yield made


@pytest.fixture
def sessions(world: Engine, cache: Cache) -> Sessions:
    """A factory whose sessions the cache serves."""
    factory = sessionmaker(world)
    cache.attach(factory)
    return factory


@pytest.fixture
def plain(world: Engine) -> Sessions:
    """A factory of sessions that no cache serves."""
    return sessionmaker(world)


def ask(factory: Sessions, point: tuple[Any, Any] = SEOUL, **more: Any) -> list[Any]:
    """Keys and distances of the answer, to the micrometre."""
    query = more.pop("query", nearby)
    statement = query(lat=point[0], lon=point[1], **{"radius_m": 5000, **more})
    with factory() as session:
        return [(row.Spot.id, round(row.distance_m, 6)) for row in session.execute(statement)]


def put(factory: Sessions, key: str, lat: float, lon: float) -> None:
    """Commit one more place."""
    with factory() as session:
        session.add(Spot(id=key, note="put", lat=lat, lon=lon))
        session.commit()


def test_every_answer_is_what_postgis_answers(
    sessions: Sessions, plain: Sessions, cache: Cache
) -> None:
    """500 comparisons at hard places, with writes in between: no difference."""
    report = Differential(sessions, plain, seed=2).run(500)
    assert report.differences == []
    assert report.comparisons == 500
    # That it was the cache that answered: a good part were hits, and few were left to PostGIS.
    assert cache.stats().hits["places"] > 100
    assert cache.stats().bypasses.total() < 80
    assert cache.stats().errors.total() == 0


@pytest.mark.parametrize("precision", [4, 6, 7])
def test_other_precisions_are_exact_too(
    sessions: Sessions, plain: Sessions, precision: int
) -> None:
    """Wide cells with few candidates kept, narrow ones with many."""
    queries = (nearby_by(precision, 60), nearby_by(precision, 3_000))
    run = Differential(sessions, plain, seed=precision, queries=queries)
    assert run.run(40, k_max=60).differences == []


def test_a_hit_is_one_command_and_no_sql(
    sessions: Sessions, redis_log: RedisLog, world: Engine
) -> None:
    """Also where the cell is split: which ones are, is remembered."""
    ask(sessions)
    sql = SqlLog()
    sql.follow(world)
    redis_log.clear()
    first, second = ask(sessions), ask(sessions, (SEOUL[0] + 1e-5, SEOUL[1]))
    assert first != second
    assert redis_log == ["mget", "mget"]
    assert sql == []
    assert sql.checkouts == 0


def test_two_points_of_a_cell_share_its_entry_and_no_answer(
    sessions: Sessions, plain: Sessions, cache: Cache
) -> None:
    """The fault of caching one point's answer for a whole cell."""
    for key, lat in (("n1", -45.021), ("n2", -45.019), ("n3", -45.023)):
        put(sessions, key, lat, NOWHERE[1])
    north, south = (-45.018, NOWHERE[1]), (-45.024, NOWHERE[1])
    assert [key for key, _ in ask(sessions, north)] == ["n2", "n1", "n3"]
    assert [key for key, _ in ask(sessions, south)] == ["n3", "n1", "n2"]
    assert cache.stats().hits["places"] == 1
    assert ask(sessions, south) == ask(plain, south)


def test_the_rows_are_the_sessions_own_objects(sessions: Sessions) -> None:
    """On a hit too: persistent, one object a row, changes are flushed."""
    put(sessions, "o1", *NOWHERE)
    statement = nearby(lat=NOWHERE[0], lon=NOWHERE[1], radius_m=100)
    ask(sessions, NOWHERE, radius_m=100)
    with sessions() as session:
        row = session.execute(statement).one()
        assert row.Spot is session.get(Spot, "o1")
        assert row.distance_m == 0.0
        assert row._mapping[Spot] is row.Spot
        assert session.scalars(statement).one() is row.Spot
        row.Spot.note = "changed"
        session.commit()
    with sessions() as session:
        assert session.execute(statement).one().Spot.note == "changed"


def test_the_key_is_the_documents(sessions: Sessions, redis_client: Any) -> None:
    """Cell and kilometres as in the template; what else tells entries apart follows it."""
    ask(sessions, NOWHERE)
    ask(sessions, NOWHERE, radius_m=1500.5, k=3)
    redis_client.select(DB)
    assert sorted(key.decode() for key in redis_client.keys("spot:*")) == [
        "spot:nearby5:500:0zurv:1.5005?k=3",
        "spot:nearby5:500:0zurv:5?k=20",
    ]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (NOWHERE, (NOWHERE[0] + 0.01, NOWHERE[1])),
        (NOWHERE, (NOWHERE[0], NOWHERE[1] + 1.0)),
        ((NOWHERE[0] + 1.0, NOWHERE[1]), NOWHERE),
    ],
    ids=["within", "out", "in"],
)
def test_a_moved_row_is_followed(
    sessions: Sessions,
    plain: Sessions,
    there: tuple[float, float],
    here: tuple[float, float],
) -> None:
    """Out of the cell, into it, within it."""
    put(sessions, "m1", *there)
    ask(sessions, NOWHERE)
    with sessions() as session:
        spot = session.get_one(Spot, "m1")
        spot.lat, spot.lon = here
        session.commit()
    assert ask(sessions, NOWHERE) == ask(plain, NOWHERE)


@pytest.mark.parametrize("beside", [(0.044, 0.0), (-0.044, 0.0), (0.0, 0.06), (0.0, -0.06)])
def test_a_write_in_the_next_cell_is_followed(
    sessions: Sessions, plain: Sessions, beside: tuple[float, float]
) -> None:
    """The circle around a point reaches beyond its cell, and so do the stamps."""
    assert ask(sessions, NOWHERE) == []
    put(sessions, "x1", NOWHERE[0] + beside[0], NOWHERE[1] + beside[1])
    found = ask(sessions, NOWHERE)
    assert [key for key, _ in found] == ["x1"]
    assert found == ask(plain, NOWHERE)


def test_inserts_deletes_and_bulk_writes_are_followed(sessions: Sessions, plain: Sessions) -> None:
    """By the session, by Core, and where only the database knows the new place."""
    assert ask(sessions, NOWHERE) == []
    put(sessions, "i1", *NOWHERE)
    assert len(ask(sessions, NOWHERE)) == 1
    with sessions() as session:
        session.execute(update(Spot).where(Spot.id == "i1").values(lat=Spot.lat + 0.01))
        session.commit()
    moved = ask(sessions, NOWHERE)
    assert moved == ask(plain, NOWHERE)
    assert moved[0][1] > 1000
    with sessions() as session:
        session.delete(session.get_one(Spot, "i1"))
        session.commit()
    assert ask(sessions, NOWHERE) == []


def test_a_row_that_is_inserted_again_is_followed(sessions: Sessions, plain: Sessions) -> None:
    """ON CONFLICT DO UPDATE moves a row whose old place the statement does not say."""
    put(sessions, "u1", *NOWHERE)
    assert len(ask(sessions, NOWHERE)) == 1
    new = {"lat": 10.0, "lon": 10.0}
    statement = insert(Spot).values(id="u1", note="again", **new)
    with sessions() as session:
        session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=new))
        session.commit()
    assert ask(sessions, NOWHERE) == ask(plain, NOWHERE) == []


def test_a_far_write_leaves_the_entry_alone(sessions: Sessions, cache: Cache) -> None:
    """A row on another continent is in none of the entry's cells."""
    ask(sessions, NOWHERE)
    put(sessions, "f1", 37.0, 127.0)
    ask(sessions, NOWHERE)
    assert cache.stats().hits["places"] == 1


def test_an_entry_carries_at_most_five_stamps(sessions: Sessions, redis_log: RedisLog) -> None:
    """The table's wildcard and four cells; near a pole the wildcard and the whole table."""
    for point, most in ((SEOUL, 5), ((0.0, 0.0), 5), ((1.0, 180.0), 5), ((89.99, 5.0), 2)):
        ask(sessions, point)
        redis_log.clear()
        ask(sessions, point)
        (read,) = redis_log.commands()
        assert 2 <= len(read.args) - 1 <= most


def test_the_poles_follow_every_write(sessions: Sessions, plain: Sessions) -> None:
    """There one stamp stands for the table."""
    here, beside = (89.95, 0.0), (89.951, 0.5)
    before = ask(sessions, here, k=3)
    put(sessions, "p1", *here)
    put(sessions, "p2", *beside)
    assert before != ask(sessions, here, k=3) == ask(plain, here, k=3)
    assert ask(sessions, beside, k=3)[0][0] == "p2"
    with sessions() as session:
        session.execute(delete(Spot).where(Spot.id.in_(["p1", "p2"])))
        session.commit()
    assert ask(sessions, here, k=3) == before


def test_a_write_on_the_other_side_of_the_antimeridian_is_followed(
    sessions: Sessions, plain: Sessions
) -> None:
    """East of 180 degrees is west of -180."""
    here = (-45.0, 179.999)
    ask(sessions, here)
    put(sessions, "a1", -45.0, -179.999)
    assert ask(sessions, here) == ask(plain, here)
    assert ask(sessions, here)[0][0] == "a1"
    with sessions() as session:
        session.delete(session.get_one(Spot, "a1"))
        session.commit()


def test_a_crowded_cell_is_split_and_followed(
    sessions: Sessions, plain: Sessions, redis_client: Any
) -> None:
    """That it is split is an entry like any other, which a write ends."""
    crowded = nearby_by(5, 50)
    point = (37.55, 126.98)
    assert ask(sessions, point, query=crowded, k=5) == ask(plain, point, query=crowded, k=5)
    redis_client.select(DB)
    lengths = {
        len(key.decode().split(":")[3]): redis_client.strlen(key)
        for key in redis_client.keys("spot:nearby5:50:*")
    }
    assert 5 in lengths
    assert len(lengths) > 1
    # All but the smallest hold a header and one byte.
    assert lengths[5] < 250 < lengths[max(lengths)]
    put(sessions, "s1", *point)
    found = ask(sessions, point, query=crowded, k=5)
    assert found == ask(plain, point, query=crowded, k=5)
    assert "s1" in [key for key, _ in found]


def test_more_at_one_place_than_are_kept_is_left_to_the_database(
    sessions: Sessions, plain: Sessions, cache: Cache
) -> None:
    """No cell is small enough there; the answer is right all the same."""
    few = nearby_by(5, 20)
    point = (37.52, 127.02)
    assert ask(sessions, point, query=few) == ask(plain, point, query=few)
    assert cache.stats().bypasses["places", "crowded cell"] == 1


def test_a_millimetre_at_the_edge_is_left_to_the_database(
    sessions: Sessions, plain: Sessions, cache: Cache
) -> None:
    """Where rounding could decide whether a row is within the radius."""
    put(sessions, "e1", NOWHERE[0] + 0.01, NOWHERE[1])
    distance = ask(plain, NOWHERE)[0][1]
    for radius_m in (distance, distance + 0.0009, distance - 0.0009):
        assert ask(sessions, NOWHERE, radius_m=radius_m) == ask(plain, NOWHERE, radius_m=radius_m)
    assert cache.stats().bypasses["places", "within a millimetre"] == 3
    assert len(ask(sessions, NOWHERE, radius_m=distance + 0.01)) == 1
    assert ask(sessions, NOWHERE, radius_m=distance - 0.01) == []
    assert cache.stats().bypasses["places", "within a millimetre"] == 3


def test_equals_come_in_the_databases_order_of_keys(sessions: Sessions, plain: Sessions) -> None:
    """Which is not Python's: the collation puts a before B."""
    for key in ("zB", "za", "zC"):
        put(sessions, key, *NOWHERE)
    ask(sessions, NOWHERE)
    assert [key for key, _ in ask(sessions, NOWHERE)] == ["za", "zB", "zC"]
    assert ask(sessions, NOWHERE, k=2) == ask(plain, NOWHERE, k=2)


def test_a_place_as_far_as_one_with_two_rows(
    sessions: Sessions, plain: Sessions, cache: Cache
) -> None:
    """Where rounding decides between one more place and a place whose rows fill the answer."""
    lat, lon = NOWHERE
    for key, side in {"t1": 0.01, "t2": -0.01, "t3": -0.01}.items():
        put(sessions, key, lat, lon + side)
    for towards in (-200, 0, 200):
        point = lat, math.nextafter(lon, towards)
        assert ask(sessions, point, k=1) == ask(plain, point, k=1)
    assert cache.stats().bypasses["places", "within a millimetre"] == 3


def test_a_point_on_a_border_is_answered_as_any(sessions: Sessions, plain: Sessions) -> None:
    """Where four cells meet."""
    corner = (855 * SIDE, 2890 * SIDE)
    for _ in range(2):
        assert ask(sessions, corner, radius_m=800) == ask(plain, corner, radius_m=800)


def test_own_writes_are_seen(sessions: Sessions) -> None:
    """A transaction that has written reads the database."""
    ask(sessions, NOWHERE)
    with sessions() as session:
        session.add(Spot(id="w1", note="mine", lat=NOWHERE[0], lon=NOWHERE[1]))
        statement = nearby(lat=NOWHERE[0], lon=NOWHERE[1], radius_m=10)
        assert [row.Spot.id for row in session.execute(statement)] == ["w1"]


def test_a_changed_statement_is_plain_sql(sessions: Sessions, cache: Cache) -> None:
    """It asks something else than what is cached."""
    statement = nearby(lat=SEOUL[0], lon=SEOUL[1], radius_m=5000)
    with sessions() as session:
        limited = session.execute(statement.where(Spot.note == "none")).all()
    assert limited == []
    assert cache.stats().misses.total() == 0


def test_without_redis_the_database_answers(world: Engine, plain: Sessions) -> None:
    """Slower, but the same."""
    with Cache("redis://127.0.0.1:1") as away:
        factory = sessionmaker(world)
        away.attach(factory)
        assert ask(factory) == ask(plain)
        away.detach(factory)
        away.detach(world)


def test_in_process_without_redis(world: Engine, plain: Sessions) -> None:
    """A Cache without a server does the same."""
    with Cache() as local:
        factory = sessionmaker(world)
        local.attach(factory)
        assert ask(factory) == ask(factory) == ask(plain)
        assert local.stats().hits["places"] >= 1
        local.detach(factory)
        local.detach(world)


def test_spoilt_candidates_are_left_to_the_database(
    sessions: Sessions, plain: Sessions, redis_client: Any
) -> None:
    """A row that cannot be taken apart is neither guessed at nor kept."""
    put(sessions, "b1", *NOWHERE)
    ask(sessions, NOWHERE, k=7)
    redis_client.select(DB)
    (key,) = redis_client.keys("spot:*k=7")
    stored = redis_client.get(key)
    redis_client.set(key, stored[:-20] + b"\xc1" * 20, keepttl=True)
    assert ask(sessions, NOWHERE, k=7) == ask(plain, NOWHERE, k=7)
    assert ask(sessions, NOWHERE, k=7) == ask(plain, NOWHERE, k=7)
    assert redis_client.get(key)[-20:] == stored[-20:]


async def test_an_async_session_asks_the_same(
    world_url: str, redis_url: str, world: Engine, plain: Sessions
) -> None:
    """With await in front."""
    engine = create_async_engine(world_url)
    factory = async_sessionmaker(engine)
    async with patient_cache(redis_url) as cache:
        cache.attach(factory)
        statement = nearby(lat=SEOUL[0], lon=SEOUL[1], radius_m=5000)
        for _ in range(2):
            async with factory() as session:
                rows = (await session.execute(statement)).all()
                found = [(row.Spot.id, round(row.distance_m, 6)) for row in rows]
            assert found == ask(plain)
        assert cache.stats().hits["places"] >= 1
    await engine.dispose()


def test_numbers_of_other_types_ask_the_same(sessions: Sessions, cache: Cache) -> None:
    """5000, 5000.0 and a Decimal are one radius."""
    for radius_m in (5000, 5000.0, Decimal("5000.00")):
        ask(sessions, NOWHERE, radius_m=radius_m)
    ask(sessions, (Decimal("-45.02"), Decimal("-140.03")), radius_m=5000)
    assert cache.stats().hits["places"] == 3
