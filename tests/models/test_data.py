"""The town is the same for the same seed, and large enough to be worth caching."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from examples.recycling.data import Sizes, generate
from models import Base, Character, RecycleCenter, Revocation, User
from tests.models.conftest import NOW, SEED

SMALL = Sizes(users=20, centers=50, guides=10, revocations=5)


def by_table(seed: int = SEED, sizes: Sizes = SMALL) -> dict[str, tuple[tuple[Any, ...], ...]]:
    """A small town's rows."""
    return {each.table: each.rows for each in generate(seed, NOW, sizes)}


def test_one_seed_makes_one_town() -> None:
    """Two runs agree in every value; another seed makes another town."""
    assert by_table() == by_table()
    assert by_table()["my_db.users"] != by_table(seed=SEED + 1)["my_db.users"]


def test_the_first_rows_do_not_change_with_the_number_of_rows() -> None:
    """Making more centres leaves the users as they were: each table draws for itself."""
    assert by_table(sizes=replace(SMALL, centers=80))["my_db.users"] == by_table()["my_db.users"]


def test_every_table_has_its_rows() -> None:
    """No table of the domain is forgotten."""
    assert set(by_table()) == set(Base.metadata.tables)
    assert all(by_table().values())


def test_owners_come_before_what_belongs_to_them() -> None:
    """Tables are in an order in which every foreign key finds its row."""
    order = {each.table: number for number, each in enumerate(generate(SEED, NOW, SMALL))}
    for table in Base.metadata.tables.values():
        for key in table.foreign_keys:
            assert order[key.column.table.fullname] < order[table.fullname]


def test_a_naive_now_is_refused() -> None:
    """Half the rows would be nine hours off in Seoul."""
    with pytest.raises(ValueError, match="has no zone"):
        generate(SEED, datetime(2026, 1, 1), SMALL)  # noqa: DTZ001 - that is the fault


def test_more_guides_than_names_are_refused() -> None:
    """Categories are unique, and the words for them end."""
    with pytest.raises(ValueError, match="201 guides asked for, but there are names for 200"):
        generate(SEED, NOW, replace(SMALL, guides=201))


def test_the_whole_town_is_there(town: Engine) -> None:
    """2,000 users with one character each, 5,000 centres, 200 guides, and histories."""
    with Session(town) as session:
        rows = {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }
    assert rows["my_db.users"] == rows["character_db.characters"] == 2_000
    assert rows["location_db.recycle_centers"] == 5_000
    assert rows["info_db.recycle_guides"] == 200
    assert rows["auth_db.revocations"] == 100
    assert all(rows.values())


def test_the_first_user_fills_every_limit() -> None:
    """u0001 has more activities than the 100 that are shown, so a limit can be seen to work."""
    activities = by_table(sizes=Sizes(users=3))["my_db.activities"]
    assert Counter(row[1] for row in activities)["u0001"] == 120


def test_centres_lie_in_korea(town: Engine) -> None:
    """Between Jeju and the north, and all over the country."""
    with Session(town) as session:
        south, north, west, east = session.execute(
            select(
                func.min(RecycleCenter.lat),
                func.max(RecycleCenter.lat),
                func.min(RecycleCenter.lon),
                func.max(RecycleCenter.lon),
            )
        ).one()
    assert 33.0 < south < 33.5
    assert 37.7 < north < 38.6
    assert 125.0 < west < 126.5
    assert 129.2 < east < 131.0


def test_every_character_stands_below_its_next_level(town: Engine) -> None:
    """No character waits to be lifted."""
    with Session(town) as session:
        waiting = select(func.count()).where(Character.exp >= Character.exp_required)
        assert session.scalar(waiting) == 0


def test_revocations_are_still_in_force(town: Engine) -> None:
    """Every revoked token would still be accepted without its row."""
    with Session(town) as session:
        soonest = session.scalar(select(func.min(Revocation.expires_at)))
    assert soonest is not None
    assert soonest > NOW + timedelta(days=4)


def test_no_user_has_a_password(town: Engine) -> None:
    """The hashes are random bytes that no password makes."""
    with Session(town) as session:
        assert session.scalar(select(func.count(User.password_hash.distinct()))) == 2_000
