"""From values to bytes and back, exactly: what comes out has the type and value that went in.

MessagePack by msgspec, typed by column; nothing is ever executed to read it. A value that
would come back changed (a subclass, an integer of 65 bits in an integer column, a zone without
a name) is refused when it is stored. As stored, in format version 1:

    int float str bool bytes   as MessagePack has them
    uuid                       16 bytes
    decimal date timedelta     text, as Python and ISO 8601 write them
    datetime                   naive: ISO text; in timezone.utc: a timestamp; else [either of
                               these, zone], see moments.py
    time                       naive: ISO text; else [naive, zone]
    enum                       the member's name
    json                       as it is; integers beyond 64 bits are extension 1
    array                      [depth, the nested arrays]
    geometry                   [0 bytes, 1 memoryview or 2 text; data; srid; extended]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from cachedorm.errors import NotCacheable
from cachedorm.store.kinds import (
    Kind,
    array_kind,
    enum_kind,
    geometry_kind,
    kind_for_python,
)
from cachedorm.store.moments import (
    StoredDatetime,
    StoredTime,
    read_datetime,
    read_time,
    write_datetime,
    write_time,
)

__all__ = [
    "UNDECODABLE",
    "Kind",
    "UndecodableError",
    "array_kind",
    "decode_plain",
    "encode_plain",
    "enum_kind",
    "geometry_kind",
    "kind_for_python",
    "row_codec",
    "rows_codec",
]


class UndecodableError(ValueError):
    """Bytes that are MessagePack but not what was to be read: count a miss."""


UNDECODABLE: Final = (
    msgspec.DecodeError,
    UndecodableError,
    UnicodeDecodeError,
    RecursionError,
    MemoryError,
)
"""All that decoding can raise, whatever the bytes."""

Encode = Callable[[Sequence[Any]], bytes]
Decode = Callable[[bytes], tuple[Any, ...]]
# None in place of a function: MessagePack keeps the value as it is.
_Write = Callable[[Any], Any] | None
_Read = Callable[[Any], Any] | None

_ENCODER: Final = Encoder(uuid_format="bytes")
_encode: Final = _ENCODER.encode
# What msgspec and the writers below raise for values they cannot keep.
_REFUSED: Final = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
# What the readers below raise for bytes of the right shape and the wrong meaning.
_MEANINGLESS: Final = (LookupError, TypeError, ValueError, ArithmeticError, OSError)

_BIG_INT: Final = 1
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class _Cell:
    """How one column is stored: msgspec's type, who may enter (by exact type), how it is read."""

    wire: Any
    writes: Mapping[type, _Write]
    read: _Read = None


def row_codec(kinds: Sequence[Kind]) -> tuple[Encode, Decode]:
    """The two functions that store rows of these kinds and read them.

    ``encode`` raises NotCacheable naming the position and type of a value that would come back
    changed. ``decode`` makes fresh mutable values every time and raises only UNDECODABLE.
    """
    cells = [_cell_of(kind) for kind in kinds]
    return _row_encoder(kinds, cells), _row_decoder(cells)


def rows_codec(
    kinds: Sequence[Kind],
) -> tuple[Encode, Callable[[bytes], list[tuple[Any, ...]]]]:
    """As ``row_codec``, for a whole list of such rows in one payload."""
    cells = [_cell_of(kind) for kind in kinds]
    return _rows_encoder(kinds, cells), _rows_decoder(cells)


def _rows_encoder(kinds: Sequence[Kind], cells: Sequence[_Cell]) -> Encode:
    encode_row = _row_encoder(kinds, cells)
    writes = [{type(None): None, **cell.writes} for cell in cells]

    def prepare(row: Sequence[Any]) -> list[Any]:
        prepared = list(row)
        for at, value in enumerate(row):
            writer = writes[at][type(value)]
            if writer is not None:
                prepared[at] = writer(value)
        return prepared

    def encode(rows: Sequence[Sequence[Any]]) -> bytes:
        try:
            return _encode([prepare(row) for row in rows])
        except (KeyError, *_REFUSED):
            # Once more and row by row, to say which value it was.
            for row in rows:
                encode_row(row)
            raise

    return encode


def _rows_decoder(cells: Sequence[_Cell]) -> Callable[[bytes], list[tuple[Any, ...]]]:
    row_type = _tuple_type(tuple(cell.wire | None for cell in cells))
    native = Decoder(_list_type(row_type), ext_hook=_read_big_int).decode
    readers = tuple((at, cell.read) for at, cell in enumerate(cells) if cell.read is not None)
    if not readers:
        return native

    def decode(payload: bytes) -> list[tuple[Any, ...]]:
        return [_read_row(row, readers) for row in native(payload)]

    return decode


def _read_row(
    native: tuple[Any, ...], readers: Sequence[tuple[int, Callable[[Any], Any]]]
) -> tuple[Any, ...]:
    row = list(native)
    try:
        for at, read in readers:
            value = row[at]
            if value is not None:
                row[at] = read(value)
    except _MEANINGLESS as error:
        raise UndecodableError(f"position {at}: {error!r}") from error
    return tuple(row)


def _row_encoder(kinds: Sequence[Kind], cells: Sequence[_Cell]) -> Encode:
    writes = [{type(None): None, **cell.writes} for cell in cells]

    def write(at: int, value: Any) -> Any:
        try:
            writer = writes[at][type(value)]
            written = writer(value) if writer is not None else value
            _encode(written)
        except (KeyError, *_REFUSED) as error:
            raise _not_cacheable(f"position {at} ({kinds[at]})", value, error) from None
        return written

    def encode(row: Sequence[Any]) -> bytes:
        if len(row) != len(writes):
            raise NotCacheable(f"a row of {len(writes)} values is stored, not of {len(row)}")
        cells = list(row)
        try:
            for at, value in enumerate(row):
                writer = writes[at][type(value)]
                if writer is not None:
                    cells[at] = writer(value)
            return _encode(cells)
        except (KeyError, *_REFUSED):
            # Once more and slowly, to say which it was.
            return _encode([write(at, value) for at, value in enumerate(row)])

    return encode


def _row_decoder(cells: Sequence[_Cell]) -> Decode:
    types = tuple(cell.wire | None for cell in cells)
    native = Decoder(_tuple_type(types), ext_hook=_read_big_int).decode
    readers = tuple((at, cell.read) for at, cell in enumerate(cells) if cell.read is not None)
    if not readers:
        return native

    def decode(payload: bytes) -> tuple[Any, ...]:
        return _read_row(native(payload), readers)

    return decode


def _list_type(row: Any) -> Any:
    return list[row]


def _tuple_type(types: tuple[Any, ...]) -> Any:
    return tuple[types]  # type: ignore[valid-type]


def _not_cacheable(where: str, value: object, error: BaseException) -> NotCacheable:
    what = type(value).__qualname__
    why = "" if isinstance(error, KeyError) else f" ({error})"
    return NotCacheable(f"{where}: {what} cannot be stored without changing it{why}")


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)


def _enum_cell(enum: type[Enum]) -> _Cell:
    members = dict(enum.__members__)

    def write(member: Enum) -> str:
        # A combination of flags has a name too, but is no member.
        if members.get(member.name) is not member:
            _refuse("it is a combination, not a member")
        return member.name

    return _Cell(str, {enum: write}, members.__getitem__)


def _write_int(value: int) -> int | Ext:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    size_bytes = value.bit_length() // 8 + 1
    return Ext(_BIG_INT, value.to_bytes(size_bytes, "big", signed=True))


def _read_big_int(code: int, data: memoryview) -> int:
    if code != _BIG_INT:
        raise UndecodableError(f"extension {code} is unknown")
    return int.from_bytes(data, "big", signed=True)


def _write_json(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if any(type(key) is not str for key in value):
            _refuse("a JSON object has only str for keys")
        return {key: _write_json(item) for key, item in value.items()}
    if kind is list:
        return [_write_json(item) for item in value]
    if kind is int:
        return _write_int(value)
    if value is None or kind is str or kind is float or kind is bool:
        return value
    return _refuse(f"JSON has no {kind.__qualname__}")


_JSON: Final[Mapping[type, _Write]] = {
    dict: _write_json,
    list: _write_json,
    int: _write_int,
    str: None,
    float: None,
    bool: None,
}

# PostgreSQL's own limit (MAXDIM).
_DEPTH_MAX: Final = 6


def _array_cell(kind: Kind, item_kind: Kind) -> _Cell:
    container: type[Any] = tuple if kind.as_tuple else list
    item = _cell_of(item_kind)
    item_writes = {type(None): None, **item.writes}
    # Where items may be lists, only the declaration can tell where the array ends.
    depth_fixed = (kind.dimensions or 1) if container in item_writes else None
    decoders = _array_decoders(container, item)

    def write_nested(value: Any, depth: int) -> Any:
        if depth == 0:
            writer = item_writes[type(value)]
            return value if writer is None else writer(value)
        if type(value) is not container:
            _refuse(f"its parts are not all nested {container.__name__}s of one depth")
        return [write_nested(part, depth - 1) for part in value]

    def write(value: Any) -> tuple[int, Any]:
        depth = depth_fixed or _depth_of(value, container)
        if depth > _DEPTH_MAX:
            _refuse(f"arrays have at most {_DEPTH_MAX} dimensions")
        try:
            return depth, write_nested(value, depth)
        except KeyError as error:
            return _refuse(f"{error.args[0].__qualname__} is no {item_kind}")

    def read(stored: tuple[int, msgspec.Raw]) -> Any:
        return decoders[stored[0]](stored[1])

    return _Cell(tuple[int, msgspec.Raw], {container: write}, read)


def _depth_of(value: Any, container: type[Any]) -> int:
    depth = 0
    while type(value) is container:
        depth += 1
        value = value[0] if value else None
    return depth


def _array_decoders(container: type[Any], item: _Cell) -> dict[int, Callable[[Any], Any]]:
    """One reader for each depth an array can have."""
    decoders: dict[int, Callable[[Any], Any]] = {}
    wire: Any = item.wire | None
    read = item.read
    for depth in range(1, _DEPTH_MAX + 1):
        wire = tuple[wire, ...] if container is tuple else list[wire]
        read = _reader_of_parts(container, read)
        decoders[depth] = _then(Decoder(wire, ext_hook=_read_big_int).decode, read)
    return decoders


def _reader_of_parts(container: type[Any], read: _Read) -> _Read:
    if read is None:
        return None
    return lambda parts: container(None if part is None else read(part) for part in parts)


def _then(first: Callable[[Any], Any], second: _Read) -> Callable[[Any], Any]:
    return first if second is None else lambda value: second(first(value))


# By the number that is stored: bytes from psycopg 3, a memoryview from psycopg 2, else hex text.
_GEOMETRY_DATA: Final[tuple[type, ...]] = (bytes, memoryview, str)
_READ_GEOMETRY_DATA: Final[dict[int, Callable[[bytes], Any]]] = {
    0: bytes,
    1: memoryview,
    2: bytes.decode,
}


def _geometry_cell() -> _Cell:
    from geoalchemy2.elements import WKBElement

    def write(value: Any) -> tuple[int, bytes, int, bool]:
        data, srid, extended = value.data, value.srid, value.extended
        if type(srid) is not int or type(extended) is not bool or (extended and srid == -1):
            _refuse("srid and extended have to be known")
        if type(data) not in _GEOMETRY_DATA:
            _refuse(f"its data are {type(data).__qualname__}")
        stored = data.encode() if isinstance(data, str) else bytes(data)
        return _GEOMETRY_DATA.index(type(data)), stored, srid, extended

    def read(stored: tuple[int, bytes, int, bool]) -> Any:
        # Not through __init__, which parses the data again to guess what is known.
        element = WKBElement.__new__(WKBElement)
        element.data = _READ_GEOMETRY_DATA[stored[0]](stored[1])
        element.srid, element.extended = stored[2:]
        return element

    return _Cell(tuple[int, bytes, int, bool], {WKBElement: write}, read)


_SCALARS: Final[Mapping[Kind, _Cell]] = {
    Kind.INT: _Cell(int, {int: None}),
    Kind.FLOAT: _Cell(float, {float: None}),
    Kind.STR: _Cell(str, {str: None}),
    Kind.BOOL: _Cell(bool, {bool: None}),
    Kind.BYTES: _Cell(bytes, {bytes: None}),
    Kind.UUID: _Cell(UUID, {UUID: None}),
    Kind.DECIMAL: _Cell(Decimal, {Decimal: None}),
    Kind.DATE: _Cell(date, {date: None}),
    Kind.TIMEDELTA: _Cell(timedelta, {timedelta: None}),
    Kind.DATETIME: _Cell(StoredDatetime, {datetime: write_datetime}, read_datetime),
    Kind.TIME: _Cell(StoredTime, {time: write_time}, read_time),
    Kind.JSON: _Cell(Any, _JSON),
}


def _cell_of(kind: Kind) -> _Cell:
    if kind.enum is not None:
        return _enum_cell(kind.enum)
    if kind.item is not None:
        return _array_cell(kind, kind.item)
    return _geometry_cell() if kind == geometry_kind() else _SCALARS[kind]


# Plain values: what MessagePack lacks goes into extensions, whose data are MessagePack again.
_TUPLE, _SET, _FROZENSET, _PAIRS = 2, 3, 4, 5
_PLAIN_SCALARS: Final[Mapping[int, Kind]] = {
    6: Kind.UUID,
    7: Kind.DECIMAL,
    8: Kind.DATE,
    9: Kind.TIMEDELTA,
    10: Kind.DATETIME,
    11: Kind.TIME,
}
_PLAIN_PARTS: Final[Mapping[int, Callable[[Any], Any]]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _PAIRS: dict,
}


def encode_plain(value: object) -> bytes:
    """The bytes of a plain value: None, numbers, text, bytes, UUIDs, dates, and lists, tuples,
    sets and dicts of them. Raises NotCacheable naming the type of anything else.
    """
    try:
        return _encode(_write_plain(value))
    except _REFUSED as error:
        raise _not_cacheable("value", value, error) from None


def decode_plain(payload: bytes) -> Any:
    """The value that ``encode_plain`` was given, made afresh. Raises only UNDECODABLE."""
    try:
        return _decode_plain(payload)
    except (UndecodableError, UnicodeDecodeError):
        raise
    except _MEANINGLESS as error:
        raise UndecodableError(repr(error)) from error


def _write_plain(value: Any) -> Any:
    try:
        writer = _PLAIN_WRITES[type(value)]
    except KeyError:
        return _refuse(f"{type(value).__qualname__} is no plain type")
    return value if writer is None else writer(value)


def _write_dict(value: dict[Any, Any]) -> Any:
    if all(type(key) is str for key in value):
        return {key: _write_plain(item) for key, item in value.items()}
    pairs = [[_write_plain(key), _write_plain(item)] for key, item in value.items()]
    return Ext(_PAIRS, _encode(pairs))


def _write_list(value: list[Any]) -> list[Any]:
    return [_write_plain(item) for item in value]


def _parts_writer(code: int) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, _encode([_write_plain(item) for item in value]))


def _scalar_writer(code: int, write: _Write) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, _encode(value if write is None else write(value)))


_PLAIN_WRITES: Final[dict[type, _Write]] = {
    type(None): None,
    bool: None,
    float: None,
    str: None,
    bytes: None,
    int: _write_int,
    dict: _write_dict,
    list: _write_list,
    tuple: _parts_writer(_TUPLE),
    set: _parts_writer(_SET),
    frozenset: _parts_writer(_FROZENSET),
}
_PLAIN_READS: Final[dict[int, Callable[[Any], Any]]] = {}


def _register_scalars() -> None:
    for code, kind in _PLAIN_SCALARS.items():
        cell = _SCALARS[kind]
        for python_type, write in cell.writes.items():
            _PLAIN_WRITES[python_type] = _scalar_writer(code, write)
        _PLAIN_READS[code] = _then(Decoder(cell.wire).decode, cell.read)


_register_scalars()


def _read_plain(code: int, data: memoryview) -> Any:
    read = _PLAIN_READS.get(code)
    if read is not None:
        return read(data)
    make = _PLAIN_PARTS.get(code)
    return _read_big_int(code, data) if make is None else make(_decode_plain(data))


_decode_plain: Final = Decoder(ext_hook=_read_plain).decode
