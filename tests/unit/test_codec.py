"""Rows and plain values come back exactly as they went in, or are refused on the way in."""

from __future__ import annotations

import contextlib
import enum
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from geoalchemy2 import WKBElement, WKTElement
from geoalchemy2.elements import DynamicWKBElement
from hypothesis import given
from hypothesis import strategies as st

from cachedorm.errors import DeclarationError, NotCacheable
from cachedorm.store.codec import (
    UNDECODABLE,
    Kind,
    UndecodableError,
    array_kind,
    decode_plain,
    encode_plain,
    enum_kind,
    geometry_kind,
    kind_for_python,
    row_codec,
)
from tests.support.exactness import exact

SEOUL = ZoneInfo("Asia/Seoul")
NEW_YORK = ZoneInfo("America/New_York")
EWKB = bytes.fromhex("0101000020e6100000000000000000f03f0000000000000040")


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    ROT = 1  # noqa: PIE796


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    """As numpy's float64 is one."""


class Moment(datetime):
    pass


class Zone(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(hours=9)

    def dst(self, _moment: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, _moment: datetime | None) -> str:
        return "its own"


class Point(NamedTuple):
    x: int
    y: int


TEXT = st.text()
ZONES = st.sampled_from(
    [
        UTC,
        SEOUL,
        NEW_YORK,
        ZoneInfo("UTC"),
        ZoneInfo("Etc/GMT+9"),
        timezone(timedelta(hours=9)),
        timezone(timedelta(hours=9), "KST"),
        timezone(timedelta(hours=-5, minutes=-30), "a zone's name"),
        timezone(timedelta(microseconds=-1)),
        timezone(timedelta(0), ""),
    ]
)
FOLDS = st.sampled_from([0, 1])
DATETIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    st.none() | ZONES,
    FOLDS,
)
TIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.times(),
    st.none() | ZONES,
    FOLDS,
)
DECIMALS = st.decimals() | st.decimals(allow_nan=False, places=3) | st.just(Decimal("sNaN12"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
GEOMETRIES = st.builds(
    WKBElement,
    st.sampled_from([EWKB, memoryview(EWKB), EWKB.hex()]),
    srid=st.sampled_from([-1, 0, 4326, 5179]),
    extended=st.sampled_from([None, True, False]),
)
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INT: st.integers(-(2**63), 2**64 - 1),
    Kind.FLOAT: st.floats(),
    Kind.STR: TEXT,
    Kind.BOOL: st.booleans(),
    Kind.BYTES: st.binary(),
    Kind.UUID: st.uuids(),
    Kind.DECIMAL: DECIMALS,
    Kind.DATETIME: DATETIMES,
    Kind.DATE: st.dates(),
    Kind.TIME: TIMES,
    Kind.TIMEDELTA: st.timedeltas(),
    Kind.JSON: JSON,
    enum_kind(Colour): st.sampled_from(Colour),
    enum_kind(Level): st.sampled_from(Level),
    enum_kind(Word): st.sampled_from(Word),
    enum_kind(Access): st.sampled_from([Access.READ, Access.WRITE]),
    geometry_kind(): GEOMETRIES,
    array_kind(Kind.INT): st.lists(st.none() | st.integers(-5, 5)),
    array_kind(Kind.UUID, 1): st.lists(st.none() | st.uuids()),
    array_kind(Kind.STR, 2): st.lists(st.lists(TEXT | st.none()), min_size=1),
    array_kind(Kind.DATETIME): st.lists(st.lists(DATETIMES | st.none(), min_size=1)),
    array_kind(Kind.JSON): st.lists(JSON),
    array_kind(Kind.JSON, 2): st.lists(st.lists(JSON)),
    array_kind(Kind.DECIMAL, as_tuple=True): st.lists(st.none() | DECIMALS).map(tuple),
    array_kind(Kind.TIME, as_tuple=True): st.lists(st.lists(TIMES, min_size=1).map(tuple)).map(
        tuple
    ),
    array_kind(enum_kind(Colour)): st.lists(st.sampled_from(Colour) | st.none()),
    array_kind(geometry_kind()): st.lists(GEOMETRIES),
}
KINDS = list(VALUES)
EVERY = row_codec(KINDS)
SAMPLE: tuple[Any, ...] = (
    1,
    2.5,
    "가",
    True,
    b"\x00",
    UUID(int=7),
    Decimal("1.50"),
    datetime(2026, 1, 1, tzinfo=SEOUL),
    date(2026, 1, 1),
    time(1, tzinfo=UTC),
    timedelta(1),
    {"a": [2**70, None]},
    Colour.GREEN,
    Level.LOW,
    Word.YES,
    Access.WRITE,
    WKBElement(EWKB),
    [1, None],
    [UUID(int=1)],
    [["a"]],
    [[datetime(2026, 1, 1)]],  # noqa: DTZ001
    [[1], {}],
    [[{}]],
    (Decimal(1),),
    ((time(1),),),
    [Colour.RED],
    [WKBElement(EWKB.hex())],
)


def test_the_sample_has_a_value_for_every_kind() -> None:
    encode, decode = EVERY
    assert exact(decode(encode(SAMPLE))) == exact(SAMPLE)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_every_kind_comes_back_exactly(kind: Kind, data: st.DataObject) -> None:
    """Value, type, zone, fold, exponent: nothing is lost."""
    value = data.draw(VALUES[kind])
    encode, decode = row_codec([kind])
    assert exact(decode(encode((value,)))) == exact((value,))


def test_none_is_welcome_everywhere() -> None:
    encode, decode = EVERY
    row = (None,) * len(KINDS)
    assert decode(encode(row)) == row


def test_a_row_of_nothing() -> None:
    encode, decode = row_codec([])
    assert decode(encode(())) == ()


@pytest.mark.parametrize(
    "value",
    [
        datetime(1, 1, 1),  # noqa: DTZ001
        datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        datetime.min.replace(tzinfo=SEOUL),
        datetime.max.replace(tzinfo=NEW_YORK),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=0),
        datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=1),
        datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK),
        datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK, fold=1),
        datetime(2026, 1, 1, tzinfo=SEOUL, fold=1),
        datetime(2026, 1, 1, tzinfo=UTC, fold=1),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=9)), fold=1),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_datetimes_that_tend_to_break(value: datetime) -> None:
    """The calendar's ends, the hour that comes twice and the one that never comes."""
    encode, decode = row_codec([Kind.DATETIME])
    assert exact(decode(encode((value,)))) == exact((value,))
    assert exact(decode_plain(encode_plain(value))) == exact(value)


@pytest.mark.parametrize("value", [timedelta.min, timedelta.max, timedelta(microseconds=-1)])
def test_durations_at_their_ends(value: timedelta) -> None:
    encode, decode = row_codec([Kind.TIMEDELTA])
    assert decode(encode((value,))) == (value,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.INT, True),
        (Kind.INT, 1.0),
        (Kind.INT, 2**64),
        (Kind.INT, -(2**63) - 1),
        (Kind.INT, Level.LOW),
        (Kind.INT, Whole(1)),
        (Kind.FLOAT, 1),
        (Kind.FLOAT, Real(1)),
        (Kind.FLOAT, Decimal(1)),
        (Kind.STR, b"x"),
        (Kind.STR, Text("x")),
        (Kind.STR, Word.YES),
        (Kind.STR, "\ud800"),
        (Kind.BOOL, 1),
        (Kind.BYTES, "x"),
        (Kind.BYTES, bytearray(b"x")),
        (Kind.BYTES, memoryview(b"x")),
        (Kind.UUID, "00000000-0000-0000-0000-000000000000"),
        (Kind.DECIMAL, 1),
        (Kind.DATETIME, date(2026, 1, 1)),
        (Kind.DATETIME, Moment(2026, 1, 1)),
        (Kind.DATETIME, datetime(2026, 1, 1, tzinfo=Zone())),
        (Kind.DATE, datetime(2026, 1, 1, tzinfo=UTC)),
        (Kind.TIME, time(1, tzinfo=Zone())),
        (Kind.TIMEDELTA, 1),
        (Kind.JSON, {1: 2}),
        (Kind.JSON, {Text("a"): 2}),
        (Kind.JSON, [(1, 2)]),
        (Kind.JSON, {"a": Decimal(1)}),
        (Kind.JSON, {"a": "\udfff"}),
        (Kind.JSON, {"\udfff": 1}),
        (Kind.JSON, OrderedDict(a=1)),
        (Kind.JSON, [Level.LOW]),
        (enum_kind(Colour), "RED"),
        (enum_kind(Colour), Level.LOW),
        (enum_kind(Access), Access.READ | Access.WRITE),
        (enum_kind(Access), Access(0)),
        (array_kind(Kind.INT), (1, 2)),
        (array_kind(Kind.INT), [1, [2]]),
        (array_kind(Kind.INT), [[1], 2]),
        (array_kind(Kind.INT), [[1], None]),
        (array_kind(Kind.INT), [[[[[[[1]]]]]]]),
        (array_kind(Kind.INT), ["1"]),
        (array_kind(Kind.INT), [2**64]),
        (array_kind(Kind.INT, as_tuple=True), [1, 2]),
        (array_kind(Kind.JSON), [{1: 2}]),
        (geometry_kind(), WKTElement("POINT(1 2)")),
        (geometry_kind(), DynamicWKBElement(EWKB)),
        (geometry_kind(), EWKB),
        (
            geometry_kind(),
            WKBElement(bytearray(EWKB)),  # type: ignore[arg-type]
        ),
    ],
)
def test_what_would_come_back_changed_is_refused(kind: Kind, value: Any) -> None:
    """Subclasses, neighbours and values without a faithful form; the message says which."""
    encode, _ = row_codec([Kind.INT, kind])
    with pytest.raises(NotCacheable) as caught:
        encode((1, value))
    message = str(caught.value)
    assert message.startswith(f"position 1 ({kind}): {type(value).__qualname__} cannot be stored")


def test_a_zone_from_a_file_has_no_key() -> None:
    """Another process could not find it again."""
    with open("/usr/share/zoneinfo/Asia/Seoul", "rb") as file:  # noqa: PTH123
        zone = ZoneInfo.from_file(file)
    encode, _ = row_codec([Kind.DATETIME])
    with pytest.raises(NotCacheable, match="has no name to find it by"):
        encode((datetime(2026, 1, 1, tzinfo=zone),))


def test_endless_json_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    encode, _ = row_codec([Kind.JSON])
    with pytest.raises(NotCacheable, match=r"position 0 \(json\): list"):
        encode((endless,))
    with pytest.raises(NotCacheable, match="value: list"):
        encode_plain(endless)


def test_rows_of_another_length_are_refused() -> None:
    encode, decode = row_codec([Kind.INT, Kind.INT])
    with pytest.raises(NotCacheable, match="a row of 2 values is stored, not of 1"):
        encode((1,))
    other, _ = row_codec([Kind.INT])
    with pytest.raises(UNDECODABLE):
        decode(other((1,)))


def test_mutable_values_are_made_afresh() -> None:
    """What one session does to its JSON or array reaches no other session."""
    encode, decode = row_codec([Kind.JSON, array_kind(Kind.INT)])
    payload = encode(({"a": []}, [1]))
    mine, others = decode(payload), decode(payload)
    mine[0]["a"].append(1)
    mine[1].append(2)
    assert others == ({"a": []}, [1])


def test_the_bytes_of_a_view_are_copied() -> None:
    encode, decode = row_codec([geometry_kind()])
    buffer = bytearray(EWKB)
    payload = encode((WKBElement(memoryview(buffer), 4326, True),))
    buffer[:] = bytes(len(buffer))
    assert bytes(decode(payload)[0].data) == EWKB


@pytest.mark.parametrize("size", range(len(EVERY[0](SAMPLE))))
def test_truncated_rows_are_undecodable(size: int) -> None:
    """At no length does a part pass for the whole."""
    encode, decode = EVERY
    with pytest.raises(UNDECODABLE):
        decode(encode(SAMPLE)[:size])


def test_longer_rows_are_undecodable() -> None:
    encode, decode = EVERY
    with pytest.raises(UNDECODABLE):
        decode(encode(SAMPLE) + b"\x00")


@given(st.binary(max_size=60))
def test_hostile_rows_only_raise_undecodable(payload: bytes) -> None:
    _decodes_or_not(EVERY[1], payload)


@given(st.integers(min_value=0), st.integers(0, 255))
def test_flipped_bytes_only_raise_undecodable(at: int, byte: int) -> None:
    """A row damaged anywhere is read as some row of these kinds or not at all."""
    payload = bytearray(EVERY[0](SAMPLE))
    payload[at % len(payload)] = byte
    _decodes_or_not(EVERY[1], bytes(payload))


def _decodes_or_not(decode: Any, payload: bytes) -> None:
    with contextlib.suppress(*UNDECODABLE):
        decode(payload)


def _cell(wire: Any) -> bytes:
    return row_codec([Kind.JSON])[0]((wire,))


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (enum_kind(Colour), "BLUE"),
        (enum_kind(Colour), 1),
        (Kind.UUID, "no"),
        (Kind.DECIMAL, "one"),
        (Kind.DATE, "2026-02-30"),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0zNo/Where"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0zAsia"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0z../../etc/passwd"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0z/etc/passwd"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0z\x00"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0o999999999999999999999"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0o9e9"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "0q"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", "7"]),
        (Kind.DATETIME, ["2026-01-01T00:00:00", ""]),
        (Kind.DATETIME, ["0001-01-01T00:00:00Z", "0o-3600000000"]),
        (array_kind(Kind.INT), [7, [1]]),
        (array_kind(Kind.INT), [-1, [1]]),
        (array_kind(Kind.INT), [2, [1]]),
        (array_kind(Kind.INT), [1, ["a"]]),
        (array_kind(enum_kind(Colour)), [1, ["BLUE"]]),
        (geometry_kind(), [9, "", 1, True]),
        (geometry_kind(), [2, "not bytes", 1, True]),
    ],
)
def test_meaningless_cells_are_undecodable(kind: Kind, stored: Any) -> None:
    """Right MessagePack, wrong meaning: an unknown member, zone, depth or form."""
    _, decode = row_codec([kind])
    with pytest.raises(UNDECODABLE):
        decode(_cell(stored))


def test_deep_and_huge_claims_are_undecodable() -> None:
    """Neither nesting nor a claimed length takes the process down."""
    _, decode = row_codec([Kind.JSON])
    claims = [b"\x91" * 100_000, b"\x91\xdd\xff\xff\xff\xff", b"\x91\xdf\xff\xff\xff\xff"]
    for payload in [*claims, b"\x91\xc6\xff\xff\xff\xff", b"\x91\xa2\xff\xfe", b"\x91\xd4\x63a"]:
        with pytest.raises(UNDECODABLE):
            decode(payload)
        with pytest.raises(UNDECODABLE):
            decode_plain(payload)


def test_arrays_of_arrays_are_declared_by_dimensions() -> None:
    with pytest.raises(DeclarationError, match="give the inner item and the dimensions"):
        array_kind(array_kind(Kind.INT))


def test_kinds_for_python_types() -> None:
    assert kind_for_python(int) == Kind.INT
    assert kind_for_python(bool) == Kind.BOOL
    assert kind_for_python(datetime) == Kind.DATETIME
    assert kind_for_python(dict) == Kind.JSON
    assert kind_for_python(Colour) == enum_kind(Colour)
    assert kind_for_python(list) is None
    assert kind_for_python(Text) is None


def test_kinds_have_a_stable_text() -> None:
    """Fingerprints are made of it."""
    assert str(Kind.INT) == "int"
    assert str(enum_kind(Colour)) == "enum(Colour)"
    assert str(array_kind(Kind.UUID, 2)) == "array(uuid,2,list)"
    assert str(geometry_kind()) == "geometry"


HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.binary()
    | st.uuids()
    | DECIMALS.filter(lambda value: not value.is_snan())
    | st.dates()
    | DATETIMES
    | TIMES
    | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_plain_values_come_back_exactly(value: Any) -> None:
    """Tuples stay tuples, sets sets, keys of dicts what they were, and integers whole."""
    assert exact(decode_plain(encode_plain(value))) == exact(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "object"),
        ([1, {"a": Text("x")}], "Text"),
        ((Point(1, 2),), "Point"),
        ({Colour.RED}, "Colour"),
        (Level.LOW, "Level"),
        (OrderedDict(a=1), "OrderedDict"),
        (bytearray(b"x"), "bytearray"),
        (1j, "complex"),
        (int, "type"),
        (Real(1), "Real"),
        ({"f": test_a_row_of_nothing}, "function"),
    ],
)
def test_what_is_not_plain_is_named(value: Any, name: str) -> None:
    with pytest.raises(NotCacheable, match=rf"\({name} is not a plain type\)"):
        encode_plain(value)


def test_plain_text_that_utf8_cannot_carry_is_refused() -> None:
    for value in ("\ud800", {"\ud800": 1}, [("\ud800",)], {"\ud800"}):
        with pytest.raises(NotCacheable, match="surrogates not allowed"):
            encode_plain(value)


@given(st.binary(max_size=60))
def test_hostile_plain_bytes_only_raise_undecodable(payload: bytes) -> None:
    _decodes_or_not(decode_plain, payload)


@given(PLAIN, st.integers(min_value=0), st.integers(0, 255))
def test_damaged_plain_bytes_only_raise_undecodable(value: Any, at: int, byte: int) -> None:
    payload = bytearray(encode_plain(value))
    payload[at % len(payload)] = byte
    _decodes_or_not(decode_plain, bytes(payload))


@given(PLAIN)
def test_truncated_plain_bytes_are_undecodable(value: Any) -> None:
    payload = encode_plain(value)
    for size in range(len(payload)):
        with pytest.raises(UNDECODABLE):
            decode_plain(payload[:size])


def test_nested_extensions_do_not_take_the_process_down() -> None:
    payload = b"\x90"
    for _ in range(2000):
        payload = b"\xc9" + len(payload).to_bytes(4, "big") + b"\x02" + payload
    with pytest.raises(UNDECODABLE):
        decode_plain(payload)


def test_unhashable_members_are_undecodable() -> None:
    """A set of lists and a dict with list keys can be spelt in bytes but not made."""
    for payload in (b"\xc7\x02\x03\x91\x90", b"\xc7\x04\x05\x91\x92\x90\xc0"):
        with pytest.raises(UndecodableError):
            decode_plain(payload)


def test_pickles_are_only_bytes() -> None:
    """A pickle in Redis is never run."""
    with pytest.raises(UNDECODABLE):
        decode_plain(b"cposix\nsystem\n(S'true'\ntR.")
