"""A value that was made of other entries, such as a response: what it says, and made of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cachedorm.errors import ConfigurationError
from cachedorm.inspection.entry_values import Readable
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.entries.derived import Held, Made, made_form, stands
from cachedorm.store.entries.provenance import Part, digest_of
from cachedorm.store.protocol.entry import Described, describe
from cachedorm.store.redis.survey import Survey

_AT_WORK = {"lease": "is being filled", "intent": "is being written"}


@dataclass(frozen=True, slots=True)
class PartSeen:
    """An entry that the value was made of, and what has become of it."""

    part: Part
    stands: bool
    state: str


def made_in(slot: Described) -> Made | None:
    """The value with its parts, if the slot holds such a one."""
    if slot.holds != "value":
        return None
    try:
        found: Made = made_form(slot.fingerprint).decode(slot.payload)
    except UNDECODABLE:
        return None
    return found if found.parts else None


def readable_made(made: Made) -> Readable:
    """What the value says, for people: bytes that are text are shown as that."""
    return Readable("value made of other entries", 1, [{"value": _texts(made.content)}])


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


def parts_seen(made: Made, survey: Survey, server: bytes) -> list[PartSeen]:
    """Each part, judged as a reader of the value judges it."""
    return [_seen(part, survey, server) for part in made.parts]


def _seen(part: Part, survey: Survey, server: bytes) -> PartSeen:
    names = (part.key, *part.stamps)
    try:
        values, _ = survey.read(part.db, names)
    except ConfigurationError:
        return PartSeen(part, stands=False, state="the server has no such database")
    standing = dict(zip(names, values, strict=True))
    if stands(part, standing, server):
        return PartSeen(part, stands=True, state="stands")
    return PartSeen(part, stands=False, state=_fallen(part, standing))


def _fallen(part: Part, standing: Held) -> str:
    slot = standing[part.key]
    if slot is None:
        return "gone"
    if digest_of(slot) == part.digest:
        return "not valid any more"
    return _AT_WORK.get(describe(slot).holds, "another by now")
