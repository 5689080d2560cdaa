"""The container way: what it starts it ends, also when its owner is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from examples.servers import containers
from examples.servers.errors import WayClosed
from tests.fixtures.patience import eventually


@pytest.fixture
def engine_of_containers() -> Iterator[Any]:
    """A Docker client, where an engine answers and has our images."""
    with ExitStack() as stack:
        try:
            containers.redis(stack)
        except WayClosed as reason:
            pytest.skip(f"containers: {reason}")
    import docker

    with closing(docker.from_env()) as client:
        yield client


def ids(client: Any) -> set[str]:
    """Every container there is, running or not."""
    return {container.id for container in client.containers.list(all=True)}


def test_containers_end_with_the_block(engine_of_containers: Any) -> None:
    """Server, container and volume are gone when the stack unwinds."""
    before = ids(engine_of_containers)
    with ExitStack() as stack:
        containers.redis(stack)
        made = ids(engine_of_containers) - before
        assert made
    assert not made & ids(engine_of_containers)


def test_the_settings_are_those_of_private_servers(engine_of_containers: Any) -> None:
    """Prepared transactions are possible there too, and PostGIS is on offer."""
    with ExitStack() as stack:
        engine = create_engine(containers.postgres(stack))
        with engine.connect() as connection:
            allowed = connection.scalar(text("show max_prepared_transactions"))
        engine.dispose()
    assert int(str(allowed)) > 0


OWNER = """
import time
from contextlib import ExitStack
from examples.servers import containers
with ExitStack() as stack:
    print(containers.redis(stack), flush=True)
    time.sleep(600)
"""


def test_containers_die_with_their_owner(engine_of_containers: Any) -> None:
    """SIGKILL leaves no container behind."""
    before = ids(engine_of_containers)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OWNER], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().startswith("redis://")
        made = ids(engine_of_containers) - before
        os.kill(owner.pid, signal.SIGKILL)
    eventually(lambda: not made & ids(engine_of_containers))
