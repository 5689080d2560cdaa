"""What a piece of SQL text may change: the relations it writes, or everything.

``read_sql`` reads the text and ``resolve`` finds the tables that its names stand for. Both err on
the safe side: a text that is not known to be harmless touches every followed table. A text does
not show what is written by functions that a SELECT calls, by triggers and by rules.
"""

from functools import lru_cache
from typing import Final

from cachedorm.orm.sql.effect import READ, UNKNOWN, Effect, Ending, RelationName
from cachedorm.orm.sql.lexer import LEXERS, Unreadable, lower, statements
from cachedorm.orm.sql.names import EVERYTHING, Everything, resolve
from cachedorm.orm.sql.statements import FUNCTIONS, effect_of
from cachedorm.orm.sql.writes import WRITING_WORDS

__all__ = [
    "EVERYTHING",
    "READ",
    "UNKNOWN",
    "Effect",
    "Ending",
    "Everything",
    "RelationName",
    "may_call",
    "read_sql",
    "resolve",
]

_SHORT_CHARACTERS: Final = 8_192
_LONGEST_CHARACTERS: Final = 100_000


def read_sql(sql: str, dialect: str) -> Effect:
    """Read what a text may change; never raises. ``dialect`` is SQLAlchemy's name for it.

    Memoised: well under 1 us for a text seen before, otherwise about 0.1 ms for a read and up to
    1 ms for a write. The text may carry binds of any style, and ``%%``.
    """
    if len(sql) <= _SHORT_CHARACTERS:
        return _read_short(sql, dialect)
    if len(sql) <= _LONGEST_CHARACTERS:
        return _read_long(sql, dialect)
    return READ if _is_plainly_a_read(sql, dialect) else _unknown(sql, dialect)


@lru_cache(maxsize=2_048)
def may_call(sql: str) -> bool:
    """Whether a compiled statement may call a function that writes or changes the session."""
    text = lower(sql)
    return any(name in text for name in FUNCTIONS)


def _read(sql: str, dialect: str) -> Effect:
    try:
        parts = statements(sql, dialect)
        effect = READ
        for part in parts:
            effect |= effect_of(part, dialect)
    except (Unreadable, RecursionError):
        return _unknown(sql, dialect)
    return effect


# Long texts are few and large: they must neither evict the short ones nor fill the memory.
_read_short: Final = lru_cache(maxsize=2_048)(_read)
_read_long: Final = lru_cache(maxsize=32)(_read)

_ENDING_WORDS: Final = ("commit", "end", "rollback", "abort", "prepare")


def _unknown(sql: str, dialect: str) -> Effect:
    """The effect of a text that cannot be read; it may also end the transaction."""
    # A database whose SQL we do not know may commit before any statement (MySQL, Oracle).
    text = lower(sql)
    if dialect not in LEXERS or any(word in text for word in _ENDING_WORDS):
        return UNKNOWN | Effect(ends_transaction="perhaps")
    return UNKNOWN


def _is_plainly_a_read(sql: str, dialect: str) -> bool:
    """Whether a text that is too long to be cut into tokens is a SELECT that cannot write.

    A SELECT writes only with one of a few words. If none of them occurs, not even in a string, it
    is a read.
    """
    text = lower(sql)
    return (
        dialect in ("postgresql", "sqlite")
        and text.lstrip(" \t\r\n(").startswith(("select ", "select\n", "values ", "values("))
        and not any(word in text for word in (*WRITING_WORDS, *FUNCTIONS, ";", 'u&"'))
    )
