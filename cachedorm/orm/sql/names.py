"""Relation names in SQL text, and the tables that they may stand for."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeVar

from cachedorm.orm.sql.effect import RelationName
from cachedorm.orm.sql.lexer import Tokens, Unreadable, lower

T = TypeVar("T")
# Schema and name, as a Table has them.
_TableKey = tuple[str | None, str]


class NamePart(NamedTuple):
    """One part of a name as written. Quoted parts are folded differently."""

    text: str
    quoted: bool


_LONGEST_NAME_BYTES: Final = 63  # PostgreSQL truncates longer ones, with only a notice


def folded(parts: Sequence[NamePart], dialect: str) -> RelationName:
    """The relation that one to three parts name; a database name in front is ignored."""
    texts = [_fold(part, dialect) for part in parts]
    return RelationName(texts[-2] if len(texts) > 1 else None, texts[-1])


def _fold(part: NamePart, dialect: str) -> str:
    if dialect != "postgresql":
        return part.text.lower()  # names have no case; see resolve(any_case=True)
    text = part.text if part.quoted else lower(part.text)
    return text.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore")


def relation(tokens: Tokens, start: int, dialect: str) -> tuple[RelationName, int]:
    """The relation whose name starts at this token, and the place behind it."""
    parts = [_part(tokens, start)]
    while start + 1 < len(tokens) and tokens[start + 1].value == ".":
        start += 2
        parts.append(_part(tokens, start))
    return folded(parts, dialect), start + 1


def _part(tokens: Tokens, at: int) -> NamePart:
    if at >= len(tokens) or tokens[at].kind not in ("word", "name"):
        raise Unreadable("a name was expected")
    return NamePart(tokens[at].value, tokens[at].kind == "name")


class Everything(Enum):
    """The type of ``EVERYTHING``: every followed table of the engine."""

    EVERYTHING = "everything"


EVERYTHING: Final = Everything.EVERYTHING


def resolve(
    names: Iterable[RelationName],
    tables: Mapping[_TableKey, T],
    default_schema: str | None,
    *,
    any_case: bool = False,
) -> set[T] | Literal[Everything.EVERYTHING]:
    """The tables that the names may stand for, or ``EVERYTHING``.

    The search path is not known: a name without a schema matches every table of that name, and a
    table without a schema may be in the default one. A name that matches no table may be a view
    or a partition of any table, hence ``EVERYTHING``. ``any_case`` is for databases whose names
    have no case (SQLite).
    """
    by_name = _by_name(tables, any_case=any_case)
    found: set[T] = set()
    for name in names:
        matches = [
            key
            for key in by_name.get(name.name, ())
            if _matches(name.schema, key[0], default_schema)
        ]
        if not matches:
            return EVERYTHING
        found.update(tables[key] for key in matches)
    return found


def _by_name(keys: Iterable[_TableKey], *, any_case: bool) -> dict[str, list[_TableKey]]:
    tables: dict[str, list[_TableKey]] = {}
    for key in keys:
        tables.setdefault(key[1].lower() if any_case else key[1], []).append(key)
    return tables


def _matches(named: str | None, declared: str | None, default_schema: str | None) -> bool:
    """Whether a table declared in one schema may be the one that the text names."""
    if named is None or named == declared:
        return True
    return declared is None and default_schema in (None, named)
