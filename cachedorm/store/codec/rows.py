"""Rows of typed columns, one or many in a payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.msgpack import Decoder

from cachedorm.errors import NotCacheable
from cachedorm.store.codec.columns import (
    MEANINGLESS,
    REFUSED,
    ColumnCodec,
    UndecodableError,
    Write,
    column_codec,
    encode_msgpack,
    not_cacheable,
    read_big_int,
)
from cachedorm.store.codec.kinds import Kind

Encode = Callable[[Sequence[Any]], bytes]
Decode = Callable[[bytes], tuple[Any, ...]]
# For each column, what becomes of a value of this exact type.
Writes = Sequence[Mapping[type, Write]]


def row_codec(kinds: Sequence[Kind]) -> tuple[Encode, Decode]:
    """The two functions that store rows of these kinds and read them.

    ``encode`` raises NotCacheable naming the position and type of a value that would come back
    changed. ``decode`` makes fresh mutable values every time and raises only UNDECODABLE.
    """
    codecs = [column_codec(kind) for kind in kinds]
    return _row_encoder(kinds, codecs), _row_decoder(codecs)


def rows_codec(
    kinds: Sequence[Kind],
) -> tuple[Encode, Callable[[bytes], list[tuple[Any, ...]]]]:
    """As ``row_codec``, for a whole list of such rows in one payload."""
    codecs = [column_codec(kind) for kind in kinds]
    return _rows_encoder(kinds, codecs), _rows_decoder(codecs)


def _writes_of(codecs: Sequence[ColumnCodec]) -> Writes:
    return [{type(None): None, **codec.writes} for codec in codecs]


def _written(row: Sequence[Any], writes: Writes) -> list[Any]:
    """The row as MessagePack is to have it; KeyError for a value of another type."""
    written = list(row)
    for at, value in enumerate(row):
        writer = writes[at][type(value)]
        if writer is not None:
            written[at] = writer(value)
    return written


def _rows_encoder(kinds: Sequence[Kind], codecs: Sequence[ColumnCodec]) -> Encode:
    encode_row, writes = _row_encoder(kinds, codecs), _writes_of(codecs)

    def encode(rows: Sequence[Sequence[Any]]) -> bytes:
        try:
            return encode_msgpack([_written(row, writes) for row in rows])
        except (KeyError, *REFUSED):
            # Once more and row by row, to say which value it was.
            for row in rows:
                encode_row(row)
            raise

    return encode


def _rows_decoder(codecs: Sequence[ColumnCodec]) -> Callable[[bytes], list[tuple[Any, ...]]]:
    row_type = _tuple_type(tuple(codec.wire | None for codec in codecs))
    native = Decoder(_list_type(row_type), ext_hook=read_big_int).decode
    readers = tuple((at, codec.read) for at, codec in enumerate(codecs) if codec.read is not None)
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
    except MEANINGLESS as error:
        raise UndecodableError(f"position {at}: {error!r}") from error
    return tuple(row)


def _row_encoder(kinds: Sequence[Kind], codecs: Sequence[ColumnCodec]) -> Encode:
    writes = _writes_of(codecs)

    def write(at: int, value: Any) -> Any:
        try:
            writer = writes[at][type(value)]
            written = writer(value) if writer is not None else value
            encode_msgpack(written)
        except (KeyError, *REFUSED) as error:
            raise not_cacheable(f"position {at} ({kinds[at]})", value, error) from None
        return written

    def encode(row: Sequence[Any]) -> bytes:
        if len(row) != len(writes):
            raise NotCacheable(f"a row of {len(writes)} values is stored, not of {len(row)}")
        try:
            return encode_msgpack(_written(row, writes))
        except (KeyError, *REFUSED):
            # Once more and slowly, to say which it was.
            return encode_msgpack([write(at, value) for at, value in enumerate(row)])

    return encode


def _row_decoder(codecs: Sequence[ColumnCodec]) -> Decode:
    types = tuple(codec.wire | None for codec in codecs)
    native = Decoder(_tuple_type(types), ext_hook=read_big_int).decode
    readers = tuple((at, codec.read) for at, codec in enumerate(codecs) if codec.read is not None)
    if not readers:
        return native

    def decode(payload: bytes) -> tuple[Any, ...]:
        return _read_row(native(payload), readers)

    return decode


def _list_type(row: Any) -> Any:
    return list[row]


def _tuple_type(types: tuple[Any, ...]) -> Any:
    return tuple[types]  # type: ignore[valid-type]
