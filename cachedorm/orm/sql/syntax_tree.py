"""What sqlglot finds in a statement that writes: the one place that knows sqlglot.

sqlglot is optional (`cachedorm[sql]`) and imported at the first statement that needs it. It only
sees text whose strings, comments and binds were already taken out (`sqltokens.shown`).
"""

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

from cachedorm.orm.sql.names import Part

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.parser import Parser

Verb = Literal["insert", "update", "delete", "merge", "into", "unknown"]


class NotUnderstood(ValueError):
    """The parser is absent, failed, or found something that a name does not say."""


@dataclass(frozen=True, slots=True)
class Target:
    """One relation that a statement writes, and by which verb."""

    verb: Verb
    parts: tuple[Part, ...]  # schema and name, or the name alone


_DIALECTS: Final = {
    "postgresql": "postgres",
    "sqlite": "sqlite",
    "mysql": "mysql",
    "mariadb": "mysql",
}


def load() -> bool:
    """Import sqlglot now rather than at the first writing text; say whether it is there."""
    return _sqlglot() is not None


@lru_cache(maxsize=1)
def _sqlglot() -> ModuleType | None:
    try:
        import sqlglot
    except ImportError:
        return None
    return sqlglot


def targets(sql: str, dialect: str) -> list[Target]:
    """Give every relation that one statement writes, wherever in it the writing stands.

    Raises `NotUnderstood` rather than leaving one out.
    """
    root, verbs = _parsed(sql, dialect), _verbs()
    found = [node for node in root.walk() if type(node) in verbs and not _is_branch(node)]
    return [_target(node, verbs[type(node)]) for node in found]


def _parsed(sql: str, dialect: str) -> "exp.Expr":
    if _sqlglot() is None:
        raise NotUnderstood("sqlglot is not installed")
    reading, parser = _parser(_DIALECTS[dialect])
    try:
        roots = parser(dialect=reading).parse(reading.tokenize(sql), sql)
    except Exception as error:  # noqa: BLE001 whatever a parser runs into, recursion included
        raise NotUnderstood(str(error)) from None
    if len(roots) != 1 or roots[0] is None:
        raise NotUnderstood(sql)
    return roots[0]


@lru_cache(maxsize=8)
def _parser(name: str) -> "tuple[Dialect, type[Parser]]":
    """Give the dialect and its parser, which refuses what sqlglot would only log and wave on."""
    from sqlglot.dialects.dialect import Dialect

    reading = Dialect.get_or_raise(name)

    class Strict(reading.parser_class):  # type: ignore[misc, name-defined]
        def _warn_unsupported(self) -> None:
            raise NotUnderstood(name)

    return reading, Strict


@lru_cache(maxsize=1)
def _verbs() -> "dict[type[exp.Expr], Verb]":
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
    """Say whether this is the THEN UPDATE of a MERGE, which itself names the table."""
    from sqlglot import exp

    return isinstance(node.parent, exp.When)


def _target(node: "exp.Expr", verb: Verb) -> Target:
    from sqlglot import exp

    table = node.this.this if isinstance(node.this, exp.Schema) else node.this
    if not isinstance(table, exp.Table) or _says_more(node) or _says_more(table):
        raise NotUnderstood(repr(table))
    schema = table.args.get("db")
    return Target(verb, tuple(_part(node) for node in (schema, table.this) if node is not None))


# Arguments of a node that hold more tables to write (MySQL's DELETE a, b FROM ...; UPDATE a, b).
_MORE: Final = ("tables", "joins", "laterals", "pivots", "sample", "partition")


def _says_more(node: "exp.Expr") -> bool:
    return any(node.args.get(name) for name in _MORE)


def _part(node: object) -> Part:
    from sqlglot import exp

    if not isinstance(node, exp.Identifier) or not node.name:
        raise NotUnderstood(repr(node))
    return Part(node.name, bool(node.args.get("quoted")))
