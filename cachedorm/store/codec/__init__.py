"""Values as bytes and back, exactly: decoding returns the type and value that was encoded.

The bytes are MessagePack by msgspec, typed by column; decoding executes nothing. A value that
would come back changed (a subclass, an integer of 65 bits in an integer column, a zone without
a name) is refused when it is stored. As stored, in format version 1:

    int float str bool bytes   as MessagePack has them
    uuid                       16 bytes
    decimal date timedelta     text, as Python and ISO 8601 write them
    datetime                   naive: ISO text; in timezone.utc: a timestamp; else [either of
                               these, zone], see timezones.py
    time                       naive: ISO text; else [naive, zone]
    enum                       the member's name
    json                       as it is; integers beyond 64 bits are extension 1
    array                      [depth, the nested arrays]
    geometry                   [0 bytes, 1 memoryview or 2 text; data; srid; extended]
"""

from cachedorm.store.codec.columns import UNDECODABLE, UndecodableError
from cachedorm.store.codec.kinds import Kind, array_kind, enum_kind, geometry_kind, kind_for_python
from cachedorm.store.codec.rows import row_codec, rows_codec
from cachedorm.store.codec.untyped import decode_plain, encode_plain

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
