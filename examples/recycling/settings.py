"""What the service, the worker and the nightly job are told by their environment."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Servers(BaseSettings):
    """Where the servers are; all that a process needs which answers no requests."""

    model_config = SettingsConfigDict(env_prefix="RECYCLING_", extra="ignore")

    database_url: str = "postgresql+psycopg://postgres@localhost:5432/recycling"
    # The Redis of the caches, which may evict what it likes (``allkeys-lru``).
    redis_url: str = "redis://localhost:6379"
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


class WorkerSettings(Servers):
    """What the Celery worker and beat are told beside the servers; no secret of the service's."""

    # Off where something else warms at night, such as the CronJob `cache-warming`.
    warm_by_beat: bool = True
    # A task of a worker that vanished is given to another one after so long. Longer than a scan
    # may run (60 s) and longer than one waits between two attempts (60 s), or it runs twice.
    visibility_timeout_s: PositiveInt = 300
