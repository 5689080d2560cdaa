"""``cachedorm stats``: statistics of the cache from Redis, outside of the processes that use it.

Each process counts its own hits and misses (``cache.stats()``, observers, the Prometheus exporter).
Redis counts keys: one hit of the cache looks up the entry and each of its stamps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.completion import complete_region
from cachedorm.cli.errors import CommandError, command_errors
from cachedorm.cli.key_statistics import LEASE, KeySample, sample_of
from cachedorm.cli.terminal import about, console, print_json, put, row, shown, size, table
from cachedorm.inspection.declarations import Insight
from cachedorm.store.redis.survey import Survey
from cachedorm.store.runtime.concurrency import sleep

_COUNTED = ("keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys")
_GIVEN = ("total_commands_processed", "used_memory", "maxmemory", "connected_clients")


def stats(
    app: AppOption = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region", help="A region's name; by default all.", autocompletion=complete_region
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Keys to read in each database; 0 for all.")
    ] = 1000,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until interrupted.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between refreshes.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show Redis' own counters, and a sample of the keys in each region's database."""

    def act(cache: Cache) -> None:
        snapshots = _snapshots(cache.insight, region or [], sample or None)
        if not watch:
            _show(next(snapshots), as_json)
        else:
            _watch(snapshots, every, as_json)

    # Ctrl-C is the way to leave --watch.
    with command_errors(), suppress(*([KeyboardInterrupt] if watch else [])):
        with_cache(app, act)


def survey_of(insight: Insight) -> Survey:
    """The Redis of this Cache; raises CommandError if it has none."""
    survey = insight.survey
    if survey is None:
        raise CommandError(
            "this Cache has no Redis: its entries are in the application's memory;"
            " use cache.stats() in that process"
        )
    return survey


def regions_named(insight: Insight, names: list[str]) -> list[Any]:
    """These regions, or all; raises CommandError for one that is not declared."""
    known = {each.name: each for each in insight.regions()}
    for name in names:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise CommandError(f"no region is named {name!r}; declared: {listed}")
    return [known[name] for name in names] or list(known.values())


def _snapshots(insight: Insight, names: list[str], limit: int | None) -> Iterator[dict[str, Any]]:
    """One snapshot after the other, each with the counts since the last."""
    survey = survey_of(insight)
    regions, declared, before = regions_named(insight, names), insight.declared(), None
    while True:
        info, now = survey.info(), time.monotonic()
        dbs = {each.db: [r.name for r in regions if r.db == each.db] for each in regions}
        found = {
            "redis": _server(survey, info),
            "registry": _registry(insight, survey),
            "databases": [
                _database(sample_of(survey, db, declared, limit), names)
                for db, names in sorted(dbs.items())
            ],
        }
        if before is not None:
            found["since"] = _since(before, (now, info))
        before = now, info
        yield found


def _server(survey: Survey, info: Mapping[str, str]) -> dict[str, Any]:
    hits, misses = (_number(info, name) for name in _COUNTED[:2])
    return {
        "where": survey.where,
        "version": info.get("redis_version", "unknown"),
        "uptime_s": _number(info, "uptime_in_seconds"),
        **{name: _number(info, name) for name in (*_COUNTED, *_GIVEN)},
        "keyspace_hit_rate": hits / (hits + misses) if hits + misses else None,
        "maxmemory_policy": info.get("maxmemory_policy", "unknown"),
    }


def _registry(insight: Insight, survey: Survey) -> dict[str, Any]:
    found = survey.registrations()
    own = insight.interests.known
    held = {str(each) for each, _ in found.interests} if found is not None else set()
    return {
        "interests": len(held),
        "of_this_application": len(own & held),
        "not_yet_registered": len(own - held),
        "of_others": len(held - own) + (found.others if found is not None else 0),
    }


def _database(found: KeySample, names: list[str]) -> dict[str, Any]:
    return {
        "db": found.db,
        "regions": names,
        "keys": found.total,
        "sampled": found.sampled,
        "kinds": {kind: found.kinds[kind] for kind in sorted(found.kinds)},
        "estimated": {kind: found.estimated(kind) for kind in sorted(found.kinds)},
        "templates": dict(found.templates.most_common()),
        "entry_bytes": round(found.size_bytes / found.entries) if found.entries else None,
        "biggest": {"bytes": found.biggest[0], "key": found.biggest[1].decode(errors="replace")},
        "left_ms": round(found.left_ms / found.entries) if found.entries else None,
        "past_soft_moment": found.old,
    }


def _since(before: tuple[float, Mapping[str, str]], now: tuple[float, Mapping[str, str]]) -> Any:
    grown = {name: _number(now[1], name) - _number(before[1], name) for name in _COUNTED}
    asked = grown["keyspace_hits"] + grown["keyspace_misses"]
    rate = grown["keyspace_hits"] / asked if asked else None
    return {"seconds": round(now[0] - before[0], 3), **grown, "keyspace_hit_rate": rate}


def _number(info: Mapping[str, str], name: str) -> int:
    value = info.get(name, "0")
    return int(value) if value.isdecimal() else 0


def _watch(snapshots: Iterator[dict[str, Any]], every: float, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        for snapshot in snapshots:
            _show(snapshot, as_json)
            sleep(every)
    with Live(console=console(), auto_refresh=False) as live:
        for snapshot in snapshots:
            live.update(_rendered(snapshot), refresh=True)
            sleep(every)


def _show(snapshot: dict[str, Any], as_json: bool) -> None:
    print_json(snapshot) if as_json else put(_rendered(snapshot))


def _rendered(snapshot: dict[str, Any]) -> Group:
    listed = table(
        "db", "regions", "keys", "values", "absent", "leases", "intents", "stamps", "foreign",
        "avg size", "avg ttl",
    )  # fmt: skip
    keys = table("db", "key", "sampled")
    for each in snapshot["databases"]:
        many = each["estimated"]
        row(
            listed, each["db"], ", ".join(each["regions"]), each["keys"],
            *(_about(each, many.get(kind, 0)) for kind in ("value", "absent")),
            _about(each, many.get(LEASE, 0) + many.get("refresh", 0)),
            _about(each, many.get("intent", 0) + many.get("writers", 0)),
            _about(each, many.get("stamp", 0)),
            _about(each, sum(many.get(k, 0) for k in ("other format", "garbage", "not ours"))),
            "" if each["entry_bytes"] is None else size(each["entry_bytes"]),
            "" if each["left_ms"] is None else about(each["left_ms"]),
        )  # fmt: skip
        for template, count in each["templates"].items():
            row(keys, each["db"], template, count)
    return Group(*_lines(snapshot), listed, *([keys] if keys.row_count else []))


def _about(database: dict[str, Any], number: int) -> str:
    sampled = database["sampled"] < database["keys"] and number
    return f"~{number}" if sampled else str(number)


def _lines(snapshot: dict[str, Any]) -> Iterator[Text]:
    server, registry = snapshot["redis"], snapshot["registry"]
    memory = size(server["used_memory"])
    if server["maxmemory"]:
        memory += f" of {size(server['maxmemory'])}, {server['maxmemory_policy']}"
    yield Text(
        shown(
            f"Redis {server['version']} at {server['where']}, up {server['uptime_s']} s:"
            f" {memory}, {server['connected_clients']} clients"
        )
    )
    yield Text(f"key lookups since server start, all clients: {_rate(server)}")
    if "since" in snapshot:
        yield Text(f"in the last {snapshot['since']['seconds']:g} s: {_rate(snapshot['since'])}")
    yield Text(
        f"registry: {registry['interests']} interests, {registry['of_others']} of other"
        f" applications; {registry['not_yet_registered']} of this one not registered yet"
    )


def _rate(counted: dict[str, Any]) -> str:
    rate = counted["keyspace_hit_rate"]
    share = "no lookups" if rate is None else f"{rate:.1%} found"
    return f"{share}; {counted['evicted_keys']} evicted, {counted['expired_keys']} expired"
