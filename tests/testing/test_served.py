"""The assertion that reads are hits says of each that was none why."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.testing import assert_served_from_cache
from tests.support.testing.shelf import Novel, novels_on


def read(shelves: sessionmaker[Session]) -> None:
    with shelves() as session:
        session.get(Novel, 1)
    with shelves() as session:
        session.scalars(novels_on(shelf="a")).all()


def write_and_read(session: Session) -> None:
    session.add(Novel(id=9, title="nine", shelf="b"))
    session.flush()
    session.get(Novel, 1)


def read_otherwise(shelves: sessionmaker[Session]) -> None:
    read(shelves)
    with shelves() as session:
        session.scalars(select(Novel.title)).all()


def fail(shelves: sessionmaker[Session]) -> None:
    read(shelves)
    raise ZeroDivisionError


def test_hits_pass(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """And are listed, region and key."""
    read(shelves)
    with assert_served_from_cache(cache) as served:
        read(shelves)
    assert served.hits == [("kit shelf", "novel:1"), ("kit shelf", "novels:a")]


def test_a_miss_is_named(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """With region, key, reason, and the SQL that it cost."""
    with pytest.raises(AssertionError) as failed, assert_served_from_cache(cache):
        read(shelves)
    text = str(failed.value)
    assert "region 'kit shelf', key novel:1: missed (empty)" in text
    assert "region 'kit shelf', key novels:a: missed (empty)" in text
    assert text.count("ran SQL: SELECT kit_novels.id") == 2


def test_a_bypass_is_named(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """A session that has written reads the database."""
    read(shelves)
    with (
        pytest.raises(AssertionError, match=r"region 'kit shelf': bypassed \(own writes\)"),
        assert_served_from_cache(cache),
        shelves() as session,
    ):
        write_and_read(session)


def test_a_switched_off_cache_is_named(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """The kill switch is a bypass too."""
    cache.enabled = False
    with (
        pytest.raises(AssertionError, match=r"bypassed \(disabled\)"),
        assert_served_from_cache(cache),
    ):
        read(shelves)


def test_other_sql_is_named(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """A read that nobody declared is no hit, and the cache has no word for it."""
    read(shelves)
    with (
        pytest.raises(AssertionError, match=r"ran SQL: SELECT kit_novels\.title"),
        assert_served_from_cache(cache),
    ):
        read_otherwise(shelves)


def test_no_read_at_all_is_no_success(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """A block that reads nothing proves nothing."""
    with shelves() as session:
        held = session.get(Novel, 1)
        with (
            pytest.raises(AssertionError, match="held the objects already"),
            assert_served_from_cache(cache),
        ):
            assert session.get(Novel, 1) is held


def test_an_error_of_the_block_is_its_own(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """It is not hidden behind the assertion."""
    with pytest.raises(ZeroDivisionError), assert_served_from_cache(cache):
        fail(shelves)


def test_long_sql_is_cut(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """A message is for reading."""
    many = select(*(Novel.title.label(f"title_{number}") for number in range(60)))
    with (
        pytest.raises(AssertionError) as failed,
        assert_served_from_cache(cache),
        shelves() as session,
    ):
        session.execute(many).all()
    assert max(map(len, str(failed.value).splitlines())) < 230
