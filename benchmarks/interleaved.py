"""Compare the client CPU of several ways to do one thing, interleaved in one process.

Wall time of a loopback round trip is bimodal and moves by a factor of two between runs, so what is
compared is ``time.process_time``, as a ratio to a baseline measured in the same rounds. Every round
runs each contestant once, in an order that is shuffled anew; the ratio is taken within the round,
and the median of the rounds' ratios is quoted with the quartiles.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
import sqlalchemy

Contestant = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Figure:
    """What one contestant needed: the ratio to the baseline, and microseconds a call."""

    name: str
    ratio: float
    low: float
    high: float
    cpu_us: float
    wall_us: float


def compare(
    contestants: Mapping[str, Contestant],
    *,
    baseline: str,
    rounds: int = 60,
    calls: int = 200,
    seed: int = 1,
) -> list[Figure]:
    """Run all contestants in each round; the baseline is one of them."""
    order, shuffled = list(contestants), random.Random(seed)
    cpu: dict[str, list[float]] = {name: [] for name in order}
    wall: dict[str, list[float]] = {name: [] for name in order}
    for name in order:
        _timed(contestants[name], calls)  # warm
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffled.shuffle(order)
            for name in order:
                cpu_seconds, wall_seconds = _timed(contestants[name], calls)
                cpu[name].append(cpu_seconds)
                wall[name].append(wall_seconds)
            gc.collect()
    finally:
        gc.enable()
    return [_figure(name, cpu, wall, baseline, calls) for name in contestants]


def table(title: str, figures: list[Figure], must: Mapping[str, float]) -> str:
    """The figures as Markdown; ``must`` says what a contestant is held to."""
    lines = [
        f"### {title}",
        "",
        "| | CPU ratio (median) | quartiles | CPU us | wall us | held to |",
        "|---|---|---|---|---|---|",
    ]
    for each in figures:
        held = must.get(each.name)
        verdict = "" if held is None else f"{held} {'ok' if each.ratio <= held else 'MISSED'}"
        lines.append(
            f"| {each.name} | {each.ratio:.2f} | {each.low:.2f} - {each.high:.2f}"
            f" | {each.cpu_us:.1f} | {each.wall_us:.1f} | {verdict} |"
        )
    return "\n".join(lines)


def publish(
    script: str, heading: str, method: str | None, figures: list[Figure], must: Mapping[str, float]
) -> None:
    """Print the table; with ``--write`` keep it beside the script, and how it was made."""
    publish_tables(script, heading, method, [table(versions(), figures, must)])


def versions() -> str:
    """What was measured with."""
    return (
        f"SQLAlchemy {sqlalchemy.__version__}, redis-py {redis.__version__},"
        f" Python {platform.python_version()}"
    )


def publish_tables(script: str, heading: str, method: str | None, tables: Sequence[str]) -> None:
    """Print the tables; with ``--write`` keep them beside the script, and how they were made.

    What is written by hand below the mark "## What it says" stays.
    """
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f} when it ended"
    )
    text = "\n\n".join(tables)
    print(f"{machine}\n{text}")
    if "--write" in sys.argv:
        path = Path(script).with_suffix(".md")
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        _, mark, remarks = old.partition("## What it says")
        parts = [f"# {heading}", (method or "").strip(), f"Machine: {machine}.", text]
        path.write_text("\n\n".join(parts) + f"\n\n{mark}{remarks}".rstrip() + "\n", "utf-8")


def _timed(contestant: Contestant, calls: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        contestant()
    return time.process_time() - cpu, time.perf_counter() - wall


def _figure(
    name: str,
    cpu: Mapping[str, list[float]],
    wall: Mapping[str, list[float]],
    baseline: str,
    calls: int,
) -> Figure:
    ratios = [mine / base for mine, base in zip(cpu[name], cpu[baseline], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Figure(
        name,
        middle,
        low,
        high,
        statistics.median(cpu[name]) / calls * 1e6,
        statistics.median(wall[name]) / calls * 1e6,
    )
