"""Servers in containers, by testcontainers, on whatever Docker engine answers."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from examples.servers.databases import check_postgis
from examples.servers.errors import WayClosed
from examples.servers.private_postgres import SETTINGS
from examples.servers.private_redis import redis_answers
from examples.servers.warden import warden

PULL_TIMEOUT = 60.0
_START_TIMEOUT = 60.0

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
    # "postgres" first: the image's entrypoint makes a cluster for no other program.
    words = ["postgres", *(f"-c {name}={value}" for name, value in SETTINGS.items())]
    account = {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "cachedorm"}
    address = _start(stack, postgres_image(), 5432, " ".join(words), account)
    url = f"postgresql+psycopg://postgres:cachedorm@{address[0]}:{address[1]}/postgres"
    _await(lambda: _refusal(url) is None)
    check_postgis(url)
    return url


def redis(stack: ExitStack) -> str:
    """The URL of Redis in a container that ends with the stack."""
    command = "redis-server --save '' --appendonly no --protected-mode no"
    host, port = _start(stack, redis_image(), 6379, command, {})
    if not _await(lambda: redis_answers(host, port)):
        raise WayClosed(f"Redis in a container of {redis_image()} does not answer")
    return f"redis://{host}:{port}"


def _start(
    stack: ExitStack, image: str, port: int, command: str, settings: dict[str, str]
) -> tuple[str, int]:
    """Where the port of a new container is reached; the container ends with the stack."""
    with _testcontainers():
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(_image(image)).with_exposed_ports(port).with_command(command)
        for name, value in settings.items():
            container.with_env(name, value)
        try:
            container.start()
        except Exception as error:
            with contextlib.suppress(Exception):
                container.stop()
            raise WayClosed(f"a container of {image} did not start: {error}") from error
        identity = str(container.get_wrapped_container().id)
        warden().watch(identity, command=[sys.executable, "-c", _REMOVE, identity])
        stack.callback(_stop, container, identity)
        return container.get_container_host_ip(), int(container.get_exposed_port(port))


def _stop(container: Any, identity: str) -> None:
    with _testcontainers():
        container.stop(force=True, delete_volume=True)
    warden().release(identity)


def _await(answers: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT
    while not answers():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _refusal(url: str) -> WayClosed | None:
    try:
        check_postgis(url)
    except WayClosed as refusal:
        return refusal
    return None


def _image(name: str) -> str:
    """The image's name, once the engine has it."""
    import docker

    with _engine() as engine, contextlib.suppress(docker.errors.ImageNotFound):
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


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    _knock(get_docker_host() or "unix:///var/run/docker.sock")
    with contextlib.closing(DockerClient(timeout=5).client) as engine:
        try:
            engine.ping()
        except Exception as error:  # noqa: BLE001 (whatever it is, the next way is tried)
            raise WayClosed(f"no Docker engine answers ({str(error)[:120]})") from None
        yield engine


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
