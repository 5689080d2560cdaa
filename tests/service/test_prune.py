"""Pruning of expired revocations, on a real database and through the cache."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, func, select
from sqlalchemy.orm import Session, sessionmaker

from examples.recycling.caching import Stores, open_stores
from examples.recycling.migrate import migrate
from examples.recycling.prune import prune_revocations
from examples.recycling.settings import Servers
from models import Revocation

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def stores(engine: Engine, database_url: str, redis_url: str) -> Iterator[Stores]:
    """The application's own sessions and Cache, on the newest schema."""
    with engine.begin() as connection:
        migrate(connection)
    made = open_stores(Servers(database_url=database_url, redis_url=redis_url))
    yield made
    made.close()


def revoke(sessions: sessionmaker[Session], *ends: timedelta) -> None:
    """Revoke tokens r0, r1 ..., which end at these distances from NOW."""
    with sessions.begin() as session:
        session.add_all(
            Revocation(jti=f"r{number}", user_id="u", revoked_at=NOW, expires_at=NOW + end)
            for number, end in enumerate(ends)
        )


def left(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(Revocation.jti)))


def test_what_has_expired_goes(stores: Stores, engine: Engine) -> None:
    """At its very end a token is expired, a moment before it is not."""
    moment = timedelta(microseconds=1)
    revoke(stores.sessions, -timedelta(days=400), -moment, timedelta(), moment)

    assert prune_revocations(stores.sessions, NOW) == 3
    assert left(engine) == {"r3"}
    assert prune_revocations(stores.sessions, NOW) == 0


@pytest.mark.parametrize(("batch", "commits"), [(1, 6), (2, 3), (5, 2), (6, 1)])
def test_a_batch_a_transaction(stores: Stores, batch: int, commits: int) -> None:
    """Five rows take as many transactions as batches, and one more if the last was full."""
    revoke(stores.sessions, *[-timedelta(days=1)] * 5)
    seen: list[object] = []
    event.listen(stores.engine, "commit", seen.append)

    assert prune_revocations(stores.sessions, NOW, batch=batch) == 5
    assert len(seen) == commits


def test_oldest_first(stores: Stores, engine: Engine) -> None:
    """A run that breaks off has taken the oldest."""
    revoke(stores.sessions, *(-timedelta(days=days) for days in (1, 9, 5)))
    third: list[object] = []

    def break_off(connection: object) -> None:
        third.append(connection)
        if len(third) == 3:
            raise KeyboardInterrupt

    event.listen(stores.engine, "begin", break_off)
    with pytest.raises(KeyboardInterrupt):
        prune_revocations(stores.sessions, NOW, batch=1)
    assert left(engine) == {"r0"}


def test_two_at_once_share_the_work(stores: Stores, engine: Engine) -> None:
    """Rows that another one holds are passed over, not waited for."""
    revoke(stores.sessions, *[-timedelta(days=1)] * 3)
    with Session(engine) as other:
        other.scalars(select(Revocation).where(Revocation.jti == "r1").with_for_update()).all()
        assert prune_revocations(stores.sessions, NOW) == 2
    assert left(engine) == {"r1"}


def test_other_entries_stay(stores: Stores) -> None:
    """What is remembered of living tokens, revoked or not, is served after a pruning."""
    living = datetime.now(UTC) - NOW + timedelta(days=1)
    revoke(stores.sessions, -timedelta(days=1), living)

    def ask() -> int:
        with stores.sessions() as session:
            assert session.get(Revocation, "r1") is not None
            assert session.get(Revocation, "never") is None
        return stores.cache.stats().hits["auth"]

    ask()
    before = ask()
    assert prune_revocations(stores.sessions, NOW) == 1
    assert ask() == before + 2


def test_sessions_without_a_cache(engine: Engine, stores: Stores) -> None:
    """A plain factory does as well, many rows at once too."""
    revoke(stores.sessions, *[-timedelta(days=1)] * 1_500)
    plain = sessionmaker(engine)
    assert prune_revocations(plain, NOW) == 1_500
    with plain() as session:
        assert session.scalar(select(func.count()).select_from(Revocation)) == 0


def test_words_that_mean_nothing(stores: Stores) -> None:
    """A time without a zone and a batch of nothing are refused before anything is deleted."""
    with pytest.raises(ValueError, match=r"no zone; give an aware time"):
        prune_revocations(stores.sessions, NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="batch=0; a batch is at least one row"):
        prune_revocations(stores.sessions, NOW, batch=0)
