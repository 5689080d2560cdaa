"""What a query or a data change writes: decided by words where they suffice, else by sqlglot.

A text without any writing word is a read, exactly. Otherwise sqlglot is asked, and believed only
if it found every writing word that the text holds.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from cachedorm.orm.sql import syntax_tree
from cachedorm.orm.sql.effect import NO_NAMES, READ, UNKNOWN, Effect
from cachedorm.orm.sql.lexer import Statement, Token, is_blank, shown, without_blanks
from cachedorm.orm.sql.names import folded

WRITING_WORDS: Final = frozenset({"insert", "update", "delete", "merge", "into"})
# The word in front of them where they are but a branch or a lock: FOR UPDATE, DO UPDATE, THEN ...
_BRANCHES: Final = {
    "update": frozenset({"for", "key", "do", "then"}),
    "insert": frozenset({"then"}),
    "delete": frozenset({"then"}),
    "merge": frozenset[str](),
    "into": frozenset({"insert", "merge", "ignore"}),
}


def query(part: Statement, dialect: str) -> Effect:
    """Say what a SELECT, VALUES, TABLE or WITH changes: mostly nothing."""
    return write(part, dialect) if writes(part) else READ


def writes(part: Statement) -> bool:
    """Say whether any word of the statement may begin a write."""
    return any(_writing(without_blanks(part)))


def _writing(tokens: Statement) -> Iterator[str]:
    """Give each word that begins a write (or names what SELECT ... INTO creates)."""
    before = ""
    for token in tokens:
        word = token.value if token.kind == "word" else ""
        if word in WRITING_WORDS and before != "." and before not in _BRANCHES[word]:
            yield word
        before = token.value if token.kind in ("word", "mark") else ""


def write(part: Statement, dialect: str) -> Effect:
    """Say what INSERT, UPDATE, DELETE and MERGE change, in CTEs as well."""
    replaces = False
    if dialect != "postgresql":
        part, replaces = _plain_insert(part)
    tokens = without_blanks(part)
    try:
        targets = syntax_tree.targets(shown(part), dialect)
    except syntax_tree.NotUnderstood:
        return UNKNOWN
    if Counter(_writing(tokens)) != Counter(target.verb for target in targets):
        return UNKNOWN  # the parser overlooked a write, or a column is named like one
    upserts = any(t.kind == "word" and t.value in ("conflict", "duplicate") for t in tokens)
    effect = READ
    for target in targets:
        effect |= _effect(target, dialect, upserts=upserts, replaces=replaces)
    return effect


def _effect(target: syntax_tree.Target, dialect: str, *, upserts: bool, replaces: bool) -> Effect:
    name = frozenset({folded(target.parts, dialect)})
    return Effect(
        writes=name,
        updates=name if upserts or target.verb in ("update", "merge") else NO_NAMES,
        deletes=name if replaces or target.verb in ("delete", "merge") else NO_NAMES,
        opaque=True,
        lingers=target.verb == "into",  # a temporary table hides another of its name
    )


def _plain_insert(part: Statement) -> tuple[Statement, bool]:
    """Give INSERT OR ..., UPDATE OR ... and REPLACE INTO without that; and whether it replaces.

    What is replaced is deleted first, so the foreign keys' ON DELETE acts.
    """
    places = [i for i, token in enumerate(part) if not is_blank(token)]
    plain = list(part)
    replaces = False
    for here, after, last in zip(places, places[1:], [*places[2:], 0], strict=False):
        word, following = plain[here].value, plain[after].value
        if word in ("insert", "update") and following == "or":
            replaces |= part[last].value == "replace"
            plain[after] = plain[last] = Token("mark", "", " ")
        elif (word, following) == ("replace", "into"):
            replaces = True
            plain[here] = Token("word", "insert", "insert")
    return plain, replaces
