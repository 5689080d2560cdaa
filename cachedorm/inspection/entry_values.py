"""The value of an entry for people: names and stored values.

These are the stored values, not the attributes': what a TypeDecorator decrypts stays encrypted.
"""

from __future__ import annotations

from cachedorm.orm.mapping.source import Readable
from cachedorm.store.codec import decode_plain
from cachedorm.store.entries.plain_values import PLAIN

__all__ = ["Readable", "readable_unknown"]


def readable_unknown(payload: bytes, *, plain: bool) -> Readable:
    """Decode the value of an entry without a declaration; raises only UNDECODABLE.

    ``plain``: the value has the form of plain dogpile values; otherwise it is read as MessagePack.
    """
    if plain:
        stored = PLAIN.decode(payload)
        value = stored if isinstance(stored, bytes) else stored.payload
        return Readable("value", 1, [{"value": value}])
    return Readable("MessagePack", 1, [{"value": decode_plain(payload)}])
