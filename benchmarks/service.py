"""The service under load by ``wrk``, with the cache and without it.

    python -m benchmarks.service   prints the table; --write puts it into benchmarks/service.md

Needs ``wrk`` (Debian: apt-get install wrk).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import httpx
import sqlalchemy

from examples.recycling.serve import TOKEN_LIFE, USER, prepared
from examples.recycling.service.tokens import Tokens
from examples.recycling.settings import Settings
from examples.servers import servers

CONNECTIONS: Final = 8
ROOMY: Final = "100000000/minute"
PORTS: Final = {"on": 8101, "off": 8102}
TICKS: Final = os.sysconf("SC_CLK_TCK")

# Another point of the town at each request.
SPREAD: Final = """
request = function()
  local lat, lon = 37.45 + math.random() * 0.2, 126.85 + math.random() * 0.3
  return wrk.format(nil, string.format("/centers/nearby?lat=%.5f&lon=%.5f&radius=2", lat, lon))
end
"""

# What is asked for, and what serves it when the cache is on.
ROUTES: Final = {
    "/guides/plastic": "response",
    "/search?keyword=plastic": "response",
    "/centers/c00001": "response",
    "/centers/nearby?lat=37.5665&lon=126.978&radius=5": "response",
    "/centers/nearby, another point each time": "candidates of the cell",
    f"/profile/{USER}": "row",
    f"/character/{USER}": "query",
    f"/chat/history/{USER}?limit=20": "query",
}


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk: requests a second, milliseconds, and the server's CPU for a request."""

    rate: float
    p50: float
    p99: float
    cpu_us: float


def main() -> int:
    """Print the table; 2 without wrk or without servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="into benchmarks/service.md")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed; Debian has it: apt-get install wrk", file=sys.stderr)
        return 2
    with servers() as found, prepared(found) as settings, running(settings) as pids:
        runs = {route: rounds(settings, pids, route, given) for route in ROUTES}
    made = table(runs, given)
    print(made)
    if given.write:
        written(Path(__file__).with_suffix(".md"), made)
    return 0


@contextmanager
def running(settings: Settings) -> Iterator[Mapping[str, int]]:
    """Two processes of the service on the same servers, one of them with its cache off."""
    shared = {
        "RECYCLING_DATABASE_URL": settings.database_url,
        "RECYCLING_REDIS_URL": settings.redis_url,
        "RECYCLING_DURABLE_REDIS_URL": settings.durable_redis_url,
        "RECYCLING_JWT_SECRET": settings.jwt_secret.get_secret_value(),
        **{f"RECYCLING_LIMIT_{name}": ROOMY for name in ("ADDRESS", "USER")},
    }
    started = {}
    try:
        for name, port in PORTS.items():
            command = [sys.executable, "-m", "uvicorn", "--factory", "--port", str(port)]
            command += ["--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
            started[name] = subprocess.Popen(
                [*command, "examples.recycling.service.app:create_app"],
                env={**os.environ, **shared, "RECYCLING_CACHE": str(name == "on")},
            )
        for port in PORTS.values():
            ready(port)
        yield {name: process.pid for name, process in started.items()}
    finally:
        for process in started.values():
            process.send_signal(signal.SIGTERM)
        for process in started.values():
            process.wait(30)


def ready(port: int) -> None:
    """Wait until the service answers that it is; TimeoutError after a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"nothing is ready at port {port}")


def rounds(
    settings: Settings, pids: Mapping[str, int], route: str, given: argparse.Namespace
) -> dict[str, list[Load]]:
    """Each process in turn, one round to warm up and the others to count."""
    tokens = Tokens(settings.jwt_secret.get_secret_value(), settings.jwt_issuer)
    token = tokens.issue(USER, TOKEN_LIFE)
    found: dict[str, list[Load]] = {name: [] for name in pids}
    for number in range(given.rounds + 1):
        for name in sorted(pids, reverse=bool(number % 2)):
            load = loaded(pids[name], PORTS[name], route, token, given.seconds)
            if number:
                found[name].append(load)
    return found


def loaded(pid: int, port: int, route: str, token: str, seconds: int) -> Load:
    """One run of wrk; ValueError if not every answer was a good one."""
    base, spread = f"http://127.0.0.1:{port}", "another point" in route
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    if ROUTES[route] in {"row", "query"}:
        command += ["-H", f"Authorization: Bearer {token}"]
    with NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SPREAD)
        script.flush()
        command += ["-s", script.name, base] if spread else [base + route]
        before = cpu_seconds(pid)
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used = cpu_seconds(pid) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise ValueError(f"{route}: {said}")
    requests = int(number_after(r"(\d+) requests in", said))
    return Load(
        rate=number_after(r"Requests/sec:\s+([\d.]+)", said),
        p50=milliseconds("50%", said),
        p99=milliseconds("99%", said),
        cpu_us=used / requests * 1e6,
    )


def number_after(pattern: str, said: str) -> float:
    """The number that wrk printed there."""
    found = re.search(pattern, said)
    if found is None:
        raise ValueError(f"no {pattern!r} in what wrk said:\n{said}")
    return float(found[1])


def milliseconds(percentile: str, said: str) -> float:
    """A line of wrk's latencies, whatever its unit."""
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)\n", said)
    if found is None:
        raise ValueError(f"no {percentile} in what wrk said:\n{said}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def cpu_seconds(pid: int) -> float:
    """What a process has used until now, in user and kernel mode (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def table(runs: Mapping[str, Mapping[str, list[Load]]], given: argparse.Namespace) -> str:
    """Medians of the rounds as Markdown; the ratios are medians of each round's ratio."""
    lines = [
        f"Machine: {sys.platform}, {os.cpu_count()} cores; {given.rounds} rounds of"
        f" {given.seconds} s. SQLAlchemy {sqlalchemy.__version__},"
        f" Python {sys.version.split()[0]}.",
        "",
        "| request | served from | requests/s on | off | ratio | p50 ms on | off"
        " | p99 ms on | off | CPU us on | off |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for route, found in runs.items():
        on, off = found["on"], found["off"]
        ratio = statistics.median(a.rate / b.rate for a, b in zip(on, off, strict=True))
        cells = [f"{median(on, 'rate'):.0f}", f"{median(off, 'rate'):.0f}", f"{ratio:.2f}"]
        for name in ("p50", "p99"):
            cells += [f"{median(on, name):.1f}", f"{median(off, name):.1f}"]
        cells += [f"{median(on, 'cpu_us'):.0f}", f"{median(off, 'cpu_us'):.0f}"]
        lines.append(" | ".join([f"| `{route}`", ROUTES[route], *cells]) + " |")
    return "\n".join(lines)


def median(loads: list[Load], name: str) -> float:
    """Of one figure of the rounds."""
    figures: list[float] = [getattr(load, name) for load in loads]
    return statistics.median(figures)


def written(document: Path, made: str) -> None:
    """The table in place of the one in the document, from "Machine:" up to the next heading."""
    text = document.read_text()
    start = text.index("Machine:")
    end = text.find("\n## ", start)
    document.write_text(text[:start] + made + "\n" + (text[end:] if end >= 0 else ""))


if __name__ == "__main__":
    sys.exit(main())
