"""Ad hoc queries: statements with the option ``cached(...)``, one plan for each shape of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.policies.region import Region
from cachedorm.declare.queries.dependencies import (
    Dependency,
    NotAnalysable,
    ValueSource,
    dependencies_of,
    without_narrower,
)
from cachedorm.declare.queries.eager import check_eager, eager_tables
from cachedorm.declare.queries.loading_options import loading_text
from cachedorm.declare.queries.query import ROWS_MAX, CacheOption
from cachedorm.errors import DeclarationError
from cachedorm.orm.interest.tables import Interests
from cachedorm.store.protocol.keys import Template


@dataclass(frozen=True, eq=False)
class AdHocQuery:
    """The shape of a statement, in the form of a declared query: its binds are the parameters."""

    region: Region
    template: Template
    statement: SelectBase
    parameters: Mapping[str, BindParameter[Any]]
    dependencies: tuple[Dependency, ...]
    ttl_ms: int
    rows_max: int = ROWS_MAX

    @property
    def appended(self) -> tuple[str, ...]:
        """All of them follow the key's text."""
        return tuple(self.parameters)


def adhoc_query(
    statement: SelectBase, option: CacheOption, interests: Interests, dialect: Dialect
) -> AdHocQuery:
    """The shape of a statement; DeclarationError if writes to its tables are not followed."""
    key = statement._generate_cache_key()
    assert key is not None
    sql = str(statement.compile(dialect=dialect)) + loading_text(statement, dialect, values=False)
    digest = hashlib.blake2b(sql.encode(), digest_size=8).hexdigest()
    bound = dict(zip(_names(key.bindparams), key.bindparams, strict=True))
    times = Counter(each.key for each in bound.values())
    # Two binds of one name may have different values: a name stands for a bind only if unique.
    named = {each.key: name for name, each in bound.items() if times[each.key] == 1}
    dependencies = _dependencies(statement, named)
    return AdHocQuery(
        option.region,
        Template(f"cached:{digest}"),
        statement,
        bound,
        tuple(_attachment(each, option.region, interests) for each in dependencies),
        option.ttl_ms,
    )


def adhoc_values(bound: Sequence[BindParameter[Any]]) -> dict[str, Any]:
    """The values of a statement's binds, by the names its shape gave them."""
    return dict(zip(_names(bound), map(_value_of, bound), strict=True))


def _names(bound: Sequence[BindParameter[Any]]) -> list[str]:
    return [f"p{number}" for number in range(len(bound))]


def _value_of(bound: BindParameter[Any]) -> Any:
    value: Any = bound.effective_value
    return tuple(value) if bound.expanding else value


def _dependencies(statement: SelectBase, names: Mapping[str, str]) -> list[Dependency]:
    try:
        found = [_by_position(each, names) for each in dependencies_of(statement)]
        check_eager(statement)
    except NotAnalysable as error:
        raise DeclarationError(
            f"cached(...): it cannot be told what the answer depends on, because of {error};"
            " declare a CachedQuery with depends_on=(Model, ...) instead"
        ) from None
    whole = map(Dependency, eager_tables(statement))
    return list(without_narrower((*found, *whole)))


def _by_position(dependency: Dependency, names: Mapping[str, str]) -> Dependency:
    source = dependency.source
    if source is None:
        return dependency
    name = names.get(source.bound or "")
    if name is None:  # an IN of single binds, or a name that stands for two
        return Dependency(dependency.table)
    return Dependency(dependency.table, dependency.column, ValueSource(name, many=source.many))


def _attachment(dependency: Dependency, region: Region, interests: Interests) -> Dependency:
    """The dependency by what writers know of: its own tag, or the table as a whole."""
    interest = interests[dependency.table]
    if interest is not None:
        column = dependency.column
        many = dependency.source is not None and dependency.source.many
        whole = not many or region.db in interest.memberships
        if column is not None and whole and interest.has_tag(region.db, column.name):
            return dependency
        if region.db in interest.memberships:
            return Dependency(dependency.table)
    raise DeclarationError(
        f"cached({region.name}): writes to {dependency.table.fullname} are not followed in this"
        f" region; give its model CachePolicy({region.name.upper()}, follow_only=True), or"
        " declare a CachedQuery in this region that reads it"
    )
