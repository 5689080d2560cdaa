"""`python -m examples.recycling.serve`: as a stranger runs it, until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import httpx
from sqlalchemy import create_engine, text

from examples.servers import Found
from examples.servers.private_server import free_port
from tests.fixtures.patience import PATIENCE
from tests.support.service.process import ROOT


def test_it_says_how_to_call_it_and_leaves_nothing(servers: Found, town_redis: str) -> None:
    """Every line it prints works; afterwards its database is gone."""
    before = databases(servers)
    command = [sys.executable, "-m", "examples.recycling.serve", "--port", str(free_port())]
    found = {
        "CACHEDORM_DATABASE_URL": servers.database_url,
        "CACHEDORM_REDIS_URL": town_redis,
        # A busy machine is not a fault.
        "RECYCLING_LIMIT_TIMEOUT": "30",
        "RECYCLING_DATABASE_TIMEOUT": "30",
        "RECYCLING_REQUEST_TIMEOUT": "100",
    }
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **found}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line, "it ended early"
                lines.append(line)
            calls = calls_in("".join(lines))
            assert len(calls) == 12
            for method, url, headers, body in calls:
                assert told(method, url, headers, body).status_code == 200, url
        finally:
            process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert rest.endswith("nothing left running\n")
    assert databases(servers) == before


def calls_in(said: str) -> list[tuple[str, str, dict[str, str], str | None]]:
    """The curl lines, read as a shell would."""
    token = re.findall(r"^TOKEN=(\S+)$", said, re.MULTILINE)[0]
    calls = []
    for line in re.findall(r"^curl .*$", said, re.MULTILINE):
        line = line.replace("$TOKEN", token)
        method = (re.findall(r"-X (\w+)", line) or ["GET"])[0]
        named = [each.partition(": ") for each in re.findall(r"-H [\"'](.*?)[\"']", line)]
        body = re.findall(r"-d '(.*?)'", line) or [
            each.replace('\\"', '"') for each in re.findall(r'-d "(.*)"', line)
        ]
        url = re.findall(r"'(http.*?)'", line)[0]
        headers = {name: value for name, _, value in named}
        calls.append((method, url, headers, body[0] if body else None))
    return calls


def told(method: str, url: str, headers: dict[str, str], body: str | None) -> httpx.Response:
    """The answer, once the server listens."""
    content = None if body is None else body.encode()
    for _ in range(2400):
        try:
            return httpx.request(method, url, headers=headers, content=content, timeout=PATIENCE)
        except httpx.ConnectError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens at {url}")


def databases(servers: Found) -> set[str]:
    engine = create_engine(servers.database_url)
    with engine.connect() as connection:
        names = connection.scalars(text("select datname from pg_database")).all()
    engine.dispose()
    return set(names)
