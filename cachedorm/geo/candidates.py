"""The candidates of one cell: what is stored of them, and how the answer for a point is picked.

As stored::

    S                                                   the cell is split
    C  count u32  lats f64...  lons f64...  ends u32...  rows

Numbers are little-endian. ``ends`` says where each row ends, so that only the rows of the answer
are ever taken apart.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, Final

from cachedorm.geo.geodesy import DOUBT_M, distances, rounded
from cachedorm.store.codec import UndecodableError

CandidateRow = tuple[Any, ...]
# A row of the answer: its place among the candidates, and its distance in metres.
Hit = tuple[int, float]


class Split(Enum):
    """The cell has more candidates than are kept: ask for a smaller one."""

    SPLIT = b"S"


SPLIT: Final = Split.SPLIT


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows near a cell, in the order of their primary key as the database has it."""

    lats: array[float]
    lons: array[float]
    rows: Sequence[CandidateRow]

    def __len__(self) -> int:
        return len(self.lats)

    def nearest(self, lat: float, lon: float, radius_m: float, k: int) -> list[Hit] | None:
        """What PostGIS would answer for this point; None where a millimetre would decide it."""
        exact = distances(lat, lon, self.lats, self.lons)
        reach = radius_m + DOUBT_M
        found = [(metres, at) for at, metres in enumerate(exact) if metres <= reach]
        # By distance, then by the place among the candidates, which is the primary key's.
        found.sort()
        if self._doubtful(found[: _end_of_doubt(found, k)], k, radius_m):
            return None
        return [(at, rounded(metres)) for metres, at in found[:k]]

    def _doubtful(self, found: list[tuple[float, int]], k: int, radius_m: float) -> bool:
        """Whether PostGIS may see another order than we, or another end."""
        if found and found[min(k, len(found)) - 1][0] >= radius_m - DOUBT_M:
            return True
        for (near, one), (far, other) in pairwise(found):
            # The same place twice is as far for PostGIS as for us: the key decides there as here.
            if far - near <= DOUBT_M and not self._same_place(one, other):
                return True
        return False

    def _same_place(self, one: int, other: int) -> bool:
        return self.lats[one] == self.lats[other] and self.lons[one] == self.lons[other]


@dataclass(frozen=True, slots=True)
class CandidatesCodec:
    """Candidates to bytes and back, their rows by another codec."""

    encode_row: Callable[[CandidateRow], bytes]
    decode_row: Callable[[bytes], CandidateRow]

    def encode(self, value: Candidates | Split) -> bytes:
        """The stored form; NotCacheable for a row that cannot be stored."""
        if isinstance(value, Split):
            return SPLIT.value
        rows = [self.encode_row(row) for row in value.rows]
        ends = array("I")
        end = 0
        for row in rows:
            end += len(row)
            ends.append(end)
        numbers = (_little(part) for part in (value.lats, value.lons, ends))
        return b"".join((b"C", _COUNT.pack(len(rows)), *numbers, *rows))

    def decode(self, payload: bytes) -> Candidates | Split:
        """What was stored; UndecodableError for what was not."""
        if payload == SPLIT.value:
            return SPLIT
        head, count = 1 + _COUNT.size, 0
        if payload[:1] == b"C" and len(payload) >= head:
            count = _COUNT.unpack_from(payload, 1)[0]
        begin = head + 20 * count
        if payload[:1] != b"C" or len(payload) < begin:
            raise UndecodableError("not the candidates of a cell")
        lats = _numbers("d", payload[head : head + 8 * count])
        lons = _numbers("d", payload[head + 8 * count : head + 16 * count])
        ends = _numbers("I", payload[head + 16 * count : begin])
        if begin + (ends[-1] if count else 0) != len(payload):
            raise UndecodableError("the candidates of a cell, cut short")
        return Candidates(lats, lons, _StoredRows(payload, begin, ends, self.decode_row))


@dataclass(frozen=True, slots=True)
class _StoredRows(Sequence[CandidateRow]):
    """Rows that are taken apart when they are asked for."""

    payload: bytes
    begin: int
    ends: array[int]
    decode_row: Callable[[bytes], CandidateRow]

    def __getitem__(self, at: Any) -> Any:
        start = self.ends[at - 1] if at else 0
        return self.decode_row(self.payload[self.begin + start : self.begin + self.ends[at]])

    def __len__(self) -> int:
        return len(self.ends)


def _end_of_doubt(found: Sequence[tuple[float, int]], k: int) -> int:
    """How many rows have a say in which are the first k: all that may be as near as the k-th."""
    end = min(k, len(found))
    while end < len(found) and found[end][0] - found[k - 1][0] <= DOUBT_M:
        end += 1
    return end


_COUNT: Final = struct.Struct("<I")


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(typecode: str, stored: bytes) -> array[Any]:
    numbers: array[Any] = array(typecode)
    numbers.frombytes(stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
