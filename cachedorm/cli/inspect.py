"""``cachedorm inspect KEY``: what a key holds, and whether a reader would accept it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.completion import complete_region
from cachedorm.cli.entry_validity import EntryReport, Stamp, report_on
from cachedorm.cli.errors import CommandError, command_errors
from cachedorm.cli.stats import regions_named, survey_of
from cachedorm.cli.terminal import about, plain, print_json, put, row, say, size, table
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.inspection.declarations import Declared, Insight
from cachedorm.inspection.key_owners import recognised
from cachedorm.store.redis.survey import Survey


@dataclass(frozen=True, slots=True)
class Inspection:
    """The reports on one key, one for each database that has it or could have it."""

    reports: list[EntryReport]
    regions: dict[int, list[str]]
    dbs: list[int]


def inspect(
    key: Annotated[str, typer.Argument(help="The key in Redis, such as user:profile:42.")],
    app: AppOption = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="The region to search; all by default.",
            autocompletion=complete_region,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of a value to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show what a key holds: value, header and stamps; whether it is valid, and if not, why."""
    if not key:
        raise CommandError("inspect: the key is empty")
    with command_errors():
        inspection = with_cache(app, lambda cache: _inspect(cache, key, region, rows))
    if as_json:
        print_json(
            {"key": key, "found": [_report(each, inspection) for each in inspection.reports]}
        )
        return
    for each in inspection.reports:
        _print(_report(each, inspection))


def _inspect(cache: Cache, key: str, region: str | None, rows: int) -> Inspection:
    insight = cache.insight
    survey = survey_of(insight)
    regions = regions_named(insight, [region] if region else [])
    names: dict[int, list[str]] = {}
    for each in regions:
        names.setdefault(each.db, []).append(each.name)
    dbs = _dbs(insight, survey, key, sorted(names))
    return Inspection(
        [report_on(insight, survey, db, key, rows) for db in dbs], names, sorted(names)
    )


def _dbs(insight: Insight, survey: Survey, key: str, dbs: list[int]) -> list[int]:
    """The databases that hold the key; if none does, those that would."""
    holding = [db for db in dbs if survey.at(db, [key])[0].type != "none"]
    if holding:
        return holding
    declared = {each.declared.region.db for each in recognised(key, insight.declared(), dbs)}
    return sorted(declared) or dbs[:1]


def _report(entry: EntryReport, inspection: Inspection) -> dict[str, Any]:
    """The report as JSON."""
    slot = entry.slot
    report: dict[str, Any] = {
        "db": entry.db,
        "regions": inspection.regions[entry.db],
        "key": entry.key,
        "kind": entry.kind,
        "type": entry.seen.type,
        "ttl_ms": entry.seen.left_ms if entry.seen.type != "none" else None,
        "size_bytes": entry.seen.size if entry.seen.type == "string" else None,
        "valid": entry.valid,
        "why": entry.why,
        "declared": None if entry.found is None else _declared(entry.found.declared),
        "looked_in": inspection.dbs,
        "writers": entry.writers,
        "refreshing": entry.refreshed,
    }
    if slot.holds in ("lease", "intent"):
        report["token"] = slot.token.hex()
    if slot.holds in ("value", "absent"):
        report["header"] = _header(entry)
        report["stamps"] = [_stamp(each) for each in entry.stamps]
    if entry.sources:
        report["sources"] = [
            {"db": each.source.db, "key": each.source.key, "valid": each.valid, "state": each.state}
            for each in entry.sources
        ]
    if slot.holds == "other format":
        report["header"] = {"version": slot.version}
    if slot.holds == "value":
        report["value"] = _value(entry)
    return report


def _stamp(stamp: Stamp) -> dict[str, Any]:
    return {
        "key": stamp.key,
        "covers": stamp.means,
        "carried": stamp.carried and stamp.carried.hex(),
        "now": stamp.now and stamp.now.hex(),
        "matches": stamp.matches if stamp.key is not None else None,
    }


def _header(entry: EntryReport) -> dict[str, Any]:
    slot = entry.slot
    expected = entry.plan.form.fingerprint if entry.plan is not None else None
    return {
        "version": slot.version,
        "fingerprint": slot.fingerprint.hex(),
        "expected_fingerprint": expected and expected.hex(),
        "server": slot.server.hex(),
        "this_server": entry.server.hex(),
        "created": _moment(slot.created_ms),
        "soft_end": _moment(slot.soft_ms),
        "outlives": slot.outlives,
        "kept": slot.kept,
    }


def _value(entry: EntryReport) -> dict[str, Any]:
    if entry.value is None:
        return {"undecodable": entry.undecodable, "begins": entry.slot.payload[:64].hex()}
    return {"of": entry.value.what, "count": entry.value.count, "rows": list(entry.value.rows)}


def _moment(ms: int) -> str | None:
    """A time of a header as text; a damaged one as its number."""
    if not ms:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms, out of range"


def _declared(declared: Declared) -> dict[str, Any]:
    what = declared.what
    report: dict[str, Any] = {
        "kind": declared.kind,
        "name": declared.name,
        "template": declared.template.text,
        "depends_on": list(declared.depends_on),
    }
    if isinstance(what, CachedQuery):
        report["on_write"] = what.on_write
        report["statement"] = " ".join(str(what.statement).split())
    return report


_MARKS = {True: "valid", False: "not valid", None: "unknown"}
_STYLES = {True: "green", False: "yellow", None: ""}


def _print(report: dict[str, Any]) -> None:
    where = f"database {report['db']} ({', '.join(report['regions'])})"
    say(f"{report['key']}  in {where}", style="bold")
    if report["kind"] == "nothing" and report["declared"] is None:
        dbs = ", ".join(map(str, report["looked_in"]))
        say(f"no such key in database {dbs}; no template makes such keys")
        return
    facts = table("", "", plain=True)
    for name, value in _facts(report):
        row(facts, name, value)
    put(facts)
    mark = f"{_MARKS[report['valid']]}: " if not report["key"].startswith("~") else ""
    say(f"{mark}{report['why']}", style=_STYLES[report["valid"]])
    if report.get("stamps"):
        _print_stamps(report["stamps"])
    if report.get("sources"):
        _print_sources(report["sources"])
    if "value" in report:
        _print_value(report["value"])


def _facts(report: dict[str, Any]) -> list[tuple[str, Any]]:
    kind = (
        report["kind"]
        if report["type"] in ("string", "none")
        else f"{report['kind']} ({report['type']})"
    )
    facts = [("kind", kind)]
    if report["type"] != "none":
        ttl = report["ttl_ms"]
        facts.append(("time left", "no expiry" if ttl is None else about(ttl)))
    if report["size_bytes"] is not None:
        facts.append(("size", size(report["size_bytes"])))
    if report["declared"] is not None:
        declared = report["declared"]
        facts.append((declared["kind"], f"{declared['name']}, key {declared['template']}"))
        facts.append(("depends on", ", ".join(declared["depends_on"])))
        if "statement" in declared:
            facts.append(("statement", declared["statement"]))
    facts += _header_facts(report.get("header", {}))
    facts += [("intents on", f"{key}: {count}") for key, count in report["writers"].items()]
    if report["refreshing"]:
        facts.append(("refresh", "in progress, ahead of its expiry"))
    return facts


def _header_facts(header: dict[str, Any]) -> list[tuple[str, Any]]:
    """The header's lines for people: a fingerprint that differs, and marks that are set."""
    facts = [("format", header["version"])] if header else []
    facts += [(name, header[name]) for name in ("created",) if header.get(name)]
    if header.get("soft_end"):
        facts.append(("soft end", header["soft_end"]))
    expected, form = header.get("expected_fingerprint"), header.get("fingerprint")
    if form:
        note = "" if expected in (None, form) else f", this application's is {expected}"
        note = ", same as here" if expected == form else note
        facts.append(("fingerprint", form + note))
        mine = header["server"] == header["this_server"]
        facts.append(("server", header["server"] + (", this one" if mine else ", another")))
    facts += [("mark", name) for name in ("outlives", "kept") if header.get(name)]
    return facts


def _print_stamps(stamps: list[dict[str, Any]]) -> None:
    listed = table("stamp", "covers", "carried", "in Redis", "")
    for each in stamps:
        if each["key"] is None:
            row(listed, "?", None, _short(each["carried"]), None, None)
            continue
        state = "matches" if each["matches"] else "differs" if each["now"] else "missing"
        carried, now = _short(each["carried"]), _short(each["now"])
        row(listed, each["key"], each["covers"], carried, now, state)
    put(listed)


def _print_sources(sources: list[dict[str, Any]]) -> None:
    listed = table("db", "source entry", "")
    for each in sources:
        row(listed, each["db"], each["key"], each["state"])
    put(listed)


def _short(stamp: str | None) -> str | None:
    """The first bytes: enough to see that two stamps differ."""
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
