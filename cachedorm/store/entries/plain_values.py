"""The values of plain dogpile.cache users: any value, with one stamp that clears the region."""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from dogpile.cache.api import CachedValue
from dogpile.cache.region import value_version

from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain
from cachedorm.store.protocol.entry import Format
from cachedorm.store.protocol.keys import EntryKey, stamp_key

PlainEntry: TypeAlias = CachedValue | bytes


PLAIN_STAMP: Final = stamp_key("~plain")


_CREATED: Final = struct.Struct(">d")


_VALUE: Final = b"\0"


_SERIALIZED: Final = b"\1"


def _encode(stored: PlainEntry) -> bytes:
    if isinstance(stored, bytes):
        # The region has its own serializer; the bytes contain dogpile's metadata already.
        return _SERIALIZED + stored
    return _VALUE + _CREATED.pack(stored.metadata["ct"]) + encode_plain(stored.payload)


def _decode(payload: bytes) -> PlainEntry:
    if payload[:1] == _SERIALIZED:
        return payload[1:]
    if payload[:1] != _VALUE or len(payload) < 1 + _CREATED.size:
        raise UndecodableError("not a plain entry")
    # dogpile compares the exact creation time, which the header's milliseconds do not keep.
    (created,) = _CREATED.unpack_from(payload, 1)
    return CachedValue(
        decode_plain(payload[1 + _CREATED.size :]), {"ct": created, "v": value_version}
    )


PLAIN: Final = Format(b"~plain\0\1", _encode, _decode)


PLAIN_STAMPS: Final = (PLAIN_STAMP,)


def plain_key(key: str) -> EntryKey:
    """Return the entry key of a plain key: dogpile's format, and the stamp of plain entries."""
    return key if isinstance(key, EntryKey) else EntryKey(key, PLAIN_STAMPS, PLAIN)
