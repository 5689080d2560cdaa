"""Real PostgreSQL with PostGIS and real Redis, found or started, for tests and demo alike."""

from examples.servers.databases import drop_database, make_database, scratch_database
from examples.servers.errors import ServersNotFound
from examples.servers.found import Found, servers
from examples.servers.private_postgres import PrivatePostgres
from examples.servers.private_redis import PrivateRedis
from examples.servers.private_server import PrivateServer

__all__ = [
    "Found",
    "PrivatePostgres",
    "PrivateRedis",
    "PrivateServer",
    "ServersNotFound",
    "drop_database",
    "make_database",
    "scratch_database",
    "servers",
]
