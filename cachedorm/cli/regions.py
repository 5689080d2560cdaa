"""``cachedorm regions``: the declarations, without asking a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.errors import command_errors
from cachedorm.cli.terminal import print_json, put, row, say, seconds, table
from cachedorm.declare.policies.region import Region, as_seconds
from cachedorm.declare.policies.shape import EntityShape
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.inspection.declarations import Declared, Insight


def regions(app: AppOption = None, as_json: AsJson = False) -> None:
    """List every region: database, times, key templates, policies, queries, dependencies."""
    with command_errors():
        found = with_cache(app, _gathered)
    print_json(found) if as_json else _print(found)


def _gathered(cache: Cache) -> dict[str, Any]:
    insight = cache.insight
    declared = insight.declared()
    return {
        "regions": [_region(insight, each, declared) for each in insight.regions()],
        "taken": {str(db): by for db, by in insight.settings.taken.items()},
        "reserved": sorted(insight.settings.reserved),
    }


def _region(insight: Insight, region: Region, declared: Sequence[Declared]) -> dict[str, Any]:
    followed = [
        {"model": shape.owner.class_.__name__, "table": str(shape.owner.local_table)}
        for shape in insight.models()
        if shape.template is None and shape.policy.region == region
    ]
    return {
        "name": region.name,
        "db": region.db,
        "ttl_ms": region.ttl_ms,
        **{f"{name}_ms": _ms(getattr(region, name)) for name in _TIMES},
        "jitter": region.jitter,
        "intents": region.intents,
        "evictable": region.evictable,
        "keys": [_keys(each) for each in declared if each.region == region],
        "followed": followed,
    }


_TIMES = ("negative_ttl", "lease", "wait", "intent", "refresh_ahead", "stale_if_error")


def _ms(duration: timedelta | float) -> int:
    return round(as_seconds(duration, "region") * 1000)


def _keys(declared: Declared) -> dict[str, Any]:
    what = declared.what
    found: dict[str, Any] = {
        "template": declared.template.text,
        "kind": declared.kind,
        "name": declared.name,
        "ttl_ms": declared.ttl_ms,
        "appended": list(declared.appended),
        "on_write": getattr(what, "on_write", "invalidate"),
        "depends_on": list(declared.depends_on),
    }
    if isinstance(what, EntityShape):
        policy = what.policy
        found |= {
            "on_write": policy.on_write,
            "ttl_column": policy.expires_at,
            "negative_ttl_ms": policy.negative_ttl_ms,
            "exclude": list(policy.exclude),
            "writes": list(policy.writes),
        }
    if isinstance(what, CachedQuery):
        found["rows_max"] = what.rows_max
    return found


def _print(found: dict[str, Any]) -> None:
    listed = table(
        "db", "region", "ttl", "negative ttl", "intents", "evictable", "soft", title="regions"
    )
    keys = table("db", "key", "made by", "ttl", "on write", "depends on", title="keys")
    for each in found["regions"]:
        row(
            listed, each["db"], each["name"], seconds(each["ttl_ms"]),
            seconds(each["negative_ttl_ms"]), _yes(each["intents"]), _yes(each["evictable"]),
            _soft(each),
        )  # fmt: skip
        for key in each["keys"]:
            row(
                keys, each["db"], _template(key), _made_by(key), _ttl(key), key["on_write"],
                ", ".join(key["depends_on"]),
            )  # fmt: skip
        for model in each["followed"]:
            row(keys, each["db"], None, f"{model['model']} (followed)", None, None, model["table"])
    put(listed)
    put(keys)
    for db, by in found["taken"].items():
        say(f"database {db} is reserved for {by}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _soft(region: dict[str, Any]) -> str:
    words = (("refresh_ahead", "ahead"), ("stale_if_error", "if error"))
    times = [(word, region[f"{name}_ms"]) for name, word in words]
    return ", ".join(f"{word} {seconds(ms)}" for word, ms in times if ms)


def _template(key: dict[str, Any]) -> str:
    appended = "&".join(f"{name}={{{name}}}" for name in key["appended"])
    return f"{key['template']}?{appended}" if appended else str(key["template"])


def _made_by(key: dict[str, Any]) -> str:
    return str(key["name"]) if key["kind"] == "model" else str(key["kind"])


def _ttl(key: dict[str, Any]) -> str:
    return f"until {key['ttl_column']}" if key.get("ttl_column") else seconds(key["ttl_ms"])
