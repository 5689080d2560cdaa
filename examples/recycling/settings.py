"""What the service, the worker and the nightly job are told by their environment."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr
from pydantic import field_validator as checked
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from examples.recycling.limit import Limit

# HMAC-SHA256 is as strong as its key; RFC 7518 asks for as many bytes as the hash has.
SECRET_BYTES_MIN = 32

Network = IPv4Network | IPv6Network


def networks(given: object) -> object:
    """The networks of a text such as ``10.0.0.0/8, 127.0.0.1``."""
    if not isinstance(given, str):
        return given
    return tuple(ip_network(each.strip()) for each in given.split(",") if each.strip())


Rate = Annotated[Limit, NoDecode, BeforeValidator(Limit.of)]


class Servers(BaseSettings):
    """Where the servers are; all that a process needs which answers no requests."""

    model_config = SettingsConfigDict(
        env_prefix="RECYCLING_",
        extra="ignore",
        hide_input_in_errors=True,  # a wrong one may be a password or the secret
    )

    database_url: str = "postgresql+psycopg://postgres@localhost:5432/recycling"
    # The Redis of the caches, which may evict what it likes (``allkeys-lru``).
    redis_url: str = "redis://localhost:6379"
    # How long a read may wait for it, before it goes to the database; seconds.
    redis_timeout: PositiveFloat = 0.25
    # Off: reads go to the database. Writes are followed still, for the processes where it is on.
    cache: bool = True
    # The Redis of what must not be evicted: rate limits, task queues and results.
    durable_redis_url: str = "redis://localhost:6379"

    def durable_redis_in(self, db: int) -> str:
        """The durable Redis with a database number; ValueError if the URL names another one."""
        url = urlsplit(self.durable_redis_url)
        if url.path.strip("/") not in {"", str(db)}:
            raise ValueError(
                f"RECYCLING_DURABLE_REDIS_URL names database {url.path.strip('/')!r}, but"
                f" {db} is asked for; leave the number out, each user of it has its own"
            )
        return url._replace(path=f"/{db}").geturl()


class Settings(Servers):
    """Read from variables such as ``RECYCLING_DATABASE_URL``; a wrong one is named at start."""

    jwt_secret: SecretStr
    jwt_issuer: str = "recycling"

    database_pool: PositiveInt = 10
    # To connect, and to get a connection of the pool; seconds.
    database_timeout: PositiveFloat = 2.0
    # A request that takes longer is answered 503, whatever it waits for.
    request_timeout: PositiveFloat = 10.0
    # The largest body that is valid fits, however its letters are escaped.
    body_max_bytes: PositiveInt = 65_536

    warm_at_start: bool = True
    # Readiness waits so long for the warming at most; the rest is filled while requests come.
    ready_within: NonNegativeFloat = 2.0

    # Whose X-Forwarded-For is believed; nobody's by default.
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(networks)] = ()
    # "open" lets requests in while the Redis of the limits is away, "closed" refuses them.
    limit_address: Rate = Limit("600/minute")
    limit_user: Rate = Limit("300/minute")
    limit_exp: Rate = Limit("30/minute", closed=True)
    limit_revoke: Rate = Limit("30/minute")
    # What that Redis has to connect, and to answer; seconds.
    limit_timeout: PositiveFloat = 0.25

    @checked("jwt_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr) -> SecretStr:
        found = len(secret.get_secret_value().encode())
        if found < SECRET_BYTES_MIN:
            raise ValueError(
                f"{found} bytes; HS256 takes {SECRET_BYTES_MIN} or more:"
                ' python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        return secret


class WorkerSettings(Servers):
    """What the Celery worker and beat are told beside the servers; no secret of the service's."""

    # Off where something else warms at night, such as the CronJob `cache-warming`.
    warm_by_beat: bool = True
    # A task of a worker that vanished is given to another one after so long. Longer than a scan
    # may run (60 s) and longer than one waits between two attempts (60 s), or it runs twice.
    visibility_timeout_s: PositiveInt = 300
