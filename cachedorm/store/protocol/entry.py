"""What one slot in Redis holds, to the byte: nothing, a lease, an intent, or a value.

    L token(16)              one caller is filling this entry; only that caller may publish it
    I token(16)              a writer is about to commit a change to it
    V header stamps payload  a value

A value slot of format version 1 (numbers big-endian). ``acquire.lua`` compares the same bytes;
its ``string.sub`` counts from 1 and includes the end, so both ways of counting are given.

    offset  length  Lua sub        what
    0       1       1, 1           the letter V
    1       1       2, 2           format version
    2       8       3, 10          fingerprint of the form (schema and database) of the payload
    10      8       11, 18         identity of the Redis server it was published on
    18      1       19, 19         flags: 1 = absent, the row is remembered not to exist;
                                   2 = outlives: not served from soft_ms on, though the key
                                   lives on; 4 = kept: served again because the database was down
    19      8       20, 27         created_ms, the publisher's clock, in ms since the epoch
    27      8       28, 35         soft_ms, when it expires, by the same clock; 0 = with its key
    35      1       36, 36         number of stamps n, at most 255
    36      16 n    37, 36 + 16 n  stamps, in the order of the key's stamp keys
    36+16n  rest    37 + 16 n, -1  payload

Bytes 0-17 are the *prefix*: constant for one format on one server, so that a reader compares
them at once. Bytes from Redis are never trusted: what is not exactly as above is a miss.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from cachedorm.store.runtime.clock import now_ms

FORMAT_VERSION: Final = 1
TOKEN_BYTES: Final = 16
STAMP_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 8
SERVER_BYTES: Final = 8
PREFIX_BYTES: Final = 2 + FINGERPRINT_BYTES + SERVER_BYTES
HEADER_BYTES: Final = PREFIX_BYTES + 18
STAMPS_MAX: Final = 255

_LEASE: Final = b"L"
_INTENT: Final = b"I"
_VALUE: Final = b"V" + bytes([FORMAT_VERSION])
_FLAG_ABSENT: Final = 1
_FLAG_OUTLIVES: Final = 2
_FLAG_KEPT: Final = 4
_FLAGS: Final = _FLAG_ABSENT | _FLAG_OUTLIVES | _FLAG_KEPT
_CREATED: Final = slice(19, 27)
_SOFT: Final = slice(27, 35)
# Behind the prefix: flags, created_ms, soft_ms, number of stamps.
_REST: Final = struct.Struct(">BQQB")


class Absent(Enum):
    """The type of ABSENT, so that type checkers narrow on ``is ABSENT``."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent.ABSENT
"""The value of a negative entry: the row does not exist."""


class Miss(Enum):
    """Why a slot does not answer a read; observers receive the value of the member."""

    EMPTY = "empty"
    LEASE = "lease"
    INTENT = "intent"
    FORMAT = "format"
    SCHEMA = "schema"
    FOREIGN = "foreign"
    STAMP = "stamp"
    EXPIRED = "expired"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Format:
    """How the values of one kind of entry are encoded and decoded, and its fingerprint.

    Two formats with one fingerprint must read each other's bytes: the fingerprint covers the
    columns, their kinds and the identity of the database that the rows come from.
    """

    fingerprint: bytes
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def __post_init__(self) -> None:
        _exactly("fingerprint", self.fingerprint, FINGERPRINT_BYTES)


def new_token() -> bytes:
    """16 random bytes that identify one lease, one intent or one stamp."""
    return os.urandom(TOKEN_BYTES)


def lease_slot(token: bytes) -> bytes:
    """The slot of an entry that is being filled."""
    return _LEASE + token


def intent_slot(token: bytes) -> bytes:
    """The slot of an entry that a writer is about to change."""
    return _INTENT + token


def prefix(form: Format | bytes, server: bytes) -> bytes:
    """The first 18 bytes of every value of this form (or fingerprint) on this server."""
    fingerprint = form if isinstance(form, bytes) else form.fingerprint
    if len(fingerprint) != FINGERPRINT_BYTES or len(server) != SERVER_BYTES:
        _exactly("fingerprint", fingerprint, FINGERPRINT_BYTES)
        _exactly("server identity", server, SERVER_BYTES)
    return _VALUE + fingerprint + server


def value_slot(
    form: Format | bytes,
    server: bytes,
    stamps: Sequence[bytes],
    payload: bytes,
    *,
    absent: bool = False,
    created_ms: int,
    soft_ms: int = 0,
    outlives: bool = False,
) -> bytes:
    """The slot of a value, or with ``absent`` of a negative entry.

    ``outlives``: the key lives on after ``soft_ms``, to be served while the database is down.
    """
    for stamp in stamps:
        if len(stamp) != STAMP_BYTES:
            _exactly("stamp", stamp, STAMP_BYTES)
    if len(stamps) > STAMPS_MAX:
        raise ValueError(f"an entry carries at most {STAMPS_MAX} stamps, not {len(stamps)}")
    flags = _FLAG_ABSENT * absent | _FLAG_OUTLIVES * outlives
    rest = _REST.pack(flags, created_ms, soft_ms, len(stamps))
    return b"".join((prefix(form, server), rest, *stamps, payload))


def judge(
    slot: bytes | None, prefix: bytes, stamps: Sequence[bytes | None]
) -> bytes | Absent | Miss:
    """The payload if this slot may be served now, else ABSENT or the reason for the miss.

    ``prefix`` is that of the reader's format on the server that the slot was read from.
    ``stamps`` is what Redis holds under the key's stamp keys, in their order. Never raises.
    EXPIRED: the value is valid, but its time has passed by this machine's clock.
    """
    count = len(stamps)
    if slot is None or slot[:PREFIX_BYTES] != prefix:
        return _why_not(slot, prefix)
    if len(slot) < HEADER_BYTES + STAMP_BYTES * count:
        return Miss.GARBAGE
    if slot[35] != count:
        return Miss.STAMP
    # Compared one by one, not joined: two malformed stamps must not compensate for each other.
    end = HEADER_BYTES
    for stamp in stamps:
        begin, end = end, end + STAMP_BYTES
        if slot[begin:end] != stamp:
            return Miss.STAMP
    flags = slot[PREFIX_BYTES]
    if not flags:
        return slot[end:]
    if flags & ~_FLAGS:
        return Miss.GARBAGE
    # The reader's own settings do not matter: the publisher has promised this time to live.
    if flags & _FLAG_OUTLIVES and soft_ms_of(slot) <= now_ms():
        return Miss.EXPIRED
    return ABSENT if flags & _FLAG_ABSENT else slot[end:]


def held_value(slot: bytes, count: int) -> bytes | Absent:
    """The value of a slot that was judged EXPIRED, behind its ``count`` stamps."""
    if slot[PREFIX_BYTES] & _FLAG_ABSENT:
        return ABSENT
    return slot[HEADER_BYTES + STAMP_BYTES * count :]


def soft_ms_of(slot: bytes) -> int:
    """When this value expires, in ms since the epoch; 0 = with its key."""
    return int.from_bytes(slot[_SOFT])


def is_kept(slot: bytes) -> bool:
    """Whether this value had expired and is served longer because the database was down."""
    return bool(slot[PREFIX_BYTES] & _FLAG_KEPT)


def kept_slot(slot: bytes, soft_ms: int) -> bytes:
    """The slot of the same value, served until ``soft_ms``."""
    flags = bytes([slot[PREFIX_BYTES] | _FLAG_OUTLIVES | _FLAG_KEPT])
    created = slot[_CREATED]
    return slot[:PREFIX_BYTES] + flags + created + soft_ms.to_bytes(8) + slot[_SOFT.stop :]


def _why_not(slot: bytes | None, prefix: bytes) -> Miss:
    """Name the reason why a slot does not begin with the prefix."""
    if slot is None:
        return Miss.EMPTY
    letter = slot[:1]
    if letter in (_LEASE, _INTENT):
        if len(slot) != 1 + TOKEN_BYTES:
            return Miss.GARBAGE
        return Miss.LEASE if letter == _LEASE else Miss.INTENT
    if letter != _VALUE[:1] or len(slot) < 2:
        return Miss.GARBAGE
    if slot[:2] != prefix[:2]:
        return Miss.FORMAT
    if len(slot) < PREFIX_BYTES:
        return Miss.GARBAGE
    same_form = slot[2 : 2 + FINGERPRINT_BYTES] == prefix[2 : 2 + FINGERPRINT_BYTES]
    return Miss.FOREIGN if same_form else Miss.SCHEMA


def created_ms_of(slot: bytes) -> int | None:
    """When a value was published, in ms since the epoch; None if the slot holds no value."""
    if slot[:2] != _VALUE or len(slot) < HEADER_BYTES:
        return None
    return int.from_bytes(slot[_CREATED])


@dataclass(frozen=True, slots=True)
class Described:
    """A slot taken apart for display; only values have more than ``holds`` and ``token``."""

    holds: Literal["nothing", "lease", "intent", "value", "absent", "garbage", "other format"]
    token: bytes = b""
    version: int = 0
    fingerprint: bytes = b""
    server: bytes = b""
    created_ms: int = 0
    soft_ms: int = 0
    stamps: tuple[bytes, ...] = ()
    payload: bytes = b""
    outlives: bool = False
    kept: bool = False


def describe(slot: bytes | None) -> Described:
    """What a slot holds, for ``inspect`` and for error reports. Never raises."""
    if slot is None:
        return Described("nothing")
    if slot[:1] in (_LEASE, _INTENT) and len(slot) == 1 + TOKEN_BYTES:
        return Described("lease" if slot[:1] == _LEASE else "intent", token=slot[1:])
    if slot[:1] == _VALUE[:1] and len(slot) >= 2 and slot[1] != FORMAT_VERSION:
        return Described("other format", version=slot[1])
    if slot[:2] != _VALUE or len(slot) < HEADER_BYTES:
        return Described("garbage")
    return _describe_value(slot)


def _describe_value(slot: bytes) -> Described:
    flags, created_ms, soft_ms, count = _REST.unpack_from(slot, PREFIX_BYTES)
    end = HEADER_BYTES + STAMP_BYTES * count
    if len(slot) < end or flags & ~_FLAGS:
        return Described("garbage")
    return Described(
        "absent" if flags & _FLAG_ABSENT else "value",
        version=slot[1],
        fingerprint=slot[2:10],
        server=slot[10:18],
        created_ms=created_ms,
        soft_ms=soft_ms,
        stamps=tuple(slot[at : at + STAMP_BYTES] for at in range(HEADER_BYTES, end, STAMP_BYTES)),
        payload=slot[end:],
        outlives=bool(flags & _FLAG_OUTLIVES),
        kept=bool(flags & _FLAG_KEPT),
    )


def _exactly(what: str, value: bytes, size_bytes: int) -> None:
    if len(value) != size_bytes:
        raise ValueError(f"a {what} has {size_bytes} bytes, not {len(value)}")
