"""The little application on a real PostgreSQL, with a Cache in memory and one on Redis."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.testing import attached
from tests.fixtures.patience import patient_cache
from tests.support.testing.shelf import REGIONS, Base, Magazine, Novel, Ticket


@pytest.fixture
def shelves(engine: Engine) -> sessionmaker[Session]:
    """A factory that nothing is attached to, over two novels, a magazine and a ticket."""
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    with factory() as session:
        session.add(Novel(id=1, title="one", shelf="a"))
        session.add(Novel(id=2, title="two", shelf="a"))
        session.add(Magazine(id=1, title="weekly"))
        session.add(Ticket(id=1, expires_at=datetime.now(UTC) + timedelta(minutes=30)))
        session.commit()
    return factory


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, shelves: sessionmaker[Session]) -> Iterator[Cache]:
    """A Cache that serves the factory: the kit says the same of both kinds."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    with patient_cache(url, regions=REGIONS) as made, attached(made, shelves):
        yield made
