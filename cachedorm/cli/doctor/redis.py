"""What a Redis server is and how it is set up, against what the cache needs of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from cachedorm.cli.doctor.findings import Finding, error, info, ok, unknown, warning
from cachedorm.cli.errors import one_line
from cachedorm.cli.key_statistics import STRANGE, census
from cachedorm.cli.terminal import size
from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import EntityShape
from cachedorm.errors import CacheUnavailable, ConfigurationError
from cachedorm.inspection.declarations import Insight
from cachedorm.store.redis.survey import Survey

OLDEST = (6, 2)
COMMANDS = 20
SAMPLE = 1000
# Beyond this a clock is wrong; below it is a machine's usual drift, and the way to the server.
CLOCK_SECONDS = 1.0
_AT_RANDOM = "whatever it comes upon, the intents of writers and the leases of readers among them"
# What each policy evicts that comes to intents sooner than to entries nobody asks for.
_TAKES_INTENTS_EARLY = {
    "volatile-ttl": "first what ends first: the intents of writers and the leases of readers,"
    " which live for seconds",
    "volatile-random": _AT_RANDOM,
    "allkeys-random": _AT_RANDOM,
}


def examine_redis(insight: Insight) -> Iterator[Finding]:
    """Everything that Redis itself tells; one finding if it does not answer."""
    survey = insight.survey
    if survey is None:
        yield info(
            "redis", "this Cache has no Redis: its entries live in the application's process",
            "give it a URL, Cache('redis://...'), where several processes share a database",
        )  # fmt: skip
        return
    try:
        yield from _examined(insight, survey, survey.info())
    except (CacheUnavailable, ConfigurationError) as failure:
        yield unknown(
            "redis", f"Redis cannot be examined: {one_line(failure)}",
            "start it, or mend the URL, the account's rights or the network between",
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
    yield from _strangers(insight, survey, regions)


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
            "role", "this server is a replica, which refuses every write of the cache",
            "connect to its master",
        )  # fmt: skip
    if facts.get("loading", "0") != "0":
        yield warning("role", "the server is still loading its data", "run this again later")


def _latency(survey: Survey) -> Finding:
    taken = survey.latencies(COMMANDS)
    median, worst = taken[len(taken) // 2], taken[-1]
    limit = survey.operation_timeout
    said = (
        f"a command takes {median * 1000:.2f} ms (median of {COMMANDS}; the longest"
        f" {worst * 1000:.2f} ms); the limit is {limit * 1000:g} ms"
    )
    if worst > limit / 2:
        return warning(
            "latency", said,
            "move Redis nearer, find what blocks it (SLOWLOG), or raise"
            " Cache(operation_timeout=...): what takes longer goes to the database",
        )  # fmt: skip
    return ok("latency", said)


def _numbers(
    survey: Survey, facts: Mapping[str, str], regions: Sequence[Region]
) -> Iterator[Finding]:
    if facts.get("cluster_enabled") == "1":
        yield error(
            "databases", "this is a Redis Cluster, which has database 0 alone",
            "connect to a standalone server; regions are numbered databases",
        )  # fmt: skip
        return
    count = survey.databases()
    beyond = [f"{region.name} ({region.db})" for region in regions if region.db >= count]
    if beyond:
        yield error(
            "databases", f"the server has {count} databases; beyond them: {', '.join(beyond)}",
            f"raise `databases` in its configuration, or use numbers below {count}",
        )  # fmt: skip
    else:
        yield ok("databases", f"the server has {count} databases, enough for every region")


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    used, most = (int(facts.get(name, "0") or 0) for name in ("used_memory", "maxmemory"))
    policy = facts.get("maxmemory_policy", "unknown")
    if not most:
        yield warning(
            "memory", f"{size(used)} used, and maxmemory is 0: nothing bounds it",
            "set maxmemory, and a maxmemory-policy for when it is reached",
        )  # fmt: skip
    elif used > most * 0.9 and policy == "noeviction":
        yield error(
            "memory", f"{size(used)} of {size(most)} used, and nothing is evicted: at the limit"
            " Redis refuses writes, so that nothing is cached and commits hide no entry",
            "raise maxmemory, shorten times to live, or let it evict (volatile-lru)",
        )  # fmt: skip
    else:
        yield ok("memory", f"{size(used)} of {size(most)} used")


def _eviction(
    insight: Insight, facts: Mapping[str, str], regions: Sequence[Region]
) -> Iterator[Finding]:
    policy = facts.get("maxmemory_policy", "unknown")
    bounded = facts.get("maxmemory", "0") != "0"
    evicted = int(facts.get("evicted_keys", "0") or 0)
    if policy == "noeviction" or policy == "unknown":
        yield ok("maxmemory-policy", f"{policy}: no key is evicted")
        return
    reached = f"{evicted} keys evicted since its start" if bounded else "maxmemory is 0, so not yet"
    kept = [region.name for region in regions if not region.evictable]
    if kept:
        yield (error if bounded else warning)(
            "evictable", f"{policy} may evict what must not be: region {', '.join(kept)} is"
            f" declared evictable=False ({reached})",
            "give those regions a Cache on a Redis with maxmemory-policy noeviction",
        )  # fmt: skip
    neighbours = [
        f"{db} ({by})" for db, by in sorted(insight.settings.taken.items()) if f"db{db}" in facts
    ]
    if neighbours:
        yield warning(
            "evictable", f"{policy} may evict what other libraries keep here: database"
            f" {', '.join(neighbours)} ({reached})",
            "give what must not be evicted a Redis of its own, with noeviction",
        )  # fmt: skip
    if policy.startswith("allkeys"):
        said = "any key, intents of writers and the registry of interests among them"
    else:
        said = "keys with an end, which all of the cache's have"
    early = _TAKES_INTENTS_EARLY.get(policy)
    if early is not None and bounded:
        yield warning(
            "maxmemory-policy", f"{policy} evicts {early} ({reached})",
            "take noeviction, or volatile-lru or allkeys-lru, which keep what was just used",
        )  # fmt: skip
    yield info(
        "maxmemory-policy", f"{policy} evicts {said} ({reached}): an entry, a stamp or a lease"
        " lost is a miss; an intent lost while its COMMIT is in flight may show new and then old,"
        " and with a crash as well leaves an old entry for its time to live",
        "noeviction, with memory enough, keeps intents",
    )  # fmt: skip


def _persistence(survey: Survey, facts: Mapping[str, str]) -> Iterator[Finding]:
    saves, aof = survey.setting("save"), facts.get("aof_enabled") == "1"
    rdb = saves != "" if saves is not None else facts.get("rdb_last_save_time", "0") != "0"
    ways = [name for name, on in (("RDB snapshots", rdb), ("AOF", aof)) if on]
    if ways:
        yield info(
            "persistence", f"{' and '.join(ways)}: after a restart what was saved takes memory,"
            " but none of it is served, for commits may have come since",
            "the cache needs no persistence; leave it on only for what else is on this server",
        )  # fmt: skip
    else:
        yield ok("persistence", "none, which suits a cache: after a restart it is cold")
    failing = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failing:
        yield error(
            "persistence", f"the last save failed ({', '.join(failing)}): Redis may refuse writes",
            "look into its log; mend the disk, or switch persistence off",
        )  # fmt: skip


def _clock(survey: Survey, models: Sequence[EntityShape], regions: Sequence[Region]) -> Finding:
    lead, exact = survey.clock_lead()
    said = f"Redis' clock is {lead:+.3f} s from this machine's (known to {exact * 1000:.1f} ms)"
    if abs(lead) - exact < CLOCK_SECONDS:
        return ok("clock", said)
    timed = [region.name for region in regions if region.refresh_ahead or region.stale_if_error]
    timed += [m.owner.class_.__name__ for m in models if m.policy.expires_at is not None]
    if not timed:
        return info("clock", said, "nothing declared here goes by this machine's clock")
    return warning(
        "clock", f"{said}; the ends of {', '.join(timed)} go by this machine's clock",
        "keep both clocks by NTP",
    )  # fmt: skip


def _registry(insight: Insight, survey: Survey) -> Finding:
    found = survey.registrations()
    if found is None:
        return info("registry", "nobody has registered yet what it caches here")
    held = {str(each) for each, _ in found.interests}
    others = len(held - insight.interests.known) + found.others
    said = f"{len(held)} interests are registered, {others} of them unknown to this code"
    if others:
        return info(
            "registry", said,
            "other versions or applications cache here; commits follow them by whole tables",
        )  # fmt: skip
    return ok("registry", said)


def _strangers(insight: Insight, survey: Survey, regions: Sequence[Region]) -> Iterator[Finding]:
    declared = insight.declared()
    for db in sorted({region.db for region in regions}):
        try:
            found = census(survey, db, declared, SAMPLE)
        except ConfigurationError:
            continue  # said above: the server has no such database
        count = sum(found.kinds[kind] for kind in STRANGE)
        if count:
            example = found.strange[0].decode(errors="backslashreplace")
            yield warning(
                "strangers", f"{count} of {found.sampled} keys looked at in database {db} are no"
                f" entries, as {example!r}: somebody else writes there",
                "give each its own database; Regions(taken={...}) keeps numbers free",
            )  # fmt: skip
