"""Datetimes and times with their zones, split for storage and joined again.

msgspec keeps naive ones and datetimes in timezone.utc. Every other zone goes beside the value
as text: the fold (0 or 1), then nothing (naive), ``z`` and the key of a ZoneInfo, or ``o`` and
the offset of a ``datetime.timezone`` in microseconds, with its name if it has one.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

StoredDatetime = datetime | tuple[datetime, str]
"""Beside a zone stands the instant in UTC, or the naive value where no instant leads back."""

StoredTime = time | tuple[time, str]


def write_datetime(value: datetime) -> StoredDatetime:
    """The stored form of a datetime; ValueError for a zone without a name."""
    zone, fold = value.tzinfo, value.fold
    if (zone is None or zone is UTC) and not fold:
        return value
    text = _zone_text(zone, fold)
    instant = None if zone is None else _instant_of(value)
    return instant or value.replace(tzinfo=None, fold=0), text


def _instant_of(value: datetime) -> datetime | None:
    """The instant, if the same local time can be computed back from it.

    It cannot in the hour that a zone skips, with a fold that means nothing, or at the ends of
    the calendar. Reading an instant takes half the time, and follows the zone if it changes.
    """
    try:
        instant = value.astimezone(UTC)
        back = instant.astimezone(value.tzinfo)
    except OverflowError:
        return None
    # Two datetimes of one zone object are compared by their clocks alone. An instant with a fold
    # is what timezone.utc makes of its own; storing it would lose the fold.
    same = back == value and back.fold == value.fold and not instant.fold
    return instant if same else None


def read_datetime(stored: StoredDatetime) -> datetime:
    """The datetime that was written."""
    if type(stored) is not tuple:
        return stored  # type: ignore[return-value]
    moment, text = stored
    zone, fold = _zone_of(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=zone, fold=fold)
    return moment.astimezone(zone)


def write_time(value: time) -> StoredTime:
    """The stored form of a time; ValueError for a zone without a name."""
    if value.tzinfo is None and not value.fold:
        return value
    return value.replace(tzinfo=None, fold=0), _zone_text(value.tzinfo, value.fold)


def read_time(stored: StoredTime) -> time:
    """The time that was written."""
    if not isinstance(stored, tuple):
        return stored
    zone, fold = _zone_of(stored[1])
    return stored[0].replace(tzinfo=zone, fold=fold)


def _zone_text(zone: tzinfo | None, fold: int) -> str:
    if zone is None:
        return str(fold)
    if type(zone) is ZoneInfo and zone.key:
        return f"{fold}z{zone.key}"
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return " ".join((f"{fold}o{offset // timedelta(microseconds=1)}", *name))
    raise ValueError(f"its zone {zone!r} has no name to find it by")


# Bounded, because the texts come from Redis.
@lru_cache(maxsize=1024)
def _zone_of(text: str) -> tuple[tzinfo | None, int]:
    fold, how, rest = int(text[:1]), text[1:2], text[2:]
    if how == "z":
        return ZoneInfo(rest), fold
    if how == "o":
        offset, *name = rest.split(" ", 1)
        return timezone(timedelta(microseconds=int(offset)), *name), fold
    if how:
        raise ValueError(f"no zone: {text!r}")
    return None, fold
