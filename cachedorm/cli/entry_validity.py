"""One key as a reader of the cache sees it: whether its entry is valid, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cachedorm.cli.composition import (
    SourceState,
    composed_value_in,
    readable_content,
    source_states,
)
from cachedorm.cli.errors import one_line
from cachedorm.cli.key_statistics import slot_kind
from cachedorm.errors import CachedormError
from cachedorm.inspection.declarations import Insight, Plan
from cachedorm.inspection.entry_values import Readable, readable_unknown
from cachedorm.inspection.key_owners import Recognised, entry_key, meaning, recognised
from cachedorm.responses.composed_values import ComposedValue, composed_form, composed_key
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entries.plain_values import PLAIN, plain_key
from cachedorm.store.protocol.entry import ABSENT, Described, Miss, describe, judge, prefix
from cachedorm.store.protocol.keys import EntryKey, intents_key, refresh_key
from cachedorm.store.redis.survey import KeyInfo, Survey

WHY = {
    Miss.EMPTY: "there is no entry",
    Miss.LEASE: "a reader is filling it now",
    Miss.INTENT: "a writer is about to commit a change to it, or died while doing so",
    Miss.FORMAT: "it was written in another format, by another version of the library",
    Miss.SCHEMA: "its schema differs from this application's: other columns, another key, another"
    " database, or other code",
    Miss.FOREIGN: "it was published on another Redis server, or before this one was restarted",
    Miss.STAMP: "one of its stamps has changed or is missing: its rows were written",
    Miss.EXPIRED: "it has expired; it is kept in case the database is unavailable",
    Miss.GARBAGE: "its bytes are not an entry",
}
UNKNOWN_STAMPS = "its stamps are unknown: {}"


@dataclass(slots=True)
class Stamp:
    """A stamp that an entry carries: what it covers, and its value in Redis now."""

    key: str | None
    means: str
    carried: bytes | None
    now: bytes | None

    @property
    def matches(self) -> bool:
        """Whether the entry carries the value that is in Redis now."""
        return self.carried is not None and self.carried == self.now


@dataclass(slots=True)
class EntryReport:
    """What one key of one database holds. ``valid`` is None if that cannot be determined."""

    db: int
    key: str
    kind: str
    seen: KeyInfo
    slot: Described
    found: Recognised | None = None
    plan: Plan | None = None
    server: bytes = b""
    valid: bool | None = None
    why: str = ""
    stamps: list[Stamp] = field(default_factory=list)
    # Set for a value that was composed of other entries.
    composed: ComposedValue | None = None
    sources: list[SourceState] = field(default_factory=list)
    value: Readable | None = None
    undecodable: str | None = None
    writers: dict[str, int] = field(default_factory=dict)
    refreshed: bool = False


def report_on(insight: Insight, survey: Survey, db: int, text: str, most: int) -> EntryReport:
    """Report what this key holds, and whether a reader would accept it."""
    seen = survey.at(db, [text])[0]
    kind, _ = slot_kind(seen)
    values, server = survey.read(db, [text])
    slot = values[0] if seen.type == "string" else None
    report = EntryReport(db, text, "nothing" if kind == "gone" else kind, seen, describe(slot))
    report.server = server
    if text.startswith("~"):
        report.why = _internal_key(kind, text, slot, seen)
        return report
    key = _identified(report, insight, text)
    _judge(report, survey, slot, key)
    _judge_sources(report, survey)
    _decode(report, most)
    _look_for_writers(report, survey)
    return report


def _internal_key(kind: str, text: str, slot: bytes | None, seen: KeyInfo) -> str:
    """What an internal key of the library holds, in words."""
    match kind:
        case "stamp":
            return f"the stamp of {meaning(text)}: {(slot or b'')[:64].hex()}"
        case "writers" | "writers gone":
            return f"the writers about to commit a change to {text[3:]}: {seen.size} alive"
        case "refresh":
            return f"the lease of the reader that refreshes {text[3:]} ahead of its expiry"
        case "registry":
            return "the registry of interests: what is cached over which table"
        case _:
            return "not the library's, although names that begin with ~ are reserved for it"


def _identified(report: EntryReport, insight: Insight, text: str) -> EntryKey | None:
    """The key with its stamps; None if no declaration or no database gives them."""
    for found in recognised(text, insight.declared(), [report.db]):
        report.found = found
        try:
            report.plan = insight.plan_of(found.declared)
        except (CachedormError, SQLAlchemyError) as error:
            report.why = UNKNOWN_STAMPS.format(f"the database is unavailable ({one_line(error)})")
            continue
        if report.plan is None:
            report.why = UNKNOWN_STAMPS.format("no database is attached to this Cache")
            continue
        key = entry_key(found, text, report.plan, _dialect(insight))
        if key is not None:
            report.why = ""
            return key
        report.why = UNKNOWN_STAMPS.format("its values cannot be read back from the key")
    if report.found is None:
        if report.slot.fingerprint == PLAIN.fingerprint:
            return plain_key(text)
        report.composed = composed_value_in(report.slot)
        if report.composed is not None:
            return composed_key(text, composed_form(report.slot.fingerprint), 0)
        report.why = UNKNOWN_STAMPS.format("no declaration here makes such keys")
    return None


def _dialect(insight: Insight) -> Any:
    return next(each.engine.dialect for each in insight.trackers)


def _judge(report: EntryReport, survey: Survey, slot: bytes | None, key: EntryKey | None) -> None:
    if slot is None or report.slot.holds not in ("value", "absent"):
        # Any form will do: the slot does not hold a value.
        held = judge(slot, prefix(PLAIN, report.server), ())
        if report.slot.holds == "garbage":
            held = Miss.GARBAGE
        report.valid, report.why = False, WHY[held] if isinstance(held, Miss) else report.why
        if report.seen.type not in ("string", "none"):
            report.why = f"the key holds a {report.seen.type}, which the cache treats as a miss"
        return
    if key is None:
        report.stamps = [Stamp(None, "", each, None) for each in report.slot.stamps]
        if report.slot.server != _server(report, survey):
            report.valid, report.why = False, WHY[Miss.FOREIGN]
        return
    current, _ = survey.read(report.db, key.stamps)
    report.stamps = _stamps(key.stamps, report.slot.stamps, current)
    server = report.slot.server if report.slot.server == _server(report, survey) else report.server
    held = judge(slot, prefix(key.form, server), current)
    report.valid = not isinstance(held, Miss)
    if isinstance(held, Miss):
        report.why = WHY[held]
    elif held is ABSENT:
        report.why = "the absence of the row is cached"
    else:
        report.why = "every stamp matches"


def _judge_sources(report: EntryReport, survey: Survey) -> None:
    if report.composed is None:
        return
    report.sources = source_states(report.composed, survey, report.server)
    invalid = sum(not each.valid for each in report.sources)
    if report.valid and invalid:
        report.valid = False
        report.why = f"{invalid} of its source entries have changed"
    elif report.valid:
        report.why = "the value and all its source entries are valid"


def _server(report: EntryReport, survey: Survey) -> bytes:
    """The server's identity; asked again if the connection may know an old one."""
    if report.slot.server != report.server:
        report.server = survey.identity_again(report.db)
    return report.server


def _stamps(
    keys: Sequence[str], carried: Sequence[bytes], current: Sequence[bytes | None]
) -> list[Stamp]:
    """The stamps side by side; an entry of other code may carry more or fewer."""
    found = [
        Stamp(key, meaning(key), carried[at] if at < len(carried) else None, now)
        for at, (key, now) in enumerate(zip(keys, current, strict=True))
    ]
    return found + [Stamp(None, "", each, None) for each in carried[len(keys) :]]


def _decode(report: EntryReport, most: int) -> None:
    if report.slot.holds != "value":
        return
    try:
        plan = report.plan
        if report.composed is not None:
            report.value = readable_content(report.composed)
        elif plan is not None and report.slot.fingerprint == plan.form.fingerprint:
            report.value = plan.readable(report.slot.payload, most)
        else:
            plain = report.slot.fingerprint == PLAIN.fingerprint
            report.value = readable_unknown(report.slot.payload, plain=plain)
    except UNDECODABLE as error:
        report.undecodable = one_line(error)
        if report.valid:
            report.valid, report.why = False, "its stamps match, but its value cannot be decoded"


def _look_for_writers(report: EntryReport, survey: Survey) -> None:
    """Find the intents on the entry and its stamps, and a refresh in progress."""
    named = [report.key, *(each.key for each in report.stamps if each.key is not None)]
    beside = [refresh_key(report.key), *(intents_key(each) for each in named)]
    refresh, *intents = survey.at(report.db, beside)
    report.refreshed = refresh.type == "string"
    report.writers = {
        name: each.size
        for name, each in zip(named, intents, strict=True)
        if each.type == "zset" and each.size
    }
