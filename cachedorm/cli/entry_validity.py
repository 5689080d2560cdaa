"""One key as a reader of the cache would judge it, with everything the judgement rests on."""

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
from cachedorm.cli.key_statistics import kind_of
from cachedorm.errors import CachedormError
from cachedorm.inspection.declarations import Insight, Plan
from cachedorm.inspection.entry_values import Readable, readable, readable_unknown
from cachedorm.inspection.key_owners import Recognised, entry_key, meaning, recognised
from cachedorm.responses.composed_values import ComposedValue, composed_form, composed_key
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entries.plain_values import PLAIN, plain_key
from cachedorm.store.protocol.entry import ABSENT, Described, Miss, describe, judge, prefix
from cachedorm.store.protocol.keys import EntryKey, intents_key, refresh_key
from cachedorm.store.redis.survey import Seen, Survey

WHY = {
    Miss.EMPTY: "nothing stands there",
    Miss.LEASE: "somebody is filling it at this moment",
    Miss.INTENT: "a writer is about to commit a change to it, or died doing so",
    Miss.FORMAT: "it was written in another format, by another version of the library",
    Miss.SCHEMA: "its form is another than this application's: other columns, another key, another"
    " database, or other code",
    Miss.FOREIGN: "it was published on another Redis server, or before this one was restarted",
    Miss.STAMP: "a stamp that it carries is gone or is another by now: its rows were written",
    Miss.EXPIRED: "its time is up; it is kept for when the database is down",
    Miss.GARBAGE: "these are not the bytes of an entry",
}
UNNAMED = "its stamps cannot be named: {}"


@dataclass(slots=True)
class Stamp:
    """A stamp that an entry carries: what it stands for, and what Redis has there now."""

    key: str | None
    means: str
    carried: bytes | None
    now: bytes | None

    @property
    def matches(self) -> bool:
        """Whether it still says that nothing has changed."""
        return self.carried is not None and self.carried == self.now


@dataclass(slots=True)
class Verdict:
    """What was found at one key of one database. ``valid`` is None where that cannot be told."""

    db: int
    key: str
    kind: str
    seen: Seen
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


def verdict_on(insight: Insight, survey: Survey, db: int, text: str, most: int) -> Verdict:
    """What stands at this key of this database, and whether a reader would take it."""
    seen = survey.at(db, [text])[0]
    kind, _ = kind_of(seen)
    values, server = survey.read(db, [text])
    slot = values[0] if seen.type == "string" else None
    made = Verdict(db, text, "nothing" if kind == "gone" else kind, seen, describe(slot))
    made.server = server
    if text.startswith("~"):
        made.why = _beside(kind, text, slot, seen)
        return made
    key = _identified(made, insight, text)
    _judge(made, survey, slot, key)
    _judge_sources(made, survey)
    _decode(made, most)
    _look_for_writers(made, survey)
    return made


def _beside(kind: str, text: str, slot: bytes | None, seen: Seen) -> str:
    """What the library keeps beside its entries, in words."""
    match kind:
        case "stamp":
            return f"the stamp of {meaning(text)}: {(slot or b'')[:64].hex()}"
        case "writers" | "writers gone":
            return f"the writers about to commit a change to {text[3:]}: {seen.size} alive"
        case "refresh":
            return f"the lease of whoever fills {text[3:]} anew while it is served"
        case "registry":
            return "the registry: who caches what over which table"
        case _:
            return "nothing of the library's, though the names that begin with ~ are its own"


def _identified(made: Verdict, insight: Insight, text: str) -> EntryKey | None:
    """The key with its stamps, if a declaration and a database tell them."""
    for found in recognised(text, insight.declared(), [made.db]):
        made.found = found
        try:
            made.plan = insight.plan_of(found.declared)
        except (CachedormError, SQLAlchemyError) as error:
            made.why = UNNAMED.format(f"the database does not answer ({one_line(error)})")
            continue
        if made.plan is None:
            made.why = UNNAMED.format("no database is attached to this Cache")
            continue
        key = entry_key(found, text, made.plan, _dialect(insight))
        if key is not None:
            made.why = ""
            return key
        made.why = UNNAMED.format("the values that the key was made of cannot be read from it")
    if made.found is None:
        if made.slot.fingerprint == PLAIN.fingerprint:
            return plain_key(text)
        made.composed = composed_value_in(made.slot)
        if made.composed is not None:
            return composed_key(text, composed_form(made.slot.fingerprint), 0)
        made.why = UNNAMED.format("nothing that is declared here makes such keys")
    return None


def _dialect(insight: Insight) -> Any:
    return next(each.engine.dialect for each in insight.followers)


def _judge(made: Verdict, survey: Survey, slot: bytes | None, key: EntryKey | None) -> None:
    if slot is None or made.slot.holds not in ("value", "absent"):
        # Whatever the form would be: it is no value of any.
        held = judge(slot, prefix(PLAIN, made.server), ())
        if made.slot.holds == "garbage":
            held = Miss.GARBAGE
        made.valid, made.why = False, WHY[held] if isinstance(held, Miss) else made.why
        if made.seen.type not in ("string", "none"):
            made.why = f"a {made.seen.type} stands there, which the cache takes for nothing"
        return
    if key is None:
        made.stamps = [Stamp(None, "", each, None) for each in made.slot.stamps]
        if made.slot.server != _server(made, survey):
            made.valid, made.why = False, WHY[Miss.FOREIGN]
        return
    current, _ = survey.read(made.db, key.stamps)
    made.stamps = _stamps(key.stamps, made.slot.stamps, current)
    server = made.slot.server if made.slot.server == _server(made, survey) else made.server
    held = judge(slot, prefix(key.form, server), current)
    made.valid = not isinstance(held, Miss)
    if isinstance(held, Miss):
        made.why = WHY[held]
    elif held is ABSENT:
        made.why = "there is no such row, and that is remembered"
    else:
        made.why = "every stamp that it carries is the one in Redis"


def _judge_sources(made: Verdict, survey: Survey) -> None:
    if made.composed is None:
        return
    made.sources = source_states(made.composed, survey, made.server)
    invalid = sum(not each.valid for each in made.sources)
    if made.valid and invalid:
        made.valid = False
        made.why = f"{invalid} of the entries that it was made of are not what they were then"
    elif made.valid:
        made.why = "it stands, and so does every entry that it was made of"


def _server(made: Verdict, survey: Survey) -> bytes:
    """The server's identity; asked anew where the line may not have heard of its newest name."""
    if made.slot.server != made.server:
        made.server = survey.identity_again(made.db)
    return made.server


def _stamps(
    keys: Sequence[str], carried: Sequence[bytes], current: Sequence[bytes | None]
) -> list[Stamp]:
    """Side by side; an entry of other code may carry more of them, or fewer."""
    found = [
        Stamp(key, meaning(key), carried[at] if at < len(carried) else None, now)
        for at, (key, now) in enumerate(zip(keys, current, strict=True))
    ]
    return found + [Stamp(None, "", each, None) for each in carried[len(keys) :]]


def _decode(made: Verdict, most: int) -> None:
    if made.slot.holds != "value":
        return
    try:
        plan = made.plan
        if made.composed is not None:
            made.value = readable_content(made.composed)
        elif plan is not None and made.slot.fingerprint == plan.form.fingerprint:
            made.value = readable(plan, made.slot.payload, most)
        else:
            plain = made.slot.fingerprint == PLAIN.fingerprint
            made.value = readable_unknown(made.slot.payload, plain=plain)
    except UNDECODABLE as error:
        made.undecodable = one_line(error)
        if made.valid:
            made.valid, made.why = False, "its stamps match, but its payload cannot be decoded"


def _look_for_writers(made: Verdict, survey: Survey) -> None:
    """Intents that live on the entry or on its stamps, and whoever refreshes it."""
    named = [made.key, *(each.key for each in made.stamps if each.key is not None)]
    beside = [refresh_key(made.key), *(intents_key(each) for each in named)]
    refresh, *intents = survey.at(made.db, beside)
    made.refreshed = refresh.type == "string"
    made.writers = {
        name: each.size
        for name, each in zip(named, intents, strict=True)
        if each.type == "zset" and each.size
    }
