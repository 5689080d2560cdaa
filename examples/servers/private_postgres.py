"""A PostgreSQL cluster of one's own."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from examples.servers import apt
from examples.servers.binaries import postgres_binary
from examples.servers.errors import NoBinary, WayClosed
from examples.servers.private_server import PrivateServer

# Speed for data that is thrown away; prepared transactions are off by default and we test them.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "50",
}


class PrivatePostgres(PrivateServer):
    """A cluster with trusting local access; `kill` and `restart` show what survives a crash.

    options: further settings, such as {"log_statement": "all"}. Where the programs are missing,
    apt-get may bring them (see `servers`); NoBinary otherwise.
    """

    kind = "pg"

    def __init__(self, *, port: int | None = None, options: dict[str, str] | None = None) -> None:
        super().__init__(port=port)
        self.options = options or {}

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database "postgres" for psycopg."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.directory / "data"

    def _find_programs(self) -> None:
        try:
            postgres_binary("initdb")
        except NoBinary as missing:
            apt.install_postgres(reason=missing)

    def _prepare(self) -> None:
        # C.UTF-8: with plain C, the server lower-cases ASCII only and disagrees with Python.
        locale = ["-E", "UTF8", "--locale=C.UTF-8"]
        access = ["-A", "trust", "-U", "postgres"]
        made = subprocess.run(
            [postgres_binary("initdb"), "-D", str(self.data), *access, *locale, "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            **self._identity(),
        )
        if made.returncode:
            raise WayClosed(f"initdb failed: {(made.stderr or made.stdout).strip()[-800:]}")

    def _command(self) -> Sequence[str]:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        settings |= SETTINGS | self.options
        command = [postgres_binary("postgres"), "-D", str(self.data), "-p", str(self.port)]
        return command + [word for item in settings.items() for word in ("-c", "=".join(item))]

    def _ready(self) -> bool:
        # Line 8 of the pid file is the server's own word that it takes connections; the first line
        # must be our process, for a killed server leaves its file behind.
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    @property
    def _account(self) -> str | None:
        return _unprivileged() if os.geteuid() == 0 else None

    @property
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # "fast": sessions are ended, not waited for


def _unprivileged() -> str:
    for account in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(account).pw_name
    raise WayClosed('PostgreSQL refuses root, and there is no account "postgres" or "nobody"')
