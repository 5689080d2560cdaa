"""The values whose stored bytes are kept in ``v1.txt``. Add to them; never change one."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from geoalchemy2 import WKBElement

from cachedorm.store.codec import Kind, array_kind, encode_plain, enum_kind, geometry_kind
from cachedorm.store.codec import row_codec as codec_of
from cachedorm.store.protocol.entry import intent_slot, lease_slot, value_slot


class Status(enum.Enum):
    DONE = "done"


EWKB = bytes.fromhex("0101000020e6100000000000000000f03f0000000000000040")
SEOUL = ZoneInfo("Asia/Seoul")
NEW_YORK = ZoneInfo("America/New_York")

CELLS: dict[str, tuple[Kind, Any]] = {
    "int": (Kind.INT, -42),
    "int of 64 bits": (Kind.INT, 2**64 - 1),
    "float": (Kind.FLOAT, -0.0),
    "str": (Kind.STR, "플라스틱 병"),
    "bool": (Kind.BOOL, True),
    "bytes": (Kind.BYTES, b"\x00\xff"),
    "uuid": (Kind.UUID, UUID("12345678-1234-5678-1234-567812345678")),
    "decimal": (Kind.DECIMAL, Decimal("1.50")),
    "decimal nan": (Kind.DECIMAL, Decimal("NaN")),
    "date": (Kind.DATE, date(2026, 1, 31)),
    "timedelta": (Kind.TIMEDELTA, timedelta(days=-1, microseconds=1)),
    "datetime naive": (Kind.DATETIME, datetime(2026, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001
    "datetime naive fold": (Kind.DATETIME, datetime(2026, 1, 2, fold=1)),  # noqa: DTZ001
    "datetime UTC": (Kind.DATETIME, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    "datetime zone": (Kind.DATETIME, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=SEOUL)),
    "datetime twice": (Kind.DATETIME, datetime(2024, 11, 3, 1, 30, fold=1, tzinfo=NEW_YORK)),
    "datetime never": (Kind.DATETIME, datetime(2024, 3, 10, 2, 30, tzinfo=NEW_YORK)),
    "datetime offset": (
        Kind.DATETIME,
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=9), "KST")),
    ),
    "time naive": (Kind.TIME, time(1, 2, 3, 4)),
    "time offset": (Kind.TIME, time(1, 2, tzinfo=timezone(timedelta(hours=-5)))),
    "json": (Kind.JSON, {"가": [1, 1.0, None, True, "x", {}], "big": -(2**70)}),
    "enum": (enum_kind(Status), Status.DONE),
    "array": (array_kind(Kind.INT), [[1, None], [2, 3]]),
    "array empty": (array_kind(Kind.INT), []),
    "array as tuple": (array_kind(Kind.UUID, as_tuple=True), (UUID(int=1),)),
    "geometry bytes": (geometry_kind(), WKBElement(EWKB)),
    "geometry memoryview": (geometry_kind(), WKBElement(memoryview(EWKB), 4326, True)),
    "geometry text": (geometry_kind(), WKBElement(EWKB.hex())),
    "null": (Kind.INT, None),
}
PLAIN: dict[str, Any] = {
    "plain none": None,
    "plain dict": {"a": 1, "b": [1.5, "x", b"y"]},
    "plain pairs": {1: "x", (2, 3): None},
    "plain tuple": (1, (2,)),
    "plain set": {7},
    "plain frozenset": frozenset([7]),
    "plain big": 2**100,
    "plain uuid": UUID(int=1),
    "plain decimal": Decimal("1.50"),
    "plain date": date(2026, 1, 31),
    "plain timedelta": timedelta(seconds=1),
    "plain datetime": datetime(2026, 1, 2, tzinfo=SEOUL),
    "plain time": time(1, 2, tzinfo=UTC),
}
TOKEN = bytes(range(16))
STAMPS = [bytes(range(16, 32)), bytes(range(32, 48))]
SLOTS: dict[str, bytes] = {
    "slot lease": lease_slot(TOKEN),
    "slot intent": intent_slot(TOKEN),
    "slot value": value_slot(
        b"fingerpr", b"serverid", STAMPS, b"payload", created_ms=1_700_000_000_000, soft_ms=5
    ),
    "slot absent": value_slot(b"fingerpr", b"serverid", [], b"", absent=True, created_ms=1),
}


def stored_now() -> dict[str, bytes]:
    """What today's code stores for every sample, by name."""
    cells = {name: codec_of([kind])[0]((value,)) for name, (kind, value) in CELLS.items()}
    return cells | {name: encode_plain(value) for name, value in PLAIN.items()} | SLOTS
