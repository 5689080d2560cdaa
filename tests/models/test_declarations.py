"""The models say where their rows are cached, and the operators' numbers have not moved."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import configure_mappers

from cachedorm import Cached, CachePolicy, Region, Regions
from models import (
    REGIONS,
    Base,
    Guide,
    RecycleCenter,
    Revocation,
    ScanResult,
    User,
    calculate_exp_required,
)


def test_regions_stand_in_the_operators_databases() -> None:
    """Name, Redis database and lifetime of each region are what dashboards expect."""
    found = {region.name: (region.db, region.ttl) for region in REGIONS}
    assert found == {
        "auth": (0, timedelta(hours=24)),
        "api": (1, timedelta(minutes=1)),
        "my": (2, timedelta(hours=1)),
        "character": (3, timedelta(minutes=10)),
        "location": (4, timedelta(hours=24)),
        "info": (5, timedelta(days=7)),
        "chat": (6, timedelta(minutes=30)),
        "scan": (7, timedelta(hours=1)),
    }


@pytest.mark.parametrize("db", [8, 9, 10, 15])
def test_databases_of_others_are_refused(db: int) -> None:
    """A region in a database that rate limits or Celery fill, or that is kept free, is an error."""
    with pytest.raises(ValueError, match=f"database {db} is"):
        Regions(Region("new", db=db, ttl=60), taken=REGIONS.taken, reserved=REGIONS.reserved)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (User, "user:profile:{user_id}"),
        (RecycleCenter, "location:center:{center_id}"),
        (Guide, "info:guide:{category}"),
        (ScanResult, "scan:result:{task_id}"),
        (Revocation, "blacklist:{jti}"),
    ],
)
def test_rows_have_the_documents_keys(model: type[Cached], key: str) -> None:
    """Whoever looks into Redis finds the keys of the document."""
    configure_mappers()
    assert model.__cache__.key == key


def test_every_model_says_what_its_writes_mean() -> None:
    """A model without a policy would be written past the cache."""
    mapped = {mapper.class_ for mapper in Base.registry.mappers}
    assert mapped
    assert all(isinstance(model.__cache__, CachePolicy) for model in mapped)


def test_password_hashes_stay_out_of_redis() -> None:
    """The column is kept back by the policy."""
    assert User.__cache__.exclude == ("password_hash",)


def test_revocations_live_as_long_as_the_token_and_absence_five_seconds() -> None:
    """The table is the truth; what is remembered of it is bounded."""
    policy = Revocation.__cache__
    assert policy.expires_at == "expires_at"
    assert policy.on_write == "write_through"
    assert policy.negative_ttl_ms == 5_000


def test_each_level_takes_fifty_more() -> None:
    """The formula that the document leaves open."""
    assert [calculate_exp_required(level) for level in (1, 2, 3, 10)] == [100, 150, 200, 550]
    with pytest.raises(ValueError, match="starts at 1, found 0"):
        calculate_exp_required(0)
