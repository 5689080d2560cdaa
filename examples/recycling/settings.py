"""What the service, the worker and the nightly job are told by their environment."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from variables such as ``RECYCLING_DATABASE_URL``; a wrong one is named at start."""

    model_config = SettingsConfigDict(env_prefix="RECYCLING_", extra="ignore")

    database_url: str = "postgresql+psycopg://postgres@localhost:5432/recycling"
    # The Redis of the caches, which may evict what it likes (``allkeys-lru``).
    redis_url: str = "redis://localhost:6379"
    # The Redis of what must not be evicted: rate limits, task queues and results.
    durable_redis_url: str = "redis://localhost:6379"
    jwt_secret: SecretStr
    jwt_issuer: str = "recycling"
