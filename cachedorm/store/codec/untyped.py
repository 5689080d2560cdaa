"""Plain values, for which no column declares a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.msgpack import Decoder, Ext

from cachedorm.store.codec.columns import (
    MEANINGLESS,
    REFUSED,
    SCALARS,
    UndecodableError,
    Write,
    encode_msgpack,
    not_cacheable,
    read_big_int,
    reject,
    then,
    write_int,
)
from cachedorm.store.codec.kinds import Kind

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
        return encode_msgpack(_write_plain(value))
    except REFUSED as error:
        raise not_cacheable("value", value, error) from None


def decode_plain(payload: bytes) -> Any:
    """The value that ``encode_plain`` was given, made afresh. Raises only UNDECODABLE."""
    try:
        return _decode_plain(payload)
    except (UndecodableError, UnicodeDecodeError):
        raise
    except MEANINGLESS as error:
        raise UndecodableError(repr(error)) from error


def _write_plain(value: Any) -> Any:
    try:
        writer = _PLAIN_WRITES[type(value)]
    except KeyError:
        return reject(f"{type(value).__qualname__} is not a plain type")
    return value if writer is None else writer(value)


def _write_dict(value: dict[Any, Any]) -> Any:
    if all(type(key) is str for key in value):
        return {key: _write_plain(item) for key, item in value.items()}
    pairs = [[_write_plain(key), _write_plain(item)] for key, item in value.items()]
    return Ext(_PAIRS, encode_msgpack(pairs))


def _write_list(value: list[Any]) -> list[Any]:
    return [_write_plain(item) for item in value]


def _parts_writer(code: int) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, encode_msgpack([_write_plain(item) for item in value]))


def _scalar_writer(code: int, write: Write) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, encode_msgpack(value if write is None else write(value)))


_PLAIN_WRITES: Final[dict[type, Write]] = {
    type(None): None,
    bool: None,
    float: None,
    str: None,
    bytes: None,
    int: write_int,
    dict: _write_dict,
    list: _write_list,
    tuple: _parts_writer(_TUPLE),
    set: _parts_writer(_SET),
    frozenset: _parts_writer(_FROZENSET),
}
_PLAIN_READS: Final[dict[int, Callable[[Any], Any]]] = {}


def _register_scalars() -> None:
    for code, kind in _PLAIN_SCALARS.items():
        codec = SCALARS[kind]
        for python_type, write in codec.writes.items():
            _PLAIN_WRITES[python_type] = _scalar_writer(code, write)
        _PLAIN_READS[code] = then(Decoder(codec.wire).decode, codec.read)


_register_scalars()


def _read_plain(code: int, data: memoryview) -> Any:
    read = _PLAIN_READS.get(code)
    if read is not None:
        return read(data)
    make = _PLAIN_PARTS.get(code)
    return read_big_int(code, data) if make is None else make(_decode_plain(data))


_decode_plain: Final = Decoder(ext_hook=_read_plain).decode
