"""The value of an entry for people to read: names and stored values, as the declaration has them.

Stored values, not the attributes' own: what a column's TypeDecorator decrypts stays encrypted.
"""

from __future__ import annotations

from cachedorm.orm.mapping.source import Readable
from cachedorm.store.codec import decode_plain
from cachedorm.store.entries.plain_values import PLAIN

__all__ = ["Readable", "readable_unknown"]


def readable_unknown(payload: bytes, *, plain: bool) -> Readable:
    """The value of an entry that nothing here declares; raises only UNDECODABLE.

    ``plain``: it has the form of what dogpile's users store. Else what MessagePack says by itself.
    """
    if plain:
        stored = PLAIN.decode(payload)
        value = stored if isinstance(stored, bytes) else stored.payload
        return Readable("value", 1, [{"value": value}])
    return Readable("MessagePack", 1, [{"value": decode_plain(payload)}])
