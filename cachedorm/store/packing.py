"""Commands as the bytes that Redis reads, made in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

Word: TypeAlias = str | bytes | int


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An answer of Redis that begins with ``-``; its code is the first word."""

    text: str

    @property
    def code(self) -> str:
        return self.text.partition(" ")[0]


def _pack_in_python(words: tuple[Word, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def _choose_pack() -> Callable[[tuple[Word, ...]], bytes]:
    try:
        import hiredis
    except ImportError:
        return _pack_in_python
    # Its annotation says a tuple of one word; it takes any tuple.
    pack: Any = hiredis.pack_command
    return cast("Callable[[tuple[Word, ...]], bytes]", pack)


# One command. An EntryKey is a str to both.
pack = _choose_pack()


def pack_all(commands: Sequence[tuple[Word, ...]]) -> bytes:
    """Several commands as one message."""
    return b"".join([pack(command) for command in commands])
