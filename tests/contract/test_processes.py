"""Plain dogpile users in several real processes."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
import redis
from dogpile.cache import make_region

import cachedorm.store.backend  # noqa: F401 - a checkout has no entry points
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.contract.places import DB

PROCESSES = 3


@pytest.fixture(autouse=True, params=["threads"])
def colour(request: pytest.FixtureRequest) -> str:
    """The processes are the point here; one colour is enough."""
    return str(request.param)


def ask(url: str, all_here: Barrier, answers: Any) -> None:
    """What each process does: wait for the others, then ask for a cold key."""
    arguments = {
        "url": url,
        "db": DB,
        "wait": 300,
        "lease": 300,
        "connect_timeout": 60,
        "operation_timeout": 60,
    }
    region: Any = make_region().configure("cachedorm.redis", arguments=arguments)
    client = redis.Redis.from_url(url, db=DB)

    def create() -> str:
        client.incr("loads")
        # Held until every process has asked: each MGET that missed is one command of the server.
        eventually(lambda: client.info("commandstats")["cmdstat_mget"]["calls"] >= PROCESSES)
        return "made"

    all_here.wait(PATIENCE)
    answers.put(region.get_or_create("k", create))


def test_processes_make_one_load_of_a_cold_key(redis_url: str, db_client: "redis.Redis") -> None:
    """The lease is in Redis: whichever process asks second waits for the first one's value."""
    db_client.config_resetstat()
    spawn = multiprocessing.get_context("spawn")
    all_here, answers = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [
        spawn.Process(target=ask, args=(redis_url, all_here, answers)) for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)

    assert found == ["made"] * PROCESSES
    assert db_client.get("loads") == b"1"
