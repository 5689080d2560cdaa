"""What is declared, examined by itself: keys that run into each other, queries seldom hit."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import combinations

from cachedorm.cli.doctor.findings import Finding, error, info, ok, warning
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.inspection.declarations import Declared, Insight
from cachedorm.inspection.key_text import overlap


def examine_declared(insight: Insight) -> Iterator[Finding]:
    """Findings about the declarations; asks no server."""
    declared = insight.declared()
    shared = list(_shared_keys(declared))
    yield from shared
    if not shared:
        yield ok("keys", f"{len(declared)} key templates, no two of which overlap")
    yield from _shared_databases(insight)
    yield from _whole_tables(declared)
    yield from _without_intents(insight)
    yield from _missing()


def _shared_keys(declared: list[Declared]) -> Iterator[Finding]:
    for one, other in combinations(declared, 2):
        if one.region.db != other.region.db or set(one.appended) != set(other.appended):
            continue
        both = f"{_named(one)} and {_named(other)} in database {one.region.db}"
        if one.template == other.template:
            yield error(
                "keys", f"{both} have the same key: each rejects the other's entries, so neither is"
                " hit while both are read",
                "give each its own prefix",
            )  # fmt: skip
        elif overlap(one.template, other.template):
            yield warning(
                "keys", f"{both} overlap: for some values they make the same key, and each then"
                " replaces the other's entry",
                "give them different prefixes",
            )  # fmt: skip


def _named(declared: Declared) -> str:
    text = declared.template.text
    return f"{declared.name} ({text})" if declared.name != text else text


def _shared_databases(insight: Insight) -> Iterator[Finding]:
    names: dict[int, list[str]] = {}
    for region in insight.regions():
        names.setdefault(region.db, []).append(region.name)
    for db, each in names.items():
        if len(each) > 1:
            yield info(
                "regions", f"{', '.join(each)} share database {db}: patterns, and write-through"
                " with soft expiry, do not distinguish them",
                "give each its own database if that matters",
            )  # fmt: skip


def _whole_tables(declared: list[Declared]) -> Iterator[Finding]:
    for each in declared:
        if not isinstance(each.what, CachedQuery):
            continue
        whole = [d.table.fullname for d in each.what.dependencies if d.column is None]
        if whole:
            yield info(
                "queries", f"{each.template.text} depends on all of {', '.join(whole)}: any write"
                " to it invalidates all entries of the query",
                "fine for rarely written tables; otherwise add an equality with a parameter",
            )  # fmt: skip


def _without_intents(insight: Insight) -> Iterator[Finding]:
    names = [region.name for region in insight.regions() if not region.intents]
    if names:
        yield info(
            "intents", f"intents are off in {', '.join(names)}: a writer that dies between COMMIT"
            " and its clean-up leaves stale entries until they expire",
            "keep intents on if that is too long",
        )  # fmt: skip


def _missing() -> Iterator[Finding]:
    if find_spec("sqlglot") is None:
        yield warning(
            "extras", "sqlglot is not installed: SQL text that may write invalidates everything",
            "pip install 'cachedorm[sql]'",
        )  # fmt: skip
    if find_spec("hiredis") is None:
        yield info(
            "extras",
            "hiredis is not installed: hits take longer",
            "pip install 'cachedorm[hiredis]'",
        )
