"""The fixtures, in a suite of their own as a user writes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
from datetime import timedelta

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from cachedorm import Cached, CachePolicy, Region
from cachedorm.testing import assert_served_from_cache


class Base(DeclarativeBase):
    pass


class Book(Cached, Base):
    __tablename__ = "books"
    __cache__ = CachePolicy(Region("library", db=1, ttl=timedelta(hours=1)), key="book:{id}")
    id: Mapped[int] = mapped_column(primary_key=True)


engine = create_engine("sqlite://")
Session = sessionmaker(engine)
plain = Session.class_


@pytest.fixture(autouse=True)
def tables():
    Base.metadata.create_all(engine)
    yield
    Base.metadata.drop_all(engine)


def read():
    with Session() as session:
        return session.get(Book, 1)


def test_it_is_attached_until_the_end(attach_cache, cache_in_memory):
    assert attach_cache(Session) is cache_in_memory
    read()
    with assert_served_from_cache(cache_in_memory):
        assert read() is None


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_its_own(cache_in_memory, attach_cache, again):
    assert Session.class_ is plain
    attach_cache(Session)
    read()
    assert cache_in_memory.stats().hits.total() == 0


def test_the_clock(cache_in_memory, attach_cache, cache_clock):
    attach_cache(Session)
    read()
    cache_clock.advance(timedelta(hours=1))
    with pytest.raises(AssertionError, match="missed"), assert_served_from_cache(cache_in_memory):
        read()
"""


def test_a_suite_that_opts_in(tmp_path: Path) -> None:
    """One line in the conftest, and each test has a cache, a way to attach it, and a clock."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cachedorm.testing.plugin"]\n')
    (tmp_path / "test_books.py").write_text(SUITE)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_suite_that_does_not(tmp_path: Path) -> None:
    """Without the line there are no such fixtures: nothing is loaded behind its back."""
    (tmp_path / "test_books.py").write_text("def test_it(cache_clock): ...\n")
    done = run(tmp_path)
    assert "fixture 'cache_clock' not found" in done.stdout


def test_pytest_is_the_plugins_alone() -> None:
    """The rest of the kit works in any test runner."""
    code = "import sys, cachedorm.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run(suite: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=suite,
        # Only what the suite itself asks for.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
