"""The stamps by which ``invalidate_where`` finds entries with one value of a field.

Most entries need none: the field alone makes the key, or narrows the query, so that a tag stands
for it. The keys of the others (templates of several fields, or with parameters appended) cannot be
listed; those entries carry one more stamp, of the field and its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import BindParameter

from cachedorm.declare.policies.region import Region
from cachedorm.declare.queries.dependencies import Dependency
from cachedorm.store.protocol.keys import Template, field_tag, stamp_key


class Keyed(Protocol):
    """What has to be known of a query: its key, and what its answers depend on."""

    @property
    def region(self) -> Region: ...
    @property
    def template(self) -> Template: ...
    @property
    def appended(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> Mapping[str, BindParameter[Any]]: ...
    @property
    def dependencies(self) -> tuple[Dependency, ...]: ...


def field_stamps(fields: Iterable[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The stamps of these fields under the values that the key is made of."""
    return tuple(stamp_key(field_tag(field, values[field])) for field in fields)


def stamped_fields(query: Keyed) -> tuple[str, ...]:
    """The fields of a query's template by which its answers are found by a stamp only."""
    fields = query.template.fields
    if len(fields) == 1 and not query.appended:
        return ()
    return tuple(field for field in fields if narrowed_by(query, field) is None)


def is_tagged(query: Keyed, field: str) -> bool:
    """Whether some tag is made of this field, so that only a row's own values have keys."""
    sources = (dependency.source for dependency in query.dependencies)
    return any(source is not None and source.parameter == field for source in sources)


def narrowed_by(query: Keyed, field: str) -> Dependency | None:
    """The tag that every answer under this field's value carries, or None."""
    for dependency in query.dependencies:
        source = dependency.source
        if source is not None and source.parameter == field and not source.many:
            return dependency
    return None
