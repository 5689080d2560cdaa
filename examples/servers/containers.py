"""Servers in containers, by testcontainers, on whatever Docker engine answers."""

import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from examples.servers.databases import check_postgis
from examples.servers.errors import WayClosed
from examples.servers.private_postgres import SETTINGS
from examples.servers.warden import warden

PULL_TIMEOUT = 60.0

# Run by processes of their own, with an image or a container as their argument.
_ENGINE = "import sys, docker; engine = docker.from_env(); "
_PULL = _ENGINE + "engine.images.pull(sys.argv[1])"
_REMOVE = _ENGINE + "engine.containers.get(sys.argv[1]).remove(force=True, v=True)"


def postgres_image() -> str:
    """The image with PostgreSQL and PostGIS; CACHEDORM_POSTGRES_IMAGE names another."""
    return os.environ.get("CACHEDORM_POSTGRES_IMAGE", "postgis/postgis:16-3.5")


def redis_image() -> str:
    """The image with Redis; CACHEDORM_REDIS_IMAGE names another."""
    return os.environ.get("CACHEDORM_REDIS_IMAGE", "redis:7")


def postgres(stack: ExitStack) -> str:
    """The URL of PostgreSQL in a container that ends with the stack."""
    with _testcontainers():
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer(
            _image(postgres_image()), username="postgres", driver="psycopg", dbname="postgres"
        )
        # "postgres" first: the image's entrypoint makes a cluster for no other program.
        settings = [f"-c {name}={value}" for name, value in SETTINGS.items()]
        container.with_command(" ".join(["postgres", *settings]))
        _start(container, stack)
        url = str(container.get_connection_url())
    check_postgis(url)
    return url


def redis(stack: ExitStack) -> str:
    """The URL of Redis in a container that ends with the stack."""
    with _testcontainers():
        from testcontainers.redis import RedisContainer

        container = RedisContainer(_image(redis_image()))
        container.with_command("redis-server --save '' --appendonly no")
        _start(container, stack)
        host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
    return f"redis://{host}:{port}"


def _start(container: Any, stack: ExitStack) -> None:
    try:
        container.start()
    except Exception as error:
        with contextlib.suppress(Exception):
            container.stop()
        raise WayClosed(f"container of {container.image} did not come up: {error}") from error
    identity = container.get_wrapped_container().id
    warden().watch(identity, command=[sys.executable, "-c", _REMOVE, identity])
    stack.callback(_stop, container, identity)


def _stop(container: Any, identity: str) -> None:
    with _testcontainers():
        container.stop(force=True, delete_volume=True)
    warden().release(identity)


def _image(name: str) -> str:
    """The image's name, once the engine has it."""
    import docker

    engine = _engine()
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.get(name)
        return name
    # In a process of its own, for a pull cannot be told to stop.
    try:
        pull = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                _PULL,
                name if ":" in name else f"{name}:latest",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=PULL_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise WayClosed(f"no image {name}, and {PULL_TIMEOUT:.0f} s did not bring it") from None
    if pull.returncode:
        reason = pull.stderr.strip().splitlines()[-1:] or ["the pull failed"]
        raise WayClosed(f"no image {name}: {reason[0][:200]}")
    return name


def _engine() -> Any:
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    _knock(get_docker_host() or "unix:///var/run/docker.sock")
    try:
        engine = DockerClient(timeout=5).client
        engine.ping()
    except Exception as error:  # noqa: BLE001 (whatever it is, the next way is tried)
        raise WayClosed(f"no Docker engine answers ({str(error)[:120]})") from None
    return engine


def _knock(host: str) -> None:
    """Raise WayClosed if nobody listens there."""
    # Asked by hand first, because the Docker client leaves a socket open when nobody does.
    where = urlsplit(host)
    try:
        if where.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(2)
                line.connect(where.path)
        elif where.scheme in {"tcp", "http", "https"} and where.hostname:
            socket.create_connection((where.hostname, where.port or 2375), timeout=2).close()
    except OSError as error:
        raise WayClosed(f"no Docker engine answers at {host} ({error.strerror or error})") from None


@contextlib.contextmanager
def _testcontainers() -> Iterator[None]:
    """testcontainers without its warnings about itself and without its reaper container."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from testcontainers.core.config import testcontainers_config
        except ImportError:
            raise WayClosed("testcontainers is not installed") from None
        # The reaper is one more image to have; our warden does its work.
        testcontainers_config.ryuk_disabled = True
        yield
