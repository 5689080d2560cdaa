"""Which servers there are, and which way led to them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from examples.servers import apt, containers
from examples.servers.binaries import postgres_binary, redis_binary
from examples.servers.databases import check_postgis
from examples.servers.errors import NoPostGIS, ServersNotFound, WayClosed
from examples.servers.private_postgres import PrivatePostgres
from examples.servers.private_redis import PrivateRedis, redis_answers
from examples.servers.ways import chosen_ways

# Leads to the URL of a running server, or raises WayClosed. What it starts goes on the stack.
Way = Callable[[ExitStack], str]


@dataclass(frozen=True, slots=True)
class Found:
    """The two servers. database_url: SQLAlchemy's, for psycopg. how: the ways taken, in a line."""

    database_url: str
    redis_url: str
    how: str


@contextmanager
def servers(*, say: Callable[[str], None] | None = None) -> Iterator[Found]:
    """PostgreSQL with PostGIS, and Redis, for the length of the `with` block.

    Each by the first way that leads to it: the environment's URLs, containers, local binaries, apt.
    CACHEDORM_SERVERS narrows the ways ("containers", or "environment,local"). `say` gets the line
    that tells which way was taken; it goes to standard error without.
    Raises ServersNotFound, which names the ways and why each was closed.
    """
    tell = say or _to_stderr
    with ExitStack() as stack:
        postgres_how, database_url = _first("PostgreSQL", _postgres_ways(), stack)
        redis_how, redis_url = _first("Redis", _redis_ways(), stack)
        how = _in_one_line(postgres_how, redis_how)
        tell(f"servers: {how}")
        yield Found(database_url, redis_url, how)


def _first(what: str, ways: dict[str, tuple[str, Way]], stack: ExitStack) -> tuple[str, str]:
    closed = []
    for name in chosen_ways():
        description, way = ways[name]
        try:
            # A way that fails half-way takes what it started with it.
            with ExitStack() as attempt:
                url = way(attempt)
                stack.push(attempt.pop_all())
                return description, url
        except WayClosed as reason:
            closed.append(f"  {name}: {reason}")
    raise ServersNotFound(f"No {what} found. The ways tried, in order:\n" + "\n".join(closed))


def _postgres_ways() -> dict[str, tuple[str, Way]]:
    return {
        "environment": ("URL in CACHEDORM_DATABASE_URL", _database_from_environment),
        "containers": (f"container of {containers.postgres_image()}", containers.postgres),
        "local": (_LOCAL, _local_postgres),
        "apt": (_APT, _apt_postgres),
    }


def _redis_ways() -> dict[str, tuple[str, Way]]:
    return {
        "environment": ("URL in CACHEDORM_REDIS_URL", _redis_from_environment),
        "containers": (f"container of {containers.redis_image()}", containers.redis),
        "local": (_LOCAL, _local_redis),
        "apt": (_APT, _apt_redis),
    }


_LOCAL = "private server from local binaries"
_APT = "private server from binaries installed by apt-get"


def _local_postgres(stack: ExitStack) -> str:
    postgres_binary("initdb")  # a private server would go on to apt by itself
    return _private_postgres(stack)


def _apt_postgres(stack: ExitStack) -> str:
    with suppress(NoPostGIS):
        return _private_postgres(stack)
    apt.add_postgis()
    return _private_postgres(stack)


def _private_postgres(stack: ExitStack) -> str:
    with ExitStack() as attempt:
        server = attempt.enter_context(PrivatePostgres())
        check_postgis(server.url)
        stack.push(attempt.pop_all())
        return server.url


def _local_redis(stack: ExitStack) -> str:
    redis_binary()
    return _apt_redis(stack)


def _apt_redis(stack: ExitStack) -> str:
    return stack.enter_context(PrivateRedis()).url


def _database_from_environment(_stack: ExitStack) -> str:
    url = os.environ.get("CACHEDORM_DATABASE_URL")
    if not url:
        raise WayClosed("CACHEDORM_DATABASE_URL is not set")
    try:
        check_postgis(url)
    except WayClosed as reason:
        # Whoever names a server means it; another one instead would be a surprise.
        raise ServersNotFound(f"CACHEDORM_DATABASE_URL: {reason}") from None
    return url


def _redis_from_environment(_stack: ExitStack) -> str:
    url = os.environ.get("CACHEDORM_REDIS_URL")
    if not url:
        raise WayClosed("CACHEDORM_REDIS_URL is not set")
    parts = urlsplit(url)
    if not redis_answers(parts.hostname or "127.0.0.1", parts.port or 6379):
        raise ServersNotFound(
            f"CACHEDORM_REDIS_URL: no Redis answers at {parts.hostname}:{parts.port or 6379}"
        )
    return url


def _in_one_line(postgres: str, redis: str) -> str:
    if postgres == redis:
        return f"PostgreSQL and Redis: {postgres}"
    return f"PostgreSQL: {postgres}; Redis: {redis}"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
