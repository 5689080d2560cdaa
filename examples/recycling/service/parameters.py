"""The parameters of the path operations, each with the limits of what it stands for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import BeforeValidator

from examples.recycling.service.tokens import IDENTIFIER

# No control characters: PostgreSQL has no place for a NUL, and nobody a use for the others.
LINE: Final = r"^[^\x00-\x1F\x7F]*$"
# The same with something in it beside blanks, or a search would find every row.
WORD: Final = r"^[^\x00-\x1F\x7F]*[^\x00-\x1F\x7F\s][^\x00-\x1F\x7F]*$"
RADIUS_KM_MAX: Final = 100
HISTORY_MAX: Final = 100
# Of one gain. A character holds far more; whoever earns that in one step has not recycled.
EXP_MAX: Final = 1_000_000

_WHOLE = re.compile(r"-?[0-9]{1,19}\Z")
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?\Z")


def whole(given: object) -> object:
    """Digits, and nothing that Python's own int() would make of a text besides."""
    if isinstance(given, str) and not _WHOLE.match(given):
        raise ValueError("write a whole number in digits")
    return given


def number(given: object) -> object:
    """A decimal number; no "inf", no "1_0"."""
    if isinstance(given, str) and not _NUMBER.match(given):
        raise ValueError("write a decimal number")
    return given


_TEXT: dict[str, Any] = {"min_length": 1, "max_length": 64, "pattern": IDENTIFIER}
USER_ID: dict[str, Any] = {**_TEXT, "examples": ["u0001"]}

CenterId = Annotated[str, Path(**_TEXT, examples=["c00001"])]
Category = Annotated[str, Path(**_TEXT, examples=["plastic"])]
TaskId = Annotated[str, Path(**_TEXT)]
Jti = Annotated[str, Path(**_TEXT)]

Whole = BeforeValidator(whole)
Number = BeforeValidator(number)

# Outside of the limits, or the schema would not show them.
Latitude = Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False, examples=[37.5665]), Number]
Longitude = Annotated[
    float, Query(ge=-180, le=180, allow_inf_nan=False, examples=[126.978]), Number
]
RadiusKm = Annotated[int, Query(ge=1, le=RADIUS_KM_MAX, description="Whole kilometres"), Whole]
Keyword = Annotated[str, Query(min_length=1, max_length=100, pattern=WORD, examples=["페트병"])]
HistoryLimit = Annotated[int, Query(ge=1, le=HISTORY_MAX), Whole]
Exp = Annotated[int, Query(ge=1, le=EXP_MAX, description="Experience to gain"), Whole]
