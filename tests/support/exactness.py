"""Equality that forgives nothing: type, zone, fold, exponent, sign of zero and NaN count."""

from __future__ import annotations

import math
from collections.abc import Hashable
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo


def exact(value: Any) -> Hashable:
    """A form of the value that is equal only for values nobody can tell apart."""
    if isinstance(value, float):
        return float, "nan" if math.isnan(value) else value.hex()
    if isinstance(value, Decimal):
        return Decimal, str(value)
    if isinstance(value, datetime | time):
        naive = value.replace(tzinfo=None, fold=0)
        return type(value), naive, value.fold, _zone(value.tzinfo)
    if isinstance(value, list | tuple):
        return type(value), tuple(map(exact, value))
    if isinstance(value, dict):
        return dict, tuple((exact(key), exact(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(exact, value))
    if hasattr(value, "srid"):
        data = value.data
        return (
            type(value),
            type(data),
            bytes(data, "ascii") if isinstance(data, str) else bytes(data),
            value.srid,
            value.extended,
        )
    return type(value), value


def _zone(zone: Any) -> Hashable:
    if isinstance(zone, ZoneInfo):
        return ZoneInfo, zone.key
    return type(zone), repr(zone) if isinstance(zone, timezone) else zone
