"""The owner of a key: the declaration that makes such keys, its values and its stamps.

Redis does not store this. The key's text selects the template, and the values are read back from
the text. A key is then made of those values; only if its text is the same are the stamps known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.types import NullType, TypeEngine

from cachedorm.declare.kinds import kind_of
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.errors import ArgumentError
from cachedorm.inspection.declarations import Declared, Plan
from cachedorm.inspection.key_text import UNREADABLE, Texts, parsed, texts_of, unescaped
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.orm.reading.queries import QueryPlan
from cachedorm.store.protocol.keys import (
    EntryKey,
    field_tag,
    membership_tag,
    stamp_key,
    wildcard_tag,
)

# What reading a text back can raise, and making a key of a wrong guess.
_NO_KEY = (*UNREADABLE, ArgumentError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A declaration that makes such keys, and the texts of the values in this key."""

    declared: Declared
    texts: Texts


def recognised(
    text: str, declared: Iterable[Declared], dbs: Sequence[int] | None = None
) -> list[Recognised]:
    """The declarations in these databases (all by default) whose keys can look like this."""
    found = []
    for each in declared:
        if dbs is None or each.region.db in dbs:
            texts = texts_of(each.template, text, each.appended)
            if texts is not None:
                found.append(Recognised(each, texts))
    return found


def entry_key(found: Recognised, text: str, plan: Plan, dialect: Dialect) -> EntryKey | None:
    """The key with its stamps and form; None if its values cannot be read from its text."""
    try:
        key = _made(found, plan, dialect)
    except _NO_KEY:
        return None
    return key if key is not None and str(key) == text else None


def _made(found: Recognised, plan: Plan, dialect: Dialect) -> EntryKey | None:
    if not found.texts:
        return None  # hashed
    if isinstance(plan, EntityPlan):
        types = {field: found.declared.type_of(field) for field in plan.fields}
        return plan.key([_one(found.texts[field], types[field], dialect) for field in plan.fields])
    if isinstance(plan, QueryPlan):
        query = found.declared.what
        assert isinstance(query, CachedQuery)
        return plan.key(_parameters(query, found.texts, dialect))
    texts = {name: unescaped((each or ("",))[0]) for name, each in found.texts.items()}
    return plan.key_of_texts(texts)


def _one(texts: tuple[str, ...] | None, type_: TypeEngine[Any] | None, dialect: Dialect) -> Any:
    if texts is None:
        return None
    (text,) = texts
    known = None if type_ is None or isinstance(type_, NullType) else kind_of(type_, dialect)
    return parsed(unescaped(text), known)


def _parameters(query: CachedQuery[Any], texts: Texts, dialect: Dialect) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, each in texts.items():
        bound = query.parameters[name]
        if bound.expanding:
            values[name] = tuple(_one((one,), bound.type, dialect) for one in each or ())
        else:
            values[name] = _one(each, bound.type, dialect)
    return values


def meaning(stamp: str) -> str:
    """What the stamp at this key covers, in words."""
    tag = stamp.removeprefix(stamp_key(""))
    if tag == "~plain":
        return "all plain entries of the region"
    if tag.startswith(field_tag("", "")[:1]):
        return f"entries with {tag[1:]} in their key"
    if "=" in tag:
        return f"rows with {tag}"
    table = tag.removesuffix(".*")
    if tag == membership_tag(table):
        return f"any row of {table}, inserted, deleted or changed"
    return f"{wildcard_tag(table)}, when it is not known which rows changed"
