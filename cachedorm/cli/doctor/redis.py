"""A Redis server and its configuration, compared with what the cache needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from cachedorm.cli.doctor.findings import Finding, error, info, ok, unknown, warning
from cachedorm.cli.errors import one_line
from cachedorm.cli.key_statistics import FOREIGN_KINDS, sample_of
from cachedorm.cli.terminal import size
from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import EntityShape
from cachedorm.errors import CacheUnavailable, ConfigurationError
from cachedorm.inspection.declarations import Insight
from cachedorm.store.redis.survey import Survey

OLDEST = (6, 2)
COMMANDS = 20
SAMPLE = 1000
# A larger difference means a wrong clock; a smaller one is usual drift and latency.
CLOCK_SECONDS = 1.0
_AT_RANDOM = "at random, intents of writers and leases of readers included"
# Policies that evict intents sooner than entries that are not read.
_EVICTS_INTENTS_EARLY = {
    "volatile-ttl": "what expires first: intents of writers and leases of readers, which live for"
    " seconds",
    "volatile-random": _AT_RANDOM,
    "allkeys-random": _AT_RANDOM,
}


def examine_redis(insight: Insight) -> Iterator[Finding]:
    """Findings about Redis; a single one if it is unavailable."""
    survey = insight.survey
    if survey is None:
        yield info(
            "redis", "this Cache has no Redis: its entries are in the application's memory",
            "if several processes share a database, give it a URL: Cache('redis://...')",
        )  # fmt: skip
        return
    try:
        yield from _examined(insight, survey, survey.info())
    except (CacheUnavailable, ConfigurationError) as failure:
        yield unknown(
            "redis", f"Redis cannot be examined: {one_line(failure)}",
            "start it, or check the URL, the account's rights and the network",
        )  # fmt: skip


def _examined(insight: Insight, survey: Survey, facts: Mapping[str, str]) -> Iterator[Finding]:
    regions = insight.regions()
    yield _version(survey, facts)
    yield from _role(facts)
    yield _latency(survey)
    yield from _numbers(survey, facts, regions)
    yield from _memory(facts)
    yield from _eviction(insight, facts, regions)
    yield from _persistence(survey, facts)
    yield _clock(survey, insight.models(), regions)
    yield _registry(insight, survey)
    yield from _foreign_keys(insight, survey, regions)


def _version(survey: Survey, facts: Mapping[str, str]) -> Finding:
    text = facts.get("redis_version", "unknown")
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    where = f"{facts.get('server_name', 'Redis').capitalize()} {text} at {survey.where}"
    if numbers < OLDEST:
        return error("version", f"{where} is too old", "run Redis 6.2 or newer")
    return ok("version", where)


def _role(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("role") == "slave":
        yield error(
            "role", "this server is a replica and rejects writes",
            "connect to its master",
        )  # fmt: skip
    if facts.get("loading", "0") != "0":
        yield warning("role", "the server is still loading its data", "run this again later")


def _latency(survey: Survey) -> Finding:
    taken = survey.latencies(COMMANDS)
    median, worst = taken[len(taken) // 2], taken[-1]
    limit = survey.operation_timeout
    text = (
        f"a command takes {median * 1000:.2f} ms (median of {COMMANDS}; maximum"
        f" {worst * 1000:.2f} ms); the limit is {limit * 1000:g} ms"
    )
    if worst > limit / 2:
        return warning(
            "latency", text,
            "move Redis closer, find what blocks it (SLOWLOG), or raise"
            " Cache(operation_timeout=...): reads that time out go to the database",
        )  # fmt: skip
    return ok("latency", text)


def _numbers(
    survey: Survey, facts: Mapping[str, str], regions: Sequence[Region]
) -> Iterator[Finding]:
    if facts.get("cluster_enabled") == "1":
        yield error(
            "databases", "this is a Redis Cluster, which has only database 0",
            "connect to a standalone server; regions are numbered databases",
        )  # fmt: skip
        return
    count = survey.databases()
    beyond = [f"{region.name} ({region.db})" for region in regions if region.db >= count]
    if beyond:
        yield error(
            "databases", f"the server has {count} databases; out of range: {', '.join(beyond)}",
            f"raise `databases` in its configuration, or use numbers below {count}",
        )  # fmt: skip
    else:
        yield ok("databases", f"the server has {count} databases, enough for every region")


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    used, most = (int(facts.get(name, "0") or 0) for name in ("used_memory", "maxmemory"))
    policy = facts.get("maxmemory_policy", "unknown")
    if not most:
        yield warning(
            "memory", f"{size(used)} used, and maxmemory is 0: memory is unbounded",
            "set maxmemory and a maxmemory-policy",
        )  # fmt: skip
    elif used > most * 0.9 and policy == "noeviction":
        yield error(
            "memory", f"{size(used)} of {size(most)} used, and noeviction: at the limit Redis"
            " rejects writes, so nothing is cached and commits cannot invalidate",
            "raise maxmemory, shorten TTLs, or allow eviction (volatile-lru)",
        )  # fmt: skip
    else:
        yield ok("memory", f"{size(used)} of {size(most)} used")


def _eviction(
    insight: Insight, facts: Mapping[str, str], regions: Sequence[Region]
) -> Iterator[Finding]:
    policy = facts.get("maxmemory_policy", "unknown")
    bounded = facts.get("maxmemory", "0") != "0"
    if policy == "noeviction" or policy == "unknown":
        yield ok("maxmemory-policy", f"{policy}: no key is evicted")
        return
    evicted = int(facts.get("evicted_keys", "0") or 0)
    count = (
        f"{evicted} keys evicted since server start" if bounded else "maxmemory is 0, so none yet"
    )
    yield from _must_stay(insight, facts, regions, policy, count)
    yield from _policy(policy, count, bounded=bounded)


def _must_stay(
    insight: Insight, facts: Mapping[str, str], regions: Sequence[Region], policy: str, count: str
) -> Iterator[Finding]:
    bounded = facts.get("maxmemory", "0") != "0"
    kept = [region.name for region in regions if not region.evictable]
    if kept:
        yield (error if bounded else warning)(
            "evictable", f"{policy} may evict keys that must stay: region {', '.join(kept)} is"
            f" declared evictable=False ({count})",
            "give those regions a Cache on a Redis with maxmemory-policy noeviction",
        )  # fmt: skip
    neighbours = [
        f"{db} ({by})" for db, by in sorted(insight.settings.taken.items()) if f"db{db}" in facts
    ]
    if neighbours:
        yield warning(
            "evictable", f"{policy} may evict keys of other libraries: database"
            f" {', '.join(neighbours)} ({count})",
            "move keys that must stay to a separate Redis with noeviction",
        )  # fmt: skip


def _policy(policy: str, count: str, *, bounded: bool) -> Iterator[Finding]:
    early = _EVICTS_INTENTS_EARLY.get(policy)
    if early is not None and bounded:
        yield warning(
            "maxmemory-policy", f"{policy} evicts {early} ({count})",
            "use noeviction, or volatile-lru or allkeys-lru, which keep recently used keys",
        )  # fmt: skip
    if policy.startswith("allkeys"):
        which = "any key, including intents of writers and the registry of interests"
    else:
        which = "keys with a TTL, which all keys of the cache have"
    yield info(
        "maxmemory-policy", f"{policy} evicts {which} ({count}): a lost entry, stamp or lease is"
        " a miss; a lost intent may show new and then old values while its COMMIT is in flight,"
        " and with a crash as well leaves a stale entry until it expires",
        "use noeviction, with enough memory, to keep intents",
    )  # fmt: skip


def _persistence(survey: Survey, facts: Mapping[str, str]) -> Iterator[Finding]:
    saves, aof = survey.setting("save"), facts.get("aof_enabled") == "1"
    rdb = saves != "" if saves is not None else facts.get("rdb_last_save_time", "0") != "0"
    ways = [name for name, on in (("RDB snapshots", rdb), ("AOF", aof)) if on]
    if ways:
        yield info(
            "persistence", f"{' and '.join(ways)}: after a restart the saved entries take"
            " memory but are not served, because commits may have followed",
            "switch it off unless other data on this server needs it",
        )  # fmt: skip
    else:
        yield ok("persistence", "none, which is right for a cache: it is cold after a restart")
    failing = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failing:
        yield error(
            "persistence", f"the last save failed ({', '.join(failing)}): Redis may reject writes",
            "see its log; repair the disk, or switch persistence off",
        )  # fmt: skip


def _clock(survey: Survey, models: Sequence[EntityShape], regions: Sequence[Region]) -> Finding:
    lead, exact = survey.clock_lead()
    text = (
        f"Redis' clock differs by {lead:+.3f} s from this machine's (within {exact * 1000:.1f} ms)"
    )
    if abs(lead) - exact < CLOCK_SECONDS:
        return ok("clock", text)
    timed = [region.name for region in regions if region.refresh_ahead or region.stale_if_error]
    timed += [m.owner.class_.__name__ for m in models if m.policy.expires_at is not None]
    if not timed:
        return info("clock", text, "no declaration here uses this machine's clock")
    return warning(
        "clock", f"{text}; the expiry of {', '.join(timed)} uses this machine's clock",
        "synchronise both clocks with NTP",
    )  # fmt: skip


def _registry(insight: Insight, survey: Survey) -> Finding:
    found = survey.registrations()
    if found is None:
        return info("registry", "nothing is registered yet")
    held = {str(each) for each, _ in found.interests}
    others = len(held - insight.interests.known) + found.others
    text = f"{len(held)} interests are registered, {others} of them unknown to this code"
    if others:
        return info(
            "registry", text,
            "other versions or applications cache here; commits invalidate theirs by whole table",
        )  # fmt: skip
    return ok("registry", text)


def _foreign_keys(insight: Insight, survey: Survey, regions: Sequence[Region]) -> Iterator[Finding]:
    declared = insight.declared()
    for db in sorted({region.db for region in regions}):
        try:
            found = sample_of(survey, db, declared, SAMPLE)
        except ConfigurationError:
            continue  # reported above: the server has no such database
        count = sum(found.kinds[kind] for kind in FOREIGN_KINDS)
        if count:
            example = found.strange[0].decode(errors="backslashreplace")
            yield warning(
                "strangers", f"{count} of {found.sampled} keys sampled in database {db} are not"
                f" entries, such as {example!r}: other software writes there",
                "use separate databases; Regions(taken={...}) reserves their numbers",
            )  # fmt: skip
