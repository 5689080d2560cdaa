"""How one column's values are stored, checked and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from cachedorm.errors import NotCacheable
from cachedorm.store.codec.kinds import Kind, geometry_kind
from cachedorm.store.codec.timezones import (
    StoredDatetime,
    StoredTime,
    read_datetime,
    read_time,
    write_datetime,
    write_time,
)


class UndecodableError(ValueError):
    """Valid MessagePack of the wrong shape or meaning: counted as a miss."""


UNDECODABLE: Final = (
    msgspec.DecodeError,
    UndecodableError,
    UnicodeDecodeError,
    RecursionError,
    MemoryError,
)
"""All that decoding can raise, whatever the bytes."""

# None in place of a function: MessagePack keeps the value as it is.
Write = Callable[[Any], Any] | None
Read = Callable[[Any], Any] | None

_ENCODER: Final = Encoder(uuid_format="bytes")
encode_msgpack: Final = _ENCODER.encode
# What msgspec and the writers below raise for values they cannot keep.
REFUSED: Final = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
# What the readers below raise for bytes of the right shape and the wrong meaning.
MEANINGLESS: Final = (LookupError, TypeError, ValueError, ArithmeticError, OSError)

_BIG_INT: Final = 1
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ColumnCodec:
    """One column: msgspec's type, a writer for each exact Python type, and the reader."""

    wire: Any
    writes: Mapping[type, Write]
    read: Read = None


def not_cacheable(where: str, value: object, error: BaseException) -> NotCacheable:
    what = type(value).__qualname__
    why = "" if isinstance(error, KeyError) else f" ({error})"
    return NotCacheable(f"{where}: {what} cannot be stored without changing it{why}")


def reject(why: str) -> NoReturn:
    raise ValueError(why)


def _enum_codec(enum: type[Enum]) -> ColumnCodec:
    members = dict(enum.__members__)

    def write(member: Enum) -> str:
        # A combination of flags has a name too, but is not a member.
        if members.get(member.name) is not member:
            reject("it is a combination, not a member")
        return member.name

    return ColumnCodec(str, {enum: write}, members.__getitem__)


def write_int(value: int) -> int | Ext:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    size_bytes = value.bit_length() // 8 + 1
    return Ext(_BIG_INT, value.to_bytes(size_bytes, "big", signed=True))


def read_big_int(code: int, data: memoryview) -> int:
    if code != _BIG_INT:
        raise UndecodableError(f"extension {code} is unknown")
    return int.from_bytes(data, "big", signed=True)


def _write_json(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if any(type(key) is not str for key in value):
            reject("a JSON object has only str for keys")
        return {key: _write_json(item) for key, item in value.items()}
    if kind is list:
        return [_write_json(item) for item in value]
    if kind is int:
        return write_int(value)
    if value is None or kind is str or kind is float or kind is bool:
        return value
    return reject(f"JSON has no {kind.__qualname__}")


_JSON: Final[Mapping[type, Write]] = {
    dict: _write_json,
    list: _write_json,
    int: write_int,
    str: None,
    float: None,
    bool: None,
}

# PostgreSQL's own limit (MAXDIM).
_DEPTH_MAX: Final = 6


def _array_codec(kind: Kind, item_kind: Kind) -> ColumnCodec:
    container: type[Any] = tuple if kind.as_tuple else list
    item = column_codec(item_kind)
    item_writes = {type(None): None, **item.writes}
    # Where items may be lists, only the declaration can tell where the array ends.
    depth_fixed = (kind.dimensions or 1) if container in item_writes else None
    decoders = _array_decoders(container, item)

    def write_nested(value: Any, depth: int) -> Any:
        if depth == 0:
            writer = item_writes[type(value)]
            return value if writer is None else writer(value)
        if type(value) is not container:
            reject(f"its parts are not all nested {container.__name__}s of one depth")
        return [write_nested(part, depth - 1) for part in value]

    def write(value: Any) -> tuple[int, Any]:
        depth = depth_fixed or _depth_of(value, container)
        if depth > _DEPTH_MAX:
            reject(f"arrays have at most {_DEPTH_MAX} dimensions")
        try:
            return depth, write_nested(value, depth)
        except KeyError as error:
            return reject(f"{error.args[0].__qualname__} is not of kind {item_kind}")

    def read(stored: tuple[int, msgspec.Raw]) -> Any:
        return decoders[stored[0]](stored[1])

    return ColumnCodec(tuple[int, msgspec.Raw], {container: write}, read)


def _depth_of(value: Any, container: type[Any]) -> int:
    depth = 0
    while type(value) is container:
        depth += 1
        value = value[0] if value else None
    return depth


def _array_decoders(container: type[Any], item: ColumnCodec) -> dict[int, Callable[[Any], Any]]:
    """One reader for each depth an array can have."""
    decoders: dict[int, Callable[[Any], Any]] = {}
    wire: Any = item.wire | None
    read = item.read
    for depth in range(1, _DEPTH_MAX + 1):
        wire = tuple[wire, ...] if container is tuple else list[wire]
        read = _reader_of_parts(container, read)
        decoders[depth] = then(Decoder(wire, ext_hook=read_big_int).decode, read)
    return decoders


def _reader_of_parts(container: type[Any], read: Read) -> Read:
    if read is None:
        return None
    return lambda parts: container(None if part is None else read(part) for part in parts)


def then(first: Callable[[Any], Any], second: Read) -> Callable[[Any], Any]:
    return first if second is None else lambda value: second(first(value))


# By the number that is stored: bytes from psycopg 3, a memoryview from psycopg 2, else hex text.
_GEOMETRY_DATA: Final[tuple[type, ...]] = (bytes, memoryview, str)
_READ_GEOMETRY_DATA: Final[dict[int, Callable[[bytes], Any]]] = {
    0: bytes,
    1: memoryview,
    2: bytes.decode,
}


def _geometry_codec() -> ColumnCodec:
    from geoalchemy2.elements import WKBElement

    def write(value: Any) -> tuple[int, bytes, int, bool]:
        data, srid, extended = value.data, value.srid, value.extended
        if type(srid) is not int or type(extended) is not bool or (extended and srid == -1):
            reject("srid and extended have to be known")
        if type(data) not in _GEOMETRY_DATA:
            reject(f"its data are {type(data).__qualname__}")
        stored = data.encode() if isinstance(data, str) else bytes(data)
        return _GEOMETRY_DATA.index(type(data)), stored, srid, extended

    def read(stored: tuple[int, bytes, int, bool]) -> Any:
        # Not through __init__, which parses the data again to guess what is known.
        element = WKBElement.__new__(WKBElement)
        element.data = _READ_GEOMETRY_DATA[stored[0]](stored[1])
        element.srid, element.extended = stored[2:]
        return element

    return ColumnCodec(tuple[int, bytes, int, bool], {WKBElement: write}, read)


SCALARS: Final[Mapping[Kind, ColumnCodec]] = {
    Kind.INT: ColumnCodec(int, {int: None}),
    Kind.FLOAT: ColumnCodec(float, {float: None}),
    Kind.STR: ColumnCodec(str, {str: None}),
    Kind.BOOL: ColumnCodec(bool, {bool: None}),
    Kind.BYTES: ColumnCodec(bytes, {bytes: None}),
    Kind.UUID: ColumnCodec(UUID, {UUID: None}),
    Kind.DECIMAL: ColumnCodec(Decimal, {Decimal: None}),
    Kind.DATE: ColumnCodec(date, {date: None}),
    Kind.TIMEDELTA: ColumnCodec(timedelta, {timedelta: None}),
    Kind.DATETIME: ColumnCodec(StoredDatetime, {datetime: write_datetime}, read_datetime),
    Kind.TIME: ColumnCodec(StoredTime, {time: write_time}, read_time),
    Kind.JSON: ColumnCodec(Any, _JSON),
}


def column_codec(kind: Kind) -> ColumnCodec:
    if kind.enum is not None:
        return _enum_codec(kind.enum)
    if kind.item is not None:
        return _array_codec(kind, kind.item)
    return _geometry_codec() if kind == geometry_kind() else SCALARS[kind]
