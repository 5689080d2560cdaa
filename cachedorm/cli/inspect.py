"""``cachedorm inspect KEY``: what stands at a key, and whether a reader would take it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cachedorm.cache import Cache
from cachedorm.cli.application import App, AsJson, working_on
from cachedorm.cli.completion import complete_region
from cachedorm.cli.entry_validity import Stamp, Verdict, verdict_on
from cachedorm.cli.errors import Refused, refusing
from cachedorm.cli.stats import regions_named, survey_of
from cachedorm.cli.terminal import about, plain, print_json, put, row, say, size, table
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.inspection.declarations import Declared, Insight
from cachedorm.inspection.key_owners import recognised
from cachedorm.store.redis.survey import Survey


@dataclass(frozen=True, slots=True)
class Looked:
    """The verdicts on one key, one for each database where it is or may be."""

    verdicts: list[Verdict]
    regions: dict[int, list[str]]
    dbs: list[int]


def inspect(
    key: Annotated[str, typer.Argument(help="The key as Redis has it, as in user:profile:42.")],
    app: App = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="Where to look; by default in every region.",
            autocompletion=complete_region,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows of a value to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """What stands at a key: its value, header and stamps; whether it is valid, and if not, why."""
    if not key:
        raise Refused("inspect: the key is empty")
    with refusing():
        looked = working_on(app, lambda cache: _looked(cache, key, region, rows))
    if as_json:
        print_json({"key": key, "found": [_told(each, looked) for each in looked.verdicts]})
        return
    for each in looked.verdicts:
        _print(_told(each, looked))


def _looked(cache: Cache, key: str, region: str | None, rows: int) -> Looked:
    insight = cache.insight
    survey = survey_of(insight)
    regions = regions_named(insight, [region] if region else [])
    names: dict[int, list[str]] = {}
    for each in regions:
        names.setdefault(each.db, []).append(each.name)
    dbs = _dbs(insight, survey, key, sorted(names))
    return Looked([verdict_on(insight, survey, db, key, rows) for db in dbs], names, sorted(names))


def _dbs(insight: Insight, survey: Survey, key: str, dbs: list[int]) -> list[int]:
    """The databases that the key is in; where it is in none, those that it would be in."""
    holding = [db for db in dbs if survey.at(db, [key])[0].type != "none"]
    if holding:
        return holding
    declared = {each.declared.region.db for each in recognised(key, insight.declared(), dbs)}
    return sorted(declared) or dbs[:1]


def _told(made: Verdict, looked: Looked) -> dict[str, Any]:
    """Everything about one key, as JSON has it."""
    slot = made.slot
    told: dict[str, Any] = {
        "db": made.db,
        "regions": looked.regions[made.db],
        "key": made.key,
        "kind": made.kind,
        "type": made.seen.type,
        "ttl_ms": made.seen.left_ms if made.seen.type != "none" else None,
        "size_bytes": made.seen.size if made.seen.type == "string" else None,
        "valid": made.valid,
        "why": made.why,
        "declared": None if made.found is None else _declared(made.found.declared),
        "looked_in": looked.dbs,
        "writers": made.writers,
        "refresh_under_way": made.refreshed,
    }
    if slot.holds in ("lease", "intent"):
        told["token"] = slot.token.hex()
    if slot.holds in ("value", "absent"):
        told["header"] = _header(made)
        told["stamps"] = [_stamp(each) for each in made.stamps]
    if made.sources:
        told["made_of"] = [
            {"db": each.source.db, "key": each.source.key, "valid": each.valid, "state": each.state}
            for each in made.sources
        ]
    if slot.holds == "other format":
        told["header"] = {"version": slot.version}
    if slot.holds == "value":
        told["value"] = _value(made)
    return told


def _stamp(stamp: Stamp) -> dict[str, Any]:
    return {
        "key": stamp.key,
        "means": stamp.means,
        "carried": stamp.carried and stamp.carried.hex(),
        "now": stamp.now and stamp.now.hex(),
        "matches": stamp.matches if stamp.key is not None else None,
    }


def _header(made: Verdict) -> dict[str, Any]:
    slot = made.slot
    expected = made.plan.form.fingerprint if made.plan is not None else None
    return {
        "version": slot.version,
        "fingerprint": slot.fingerprint.hex(),
        "expected_fingerprint": expected and expected.hex(),
        "server": slot.server.hex(),
        "this_server": made.server.hex(),
        "created": _moment(slot.created_ms),
        "soft_end": _moment(slot.soft_ms),
        "outlives": slot.outlives,
        "kept": slot.kept,
    }


def _value(made: Verdict) -> dict[str, Any]:
    if made.value is None:
        return {"undecodable": made.undecodable, "begins": made.slot.payload[:64].hex()}
    return {"of": made.value.what, "count": made.value.count, "rows": list(made.value.rows)}


def _moment(ms: int) -> str | None:
    """An instant of a header; whatever stands there, it is shown."""
    if not ms:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms, which is no time"


def _declared(declared: Declared) -> dict[str, Any]:
    what = declared.what
    told: dict[str, Any] = {
        "kind": declared.kind,
        "name": declared.name,
        "template": declared.template.text,
        "depends_on": list(declared.depends_on),
    }
    if isinstance(what, CachedQuery):
        told["on_write"] = what.on_write
        told["statement"] = " ".join(str(what.statement).split())
    return told


_MARKS = {True: "valid", False: "not valid", None: "cannot be told"}
_STYLES = {True: "green", False: "yellow", None: ""}


def _print(told: dict[str, Any]) -> None:
    where = f"database {told['db']} ({', '.join(told['regions'])})"
    say(f"{told['key']}  in {where}", style="bold")
    if told["kind"] == "nothing" and told["declared"] is None:
        dbs = ", ".join(map(str, told["looked_in"]))
        say(f"nothing stands there, nor in any of the databases {dbs}; no template makes such keys")
        return
    facts = table("", "", plain=True)
    for name, value in _facts(told):
        row(facts, name, value)
    put(facts)
    mark = f"{_MARKS[told['valid']]}: " if not told["key"].startswith("~") else ""
    say(f"{mark}{told['why']}", style=_STYLES[told["valid"]])
    if told.get("stamps"):
        _print_stamps(told["stamps"])
    if told.get("made_of"):
        _print_parts(told["made_of"])
    if "value" in told:
        _print_value(told["value"])


def _facts(told: dict[str, Any]) -> list[tuple[str, Any]]:
    kind = (
        told["kind"] if told["type"] in ("string", "none") else f"{told['kind']} ({told['type']})"
    )
    facts = [("kind", kind)]
    if told["type"] != "none":
        ttl = told["ttl_ms"]
        facts.append(("time left", "no end" if ttl is None else about(ttl)))
    if told["size_bytes"] is not None:
        facts.append(("size", size(told["size_bytes"])))
    if told["declared"] is not None:
        declared = told["declared"]
        facts.append((declared["kind"], f"{declared['name']}, key {declared['template']}"))
        facts.append(("depends on", ", ".join(declared["depends_on"])))
        if "statement" in declared:
            facts.append(("statement", declared["statement"]))
    facts += _header_facts(told.get("header", {}))
    facts += [("intents on", f"{key}: {count}") for key, count in told["writers"].items()]
    if told["refresh_under_way"]:
        facts.append(("refresh", "somebody is filling it anew while it is served"))
    return facts


def _header_facts(header: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is worth a line: names only where they differ, marks only where they are set."""
    facts = [("format", header["version"])] if header else []
    facts += [(name, header[name]) for name in ("created",) if header.get(name)]
    if header.get("soft_end"):
        facts.append(("soft end", header["soft_end"]))
    expected, form = header.get("expected_fingerprint"), header.get("fingerprint")
    if form:
        said = "" if expected is None else ", as here" if form == expected else f", here {expected}"
        facts.append(("fingerprint", form + said))
        mine = header["server"] == header["this_server"]
        facts.append(("server", header["server"] + (", this one" if mine else ", another")))
    facts += [("mark", name) for name in ("outlives", "kept") if header.get(name)]
    return facts


def _print_stamps(stamps: list[dict[str, Any]]) -> None:
    listed = table("stamp", "stands for", "carried", "in Redis now", "")
    for each in stamps:
        if each["key"] is None:
            row(listed, "?", None, _short(each["carried"]), None, None)
            continue
        state = "matches" if each["matches"] else "differs" if each["now"] else "gone"
        carried, now = _short(each["carried"]), _short(each["now"])
        row(listed, each["key"], each["means"], carried, now, state)
    put(listed)


def _print_parts(parts: list[dict[str, Any]]) -> None:
    listed = table("db", "made of", "")
    for each in parts:
        row(listed, each["db"], each["key"], each["state"])
    put(listed)


def _short(stamp: str | None) -> str | None:
    """Enough of 16 random bytes to see that two are not the same."""
    return None if stamp is None else f"{stamp[:8]}…"


def _print_value(value: dict[str, Any]) -> None:
    if "undecodable" in value:
        say(f"value: cannot be decoded ({value['undecodable']}); begins {value['begins']}")
        return
    rows = value["rows"]
    say(f"value: {value['count']} x {value['of']}" + _shown_of(value))
    if len(rows) == 1:
        listed = table("", "", plain=True)
        for name, each in rows[0].items():
            row(listed, f"  {name}", plain(each))
        put(listed)
    elif rows:
        names = list(dict.fromkeys(name for each in rows for name in each))
        listed = table(*names)
        for each in rows:
            row(listed, *(plain(each.get(name)) for name in names))
        put(listed)


def _shown_of(value: dict[str, Any]) -> str:
    shown = len(value["rows"])
    return f", the first {shown}" if 0 < shown < value["count"] else ""
