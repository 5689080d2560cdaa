"""The application as a process of its own under uvicorn, and tokens to ask it with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from examples.recycling.service.tokens import Tokens
from examples.servers.private_server import free_port
from tests.fixtures.patience import PATIENCE

ROOT = Path(__file__).parents[3]
# Long enough for SHA-512 too, so that a token of it is refused for its algorithm alone.
SECRET = "a secret of at least sixty-four bytes, as HMAC with SHA-512 asks for"
ISSUER = "recycling"
# Limits that no test reaches by accident; those about limits set their own.
ROOMY = {
    f"RECYCLING_LIMIT_{name}": f"1000000/minute {policy}"
    for name, policy in {"ADDRESS": "open", "USER": "open", "EXP": "open", "REVOKE": "open"}.items()
}
TOKENS = Tokens(SECRET, ISSUER)


def bearer(user_id: str, life: timedelta = timedelta(hours=1)) -> dict[str, str]:
    """The header that says who asks."""
    return {"Authorization": f"Bearer {TOKENS.issue(user_id, life)}"}


class Application:
    """One uvicorn process. ``url``: where it answers; ``client``: connected to it."""

    def __init__(self, database_url: str, redis_url: str, **settings: str) -> None:
        self._environment = {
            **os.environ,
            **ROOMY,
            # A busy machine is not a fault; tests of time limits set their own.
            "RECYCLING_REDIS_TIMEOUT": "30",
            "RECYCLING_LIMIT_TIMEOUT": "30",
            "RECYCLING_DATABASE_TIMEOUT": "30",
            "RECYCLING_REQUEST_TIMEOUT": "100",
            "RECYCLING_DATABASE_URL": database_url,
            "RECYCLING_REDIS_URL": redis_url,
            "RECYCLING_DURABLE_REDIS_URL": redis_url,
            "RECYCLING_JWT_SECRET": SECRET,
            **{f"RECYCLING_{name.upper()}": value for name, value in settings.items()},
        }
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error::ResourceWarning", "-m", "uvicorn", "--factory"]
        command += ["--no-proxy-headers", "--port", self.url.rpartition(":")[2]]
        command += ["--no-access-log", "examples.recycling.service.app:create_app"]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            text=True,
        )

    def answering(self, path: str = "/health") -> Self:
        """This, once it answers 200 there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self.client.get(path).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the application does not answer: {self.log}")
            time.sleep(0.02)

    @property
    def log(self) -> str:
        """What it has printed."""
        self._log.seek(0)
        return self._log.read()

    def terminate(self) -> None:
        """Ask it to end; it may still be at something."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End it, whatever it is at."""
        self.client.close()
        self.terminate()
        try:
            self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._log.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None, **given: Any) -> Any:
        """GET."""
        return self.client.get(path, headers=headers, **given)

    def __enter__(self) -> Self:
        return self.answering()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Application {self.url} pid={self.process.pid}>"
