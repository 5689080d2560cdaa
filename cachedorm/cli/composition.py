"""A value composed of other entries, such as a response: its content and its source entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachedorm.errors import ConfigurationError
from cachedorm.inspection.entry_values import Readable
from cachedorm.responses.composed_values import ComposedValue, composed_form, still_valid
from cachedorm.responses.provenance import SourceEntry, digest_of
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.protocol.entry import Described, describe
from cachedorm.store.redis.survey import Survey

_IN_PROGRESS = {"lease": "is being filled", "intent": "is being written"}


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source entry of a composed value, and its state now."""

    source: SourceEntry
    valid: bool
    state: str


def composed_value_in(slot: Described) -> ComposedValue | None:
    """The composed value that a slot holds; None if it holds something else."""
    if slot.holds != "value":
        return None
    try:
        found: ComposedValue = composed_form(slot.fingerprint).decode(slot.payload)
    except UNDECODABLE:
        return None
    return found if found.sources else None


def readable_content(composed: ComposedValue) -> Readable:
    """The content for people; bytes that are UTF-8 text become text."""
    return Readable("value composed of other entries", 1, [{"value": _texts(composed.content)}])


def _texts(value: Any) -> Any:
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value
        case list() | tuple():
            return [_texts(each) for each in value]
        case dict():
            return {name: _texts(each) for name, each in value.items()}
        case _:
            return value


def source_states(composed: ComposedValue, survey: Survey, server: bytes) -> list[SourceState]:
    """The state of each source entry, checked as a reader of the composed value checks it."""
    return [_state_of(source, survey, server) for source in composed.sources]


def _state_of(source: SourceEntry, survey: Survey, server: bytes) -> SourceState:
    names = (source.key, *source.stamps)
    try:
        values, _ = survey.read(source.db, names)
    except ConfigurationError:
        return SourceState(source, valid=False, state="the server has no such database")
    current = dict(zip(names, values, strict=True))
    if still_valid(source, current, server):
        return SourceState(source, valid=True, state="valid")
    return SourceState(source, valid=False, state=_why_invalid(source, current))


def _why_invalid(source: SourceEntry, current: Mapping[str, bytes | None]) -> str:
    slot = current[source.key]
    if slot is None:
        return "missing"
    if digest_of(slot) == source.digest:
        return "same bytes, but no longer valid"
    return _IN_PROGRESS.get(describe(slot).holds, "replaced by another value")
