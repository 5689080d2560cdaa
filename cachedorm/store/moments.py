"""Datetimes and times with their zones, taken apart for storage and put together again.

msgspec keeps naive ones and timezone.utc; every other zone (and a fold) goes beside the naive
value as text: the fold (0 or 1), then nothing (naive), ``z`` and the key of a ZoneInfo, or
``o`` and the offset of a ``datetime.timezone`` in microseconds, with its name if it has one.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo

_Moment = TypeVar("_Moment", datetime, time)


def zone_text(zone: tzinfo | None, fold: int) -> str:
    if zone is None:
        return str(fold)
    if type(zone) is ZoneInfo and zone.key:
        return f"{fold}z{zone.key}"
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return " ".join((f"{fold}o{offset // timedelta(microseconds=1)}", *name))
    raise ValueError(f"its zone {zone!r} has no name to find it by")


@lru_cache(maxsize=1024)
def zone_of(text: str) -> tuple[tzinfo | None, int]:
    fold, how, rest = int(text[:1]), text[1:2], text[2:]
    if how == "z":
        return ZoneInfo(rest), fold
    if how == "o":
        offset, *name = rest.split(" ", 1)
        return timezone(timedelta(microseconds=int(offset)), *name), fold
    if how:
        raise ValueError(f"no zone: {text!r}")
    return None, fold


def write_datetime(value: datetime) -> datetime | tuple[datetime, str]:
    zone = value.tzinfo
    if (zone is None or zone is UTC) and not value.fold:
        return value
    return value.replace(tzinfo=None, fold=0), zone_text(zone, value.fold)


def write_time(value: time) -> time | tuple[time, str]:
    if value.tzinfo is None and not value.fold:
        return value
    return value.replace(tzinfo=None, fold=0), zone_text(value.tzinfo, value.fold)


def read_moment(stored: _Moment | tuple[_Moment, str]) -> _Moment:
    if not isinstance(stored, tuple):
        return stored
    zone, fold = zone_of(stored[1])
    return stored[0].replace(tzinfo=zone, fold=fold)
