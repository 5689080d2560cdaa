"""A Redis of one's own."""

import socket
from collections.abc import Sequence
from typing import Literal

from examples.servers import apt
from examples.servers.binaries import redis_binary
from examples.servers.errors import NoBinary
from examples.servers.private_server import PrivateServer


class PrivateRedis(PrivateServer):
    """A redis-server with 16 databases that keeps nothing, unless told to.

    persistence: "rdb" saves at a proper stop and loads at the next start, "aof" writes every
    command through to the disk. options: further arguments, such as ("--maxmemory", "20mb").
    Where the program is missing, apt-get may bring it (see `servers`); NoBinary otherwise.
    """

    kind = "redis"

    def __init__(
        self,
        *,
        port: int | None = None,
        databases: int = 16,
        persistence: Literal["none", "rdb", "aof"] = "none",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(port=port)
        self.databases = databases
        self.persistence = persistence
        self.options = tuple(options)

    @property
    def url(self) -> str:
        """redis:// without a database number."""
        return f"redis://127.0.0.1:{self.port}"

    def _find_programs(self) -> None:
        try:
            redis_binary()
        except NoBinary as missing:
            apt.install_redis(reason=missing)

    def _command(self) -> Sequence[str]:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), "--databases", str(self.databases)]
        command += ["--save", "3600 1" if self.persistence == "rdb" else ""]
        command += ["--appendonly", "yes" if self.persistence == "aof" else "no"]
        if self.persistence == "aof":
            command += ["--appendfsync", "always"]
        return [*command, *self.options]

    def _ready(self) -> bool:
        return redis_answers("127.0.0.1", self.port)


def redis_answers(host: str, port: int) -> bool:
    """Does a Redis that has loaded its data answer here?"""
    try:
        with socket.create_connection((host, port), timeout=0.5) as line:
            line.sendall(b"PING\r\n")
            # A server that still loads says -LOADING, one with a password -NOAUTH.
            return line.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
