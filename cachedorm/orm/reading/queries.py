"""Answering a cached query: its key and stamps from the parameters, its rows from the payload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Compiled, Connection, Dialect, IteratorResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.queries.dependencies import Dependency
from cachedorm.declare.queries.derived import DerivedQuery
from cachedorm.declare.queries.equalities import VALUES_MAX
from cachedorm.declare.queries.loading_options import loading_text
from cachedorm.declare.queries.query import CachedQuery, CacheOption
from cachedorm.errors import ArgumentError, NotCacheable
from cachedorm.observe import Observer
from cachedorm.orm.database.compat import repeats_rows, rows_result
from cachedorm.orm.database.profile import Profile
from cachedorm.orm.mapping.field_stamps import field_stamps, stamped_fields
from cachedorm.orm.mapping.key_values import asked_value_of, key_value
from cachedorm.orm.mapping.source import Readable, Source, Sourced
from cachedorm.orm.reading.adhoc_queries import AdHocQuery, adhoc_values
from cachedorm.orm.reading.read_path import BYPASSED, Bypassed, ReadPath
from cachedorm.orm.reading.results import EntityElement, answer_of, first_mapper
from cachedorm.store.codec import encode_plain
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.entry import FINGERPRINT_BYTES, Format
from cachedorm.store.protocol.keys import (
    EntryKey,
    membership_tag,
    stamp_key,
    value_tag,
    wildcard_tag,
)


class QueryPlan:
    """How the answers of one query are keyed, stored and read under one Cache."""

    __slots__ = (
        "_asked",
        "_dialect",
        "_fields",
        "_narrow",
        "_tagged",
        "_whole",
        "codec",
        "entities",
        "extra",
        "form",
        "is_from",
        "mapper",
        "names",
        "query",
        "region",
        "repeats",
        "tables",
    )

    def __init__(
        self,
        query: CachedQuery[Any] | AdHocQuery,
        region: CachedRegion,
        database: str,
        profile: Profile,
        dialect: Dialect,
    ) -> None:
        self.query = query
        self.region = region
        self._dialect = dialect
        self.codec = answer_of(query.statement, dialect, f"CachedQuery({query.template.text!r})")
        each = self.codec.elements.each
        self.mapper = first_mapper(query.statement)
        self.names = tuple(element.name for element in each)
        self.extra = tuple(element.extra for element in each)
        self.entities = tuple(isinstance(element, EntityElement) for element in each)
        compiled = query.statement.compile(dialect=dialect)
        self.repeats = repeats_rows(compiled)
        self._whole = _whole_stamps(query.dependencies)
        self._narrow = tuple(each for each in query.dependencies if each.column is not None)
        self._tagged = {each.source.parameter for each in self._narrow if each.source is not None}
        self._fields = stamped_fields(query)
        self._asked = {
            name: asked_value_of(parameter, dialect) for name, parameter in query.parameters.items()
        }
        source = Source.of(self.mapper, {each.table for each in query.dependencies}, profile)
        self.tables, self.is_from = source.tables, source.is_from
        self.form = Format(
            self._fingerprint(compiled, (database, *source.whose)),
            self.codec.encode,
            self.codec.decode,
        )

    def _fingerprint(self, compiled: Compiled, database: tuple[str | None, ...]) -> bytes:
        query = self.query
        digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
        # A declared query's own values (a limit, a status) are in no key: new code may change them.
        own = isinstance(query, CachedQuery)
        values = sorted(compiled.params.items()) if own else ()
        along = loading_text(query.statement, self._dialect, values=own)
        stored = self.codec.describe()
        text = (database, query.template.text, str(compiled), values, stored, along)
        digest.update(repr(text).encode())
        return digest.digest()

    @property
    def stamps(self) -> tuple[str, ...]:
        """The stamps that every answer carries, whatever the parameters."""
        return self._whole

    def key(self, values: Mapping[str, Any]) -> EntryKey:
        """The entry's key under these parameters, with the stamps of their tags."""
        query = self.query
        bound: dict[str, Any] = {}
        for name, value in values.items():
            if query.parameters[name].expanding:
                bound[name] = tuple([self._exact(name, each) for each in value])
            else:
                bound[name] = self._exact(name, value)
        text = query.template.render(bound, query.appended)
        stamps = self._whole
        for dependency in self._narrow:
            stamps += self._stamps_of(dependency, bound)
        if self._fields:
            stamps += field_stamps(self._fields, bound)
        return EntryKey(text, stamps, self.form, query.ttl_ms)

    def _stamps_of(self, dependency: Dependency, bound: Mapping[str, Any]) -> tuple[str, ...]:
        source, column = dependency.source, dependency.column
        assert source is not None
        assert column is not None
        values = source.of(bound)
        if source.parameter is None:
            values = tuple(key_value(column, value, self._dialect) for value in values)
        table = dependency.table.fullname
        if len(values) > VALUES_MAX:
            return (stamp_key(membership_tag(table)),)
        stamps: tuple[str, ...] = ()
        for value in values:
            if value is not None:
                stamps += (stamp_key(value_tag(table, column.name, value)),)
        return stamps

    def _exact(self, name: str, value: Any) -> Any:
        """The value as it goes to the database, or what stands for it in the key."""
        if value is None:
            return None
        # As asked: 1.234 is another question than 1.23, though a column may hold no such value.
        try:
            return self._asked[name](value)
        except ArgumentError:
            if name in self._tagged:
                raise
        # It names the entry only: no row is looked for by it.
        return parameter_digest(value) if isinstance(value, list | dict | set | tuple) else value

    def load(
        self,
        connection: Connection,
        statement: SelectBase,
        given: Mapping[str, Any],
        observer: Observer,
    ) -> tuple[Any, bool]:
        """The answer from the database, and whether it is short enough to keep."""
        value, count = self.codec.load(connection, statement, given)
        keep = count <= self.query.rows_max
        if not keep:
            observer.error("store", _too_long(self.query, count))
        return value, keep

    def answer(
        self,
        session: Session,
        values: Mapping[str, Any],
        path: ReadPath,
        statement: SelectBase | None = None,
    ) -> IteratorResult[Any] | Bypassed:
        """The result under these parameters; BYPASSED where SQLAlchemy must read it.

        ``statement`` has the values in it, where it is another than the query's own.
        """
        reason = path.why_bypass(session, self)
        if reason is not None:
            path.count_bypass(self.query.region.name, reason)
            return BYPASSED
        try:
            key = self.key(values)
        except ArgumentError:
            path.observer.bypass(self.query.region.name, "key has no text")
            return BYPASSED
        given = values if statement is None else {}
        read = self.query.statement if statement is None else statement

        def load(connection: Connection) -> tuple[Any, bool]:
            return self.load(connection, read, given, path.observer)

        return self.result(session, path.entry(session, self, self.region, key, load))

    def readable(self, payload: bytes, most: int) -> Readable:
        """The payload for people, at most ``most`` rows of it; raises only UNDECODABLE."""
        return self.codec.readable(payload, most)

    def result(self, session: Session, value: Any) -> IteratorResult[Any]:
        """The answer as SQLAlchemy would give it: entities live, columns under their names."""
        rows = self.codec.rows(session, value)
        return rows_result(self.names, self.extra, self.entities, rows, repeats=self.repeats)


class DerivedPlan(Sourced, Protocol):
    """How one derived query is keyed, stored and answered under one Cache."""

    @property
    def region(self) -> CachedRegion: ...
    @property
    def form(self) -> Format: ...
    @property
    def stamps(self) -> tuple[str, ...]:
        """The stamps of which every entry carries at least one."""

    def answer(
        self, session: Session, values: Mapping[str, Any], path: ReadPath
    ) -> IteratorResult[Any] | Bypassed:
        """The result; BYPASSED where SQLAlchemy must read it."""

    def key_of_texts(self, texts: Mapping[str, str]) -> EntryKey | None:
        """The key whose fields have these texts; None if no call makes such a key."""

    def readable(self, payload: bytes, most: int) -> Readable:
        """The payload for people, at most ``most`` rows of it; raises only UNDECODABLE."""


class QueryReader:
    """Answers cached queries for the sessions of one Cache."""

    __slots__ = ("_path", "_plan_of", "_spot_plan_of")

    def __init__(
        self,
        plan_of: Callable[[CachedQuery[Any] | DerivedQuery], QueryPlan | DerivedPlan | None],
        adhoc_plan_of: Callable[[SelectBase, Any, CacheOption], QueryPlan | None],
        path: ReadPath,
    ) -> None:
        self._plan_of = plan_of
        self._spot_plan_of = adhoc_plan_of
        self._path = path

    def answer(
        self, session: Session, query: CachedQuery[Any] | DerivedQuery, values: Mapping[str, Any]
    ) -> IteratorResult[Any] | Bypassed:
        """The query's result; BYPASSED where SQLAlchemy must read it."""
        plan = self._plan_of(query)
        return BYPASSED if plan is None else plan.answer(session, values, self._path)

    def answer_adhoc(
        self, session: Session, statement: SelectBase, option: CacheOption
    ) -> IteratorResult[Any] | Bypassed:
        """The same for a statement that was built on the spot."""
        shape = statement._generate_cache_key()
        plan = None if shape is None else self._spot_plan_of(statement, shape.key, option)
        if plan is None or shape is None:
            return BYPASSED
        return plan.answer(session, adhoc_values(shape.bindparams), self._path, statement)


def parameter_digest(value: Any) -> str:
    """What stands in a key for a list or a document, which have no short text of their own."""
    try:
        return hashlib.sha256(encode_plain(value)).hexdigest()[:32]
    except NotCacheable as error:
        raise ArgumentError(f"a key cannot be made of {type(value).__name__}: {error}") from None


def _too_long(query: CachedQuery[Any] | AdHocQuery, count: int) -> ArgumentError:
    return ArgumentError(
        f"the answer of {query.template.text!r} has {count} rows and is not cached: more than"
        f" {query.rows_max}; give the statement a LIMIT, or CachedQuery(rows_max=...)"
    )


def _whole_stamps(dependencies: Sequence[Dependency]) -> tuple[str, ...]:
    tags: dict[str, None] = {}
    for each in dependencies:
        tags[wildcard_tag(each.table.fullname)] = None
        if each.column is None:
            tags[membership_tag(each.table.fullname)] = None
    return tuple(stamp_key(tag) for tag in tags)
