"""What a query or a data change writes: decided by its words if they suffice, else by sqlglot.

A text without a writing word is a read. Otherwise sqlglot parses it, and is believed only if it
found every writing word of the text. sqlglot is optional (``cachedorm[sql]``) and imported at the
first statement that needs it. It sees only text whose strings, comments and binds the lexer has
taken out (``parser_text``).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

from cachedorm.orm.sql.effect import NO_NAMES, READ, UNKNOWN, Effect
from cachedorm.orm.sql.lexer import Token, Tokens, is_blank, parser_text, without_blanks
from cachedorm.orm.sql.names import NamePart, folded

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.parser import Parser

_Verb = Literal["insert", "update", "delete", "merge", "into", "unknown"]


class _NotUnderstood(ValueError):
    """sqlglot is not installed, failed, or found a target that is more than a name."""


@dataclass(frozen=True, slots=True)
class _Target:
    """One relation that a statement writes, and the verb that writes it."""

    verb: _Verb
    parts: tuple[NamePart, ...]  # schema and name, or the name alone


WRITING_WORDS: Final = frozenset({"insert", "update", "delete", "merge", "into"})
# The word in front of them if they are a branch or a lock: FOR UPDATE, DO UPDATE, THEN DELETE.
_BRANCHES: Final = {
    "update": frozenset({"for", "key", "do", "then"}),
    "insert": frozenset({"then"}),
    "delete": frozenset({"then"}),
    "merge": frozenset[str](),
    "into": frozenset({"insert", "merge"}),
}


def query(part: Tokens, dialect: str) -> Effect:
    """What a SELECT, VALUES, TABLE or WITH changes: usually nothing."""
    return write(part, dialect) if any(_writing(without_blanks(part))) else READ


def _writing(tokens: Tokens) -> Iterator[str]:
    """Each word that begins a write, or names what SELECT ... INTO creates."""
    before = ""
    for token in tokens:
        word = token.value if token.kind == "word" else ""
        if word in WRITING_WORDS and before != "." and before not in _BRANCHES[word]:
            yield word
        before = token.value if token.kind in ("word", "mark") else ""


def write(part: Tokens, dialect: str) -> Effect:
    """What INSERT, UPDATE, DELETE and MERGE change, in CTEs as well."""
    replaces = False
    if dialect == "sqlite":
        part, replaces = _plain_insert(part)
    tokens = without_blanks(part)
    try:
        written = _targets(parser_text(part), dialect)
    except _NotUnderstood:
        return UNKNOWN
    if Counter(_writing(tokens)) != Counter(target.verb for target in written):
        return UNKNOWN  # the parser overlooked a write, or a column is named like one
    upserts = any(t.kind == "word" and t.value == "conflict" for t in tokens)
    effect = READ
    for target in written:
        effect |= _effect(target, dialect, upserts=upserts, replaces=replaces)
    return effect


def _effect(target: _Target, dialect: str, *, upserts: bool, replaces: bool) -> Effect:
    name = frozenset({folded(target.parts, dialect)})
    return Effect(
        writes=name,
        updates=name if upserts or target.verb in ("update", "merge") else NO_NAMES,
        deletes=name if replaces or target.verb in ("delete", "merge") else NO_NAMES,
        opaque=True,
        lingers=target.verb == "into",  # a temporary table hides another of its name
    )


def _plain_insert(part: Tokens) -> tuple[Tokens, bool]:
    """SQLite's INSERT OR ..., UPDATE OR ... and REPLACE INTO as plain ones; whether it replaces.

    SQLite deletes what it replaces first, so the foreign keys' ON DELETE acts.
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


_DIALECTS: Final = {"postgresql": "postgres", "sqlite": "sqlite"}


@lru_cache(maxsize=1)
def _sqlglot() -> ModuleType | None:
    try:
        import sqlglot
    except ImportError:
        return None
    return sqlglot


def _targets(sql: str, dialect: str) -> list[_Target]:
    """Every relation that one statement writes, at any depth.

    Raises ``_NotUnderstood`` rather than leaving one out.
    """
    root, verbs = _parsed(sql, dialect), _verbs()
    found = [node for node in root.walk() if type(node) in verbs and not _is_branch(node)]
    return [_target(node, verbs[type(node)]) for node in found]


def _parsed(sql: str, dialect: str) -> "exp.Expr":
    if _sqlglot() is None:
        raise _NotUnderstood("sqlglot is not installed")
    reading, parser = _parser(_DIALECTS[dialect])
    try:
        roots = parser(dialect=reading).parse(reading.tokenize(sql), sql)
    except Exception as error:  # noqa: BLE001 - any failure of the parser, recursion included
        raise _NotUnderstood(str(error)) from None
    if len(roots) != 1 or roots[0] is None:
        raise _NotUnderstood(sql)
    return roots[0]


@lru_cache(maxsize=8)
def _parser(name: str) -> "tuple[Dialect, type[Parser]]":
    """The dialect and its parser, which raises where sqlglot only logs a warning."""
    from sqlglot.dialects.dialect import Dialect

    reading = Dialect.get_or_raise(name)

    class Strict(reading.parser_class):  # type: ignore[misc, name-defined]
        def _warn_unsupported(self) -> None:
            raise _NotUnderstood(name)

    return reading, Strict


@lru_cache(maxsize=1)
def _verbs() -> "dict[type[exp.Expr], _Verb]":
    from sqlglot import exp

    return {
        exp.Insert: "insert",
        exp.Update: "update",
        exp.Delete: "delete",
        exp.Merge: "merge",
        exp.Into: "into",
        exp.Command: "unknown",
    }


def _is_branch(node: "exp.Expr") -> bool:
    """Whether this is the THEN UPDATE of a MERGE, whose table the MERGE names."""
    from sqlglot import exp

    return isinstance(node.parent, exp.When)


def _target(node: "exp.Expr", verb: _Verb) -> _Target:
    from sqlglot import exp

    table = node.this.this if isinstance(node.this, exp.Schema) else node.this
    if not isinstance(table, exp.Table) or _says_more(node) or _says_more(table):
        raise _NotUnderstood(repr(table))
    schema = table.args.get("db")
    return _Target(verb, tuple(_part(node) for node in (schema, table.this) if node is not None))


# Arguments of a node that may hold more tables to write.
_MORE: Final = ("tables", "joins", "laterals", "pivots", "sample", "partition")


def _says_more(node: "exp.Expr") -> bool:
    return any(node.args.get(name) for name in _MORE)


def _part(node: object) -> NamePart:
    from sqlglot import exp

    if not isinstance(node, exp.Identifier) or not node.name:
        raise _NotUnderstood(repr(node))
    return NamePart(node.name, bool(node.args.get("quoted")))
