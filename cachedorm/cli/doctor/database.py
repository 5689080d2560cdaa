"""The databases behind a Cache: role, isolation, and the cached tables."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, inspect
from sqlalchemy.exc import SQLAlchemyError

from cachedorm.cli.doctor.findings import Finding, error, info, ok, unknown, warning
from cachedorm.cli.errors import masked, one_line
from cachedorm.errors import CachedormError
from cachedorm.inspection.declarations import Insight, tables_of
from cachedorm.orm.database.catalog import Facts
from cachedorm.orm.tracking.engine import EngineTracker


def examine_databases(insight: Insight) -> Iterator[Finding]:
    """Findings about the databases; a single one for each that is unavailable."""
    if not insight.trackers:
        yield error(
            "attached", "nothing is attached to this Cache, so it serves no session",
            "cache.attach(sessionmaker) in what --app names",
        )  # fmt: skip
    for tracker in insight.trackers:
        name = _name(tracker)
        try:
            yield from _examined(insight, tracker, name)
        except (CachedormError, SQLAlchemyError, OSError) as failure:
            yield unknown(
                "database", f"{name} cannot be examined: {one_line(failure)}",
                "start it, or check its URL, the account's rights and the network",
            )  # fmt: skip


def _name(tracker: EngineTracker) -> str:
    return masked(tracker.engine.url.render_as_string(hide_password=True))


def _examined(insight: Insight, tracker: EngineTracker, name: str) -> Iterator[Finding]:
    profile = tracker.know()
    yield from _role(tracker, name, replica=profile.replica)
    level = tracker.isolation or profile.isolation
    yield _isolation(name, level, profile.reads_old(level), snapshot=profile.snapshot)
    tables = insight.tables()
    missing = _missing(tracker, tables)
    if missing:
        yield error(
            "tables", f"{name} has no {', '.join(missing)}",
            "run the migrations, or attach the database that has them",
        )  # fmt: skip
    yield from _tables(insight, tracker.facts, tables)


def _role(tracker: EngineTracker, name: str, *, replica: bool) -> Iterator[Finding]:
    if replica and tracker.publish:
        yield warning(
            "replica", f"{name} is a replica (in recovery): its rows may be stale, so they are"
            " not cached, and every read goes to the database",
            "attach the primary; a replica with attach(engine, publish=False)",
        )  # fmt: skip
    elif replica:
        yield ok("replica", f"{name} is a replica and attached as one")
    elif not tracker.publish:
        yield info(
            "replica", f"{name} is attached with publish=False, but is not a replica: nothing read"
            " there is cached",
            "attach a primary without publish=False",
        )  # fmt: skip
    else:
        yield ok("replica", f"{name} is a primary")


def _isolation(name: str, level: str, reads_old: bool, *, snapshot: bool) -> Finding:
    level = level.replace("_", " ").upper()
    if reads_old:
        return warning(
            "isolation", f"{name} begins transactions at {level}: each reads its own snapshot, so"
            " the cache cannot answer its reads",
            "use READ COMMITTED, and a higher level only where needed"
            " (execution_options(isolation_level=...))",
        )  # fmt: skip
    if level == "AUTOCOMMIT":
        return info("isolation", f"{name} commits every statement by itself (AUTOCOMMIT)")
    text = "a snapshot from its first read on" if snapshot else "reads are served from the cache"
    return ok("isolation", f"{name}: {level}, {text}")


def _missing(tracker: EngineTracker, tables: list[Table]) -> list[str]:
    with tracker.engine.connect() as connection:
        inspector = inspect(connection)
        missing = [
            table.fullname
            for table in tables
            if not inspector.has_table(table.name, schema=table.schema)
        ]
        connection.rollback()
    return sorted(missing)


def _tables(insight: Insight, facts: Facts, tables: list[Table]) -> Iterator[Finding]:
    for table in tables:
        reason = facts.refused.get((table.schema, table.name))
        if reason is not None:
            yield error(
                "tables", f"{table.fullname} is never served from the cache: {_refusal(reason)}",
                "cache its underlying tables, or do not declare it",
            )  # fmt: skip
    written = {
        table.fullname
        for shape in insight.models()
        if shape.policy.writes
        for table in tables_of(shape)
    }
    through = {interest.table.fullname for interest in insight.interests if interest.through}
    for table in tables:
        if facts.is_triggered([table]):
            yield _triggered(table.fullname, written, through)


def _refusal(reason: str) -> str:
    from cachedorm.orm.database.catalog import REFUSALS

    return REFUSALS.get(reason, reason)


def _triggered(name: str, written: set[str], through: set[str]) -> Finding:
    text = f"{name} has a trigger or a rule"
    if name in through:
        text += "; its rows are invalidated and not written through: the trigger may change them"
    if name in written:
        return info("triggers", f"{text}; the tables it writes are declared (writes=...)")
    return warning(
        "triggers", f"{text}; writes it makes to other tables are not seen by commits here",
        "if it writes any, name them: CachePolicy(writes=('schema.table',))",
    )  # fmt: skip
