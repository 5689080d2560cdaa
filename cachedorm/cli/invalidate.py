"""``cachedorm invalidate``: invalidate entries by model and key, tag, field, pattern or region."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Mapper
from sqlalchemy.types import NullType, TypeEngine

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.completion import complete_model, complete_region
from cachedorm.cli.errors import CommandError, command_errors
from cachedorm.cli.stats import regions_named, survey_of
from cachedorm.cli.terminal import print_json, say
from cachedorm.declare.kinds import kind_of
from cachedorm.declare.policies.shape import EntityShape
from cachedorm.declare.policies.tag import tag
from cachedorm.inspection.declarations import Insight
from cachedorm.inspection.key_text import UNREADABLE, parsed
from cachedorm.store.protocol.interest_registry import REGISTRY_DB, REGISTRY_KEY

Act = Callable[[Cache], str]


_Model = Annotated[
    str | None,
    typer.Argument(help="A cached class, followed by its key.", autocompletion=complete_model),
]
_Key = Annotated[list[str] | None, typer.Argument(help="The fields of its key, as in: User 42")]
_Tag = Annotated[
    str | None,
    typer.Option("--tag", metavar="TABLE.COLUMN=VALUE", help="Query results with this tag."),
]
_Field = Annotated[
    str | None,
    typer.Option("--field", metavar="FIELD=VALUE", help="Entries with this value in key or tags."),
]
_Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        help="Entries whose key matches, such as 'user:*:42'; with or without"
        " --region. Scans every key.",
    ),
]
_Region = Annotated[
    str | None,
    typer.Option("--region", help="A whole region.", autocompletion=complete_region),
]


def invalidate(
    model: _Model = None,
    key: _Key = None,
    app: AppOption = None,
    tagged: _Tag = None,
    field: _Field = None,
    pattern: _Pattern = None,
    region: _Region = None,
    as_json: AsJson = False,
) -> None:
    """Invalidate entries now, after writes that no session saw. Exits with 1 if Redis failed."""
    given = [each for each in (model, tagged, field, pattern) if each is not None]
    if len(given) > 1 or not (given or region) or (region and given and pattern is None):
        raise CommandError(
            "invalidate: give one of: MODEL KEY..., --tag TABLE.COLUMN=VALUE, --field FIELD=VALUE,"
            " --pattern GLOB (with or without --region NAME), --region NAME"
        )
    act = _act(model, key or [], tagged, field, pattern, region)
    with command_errors():
        report = with_cache(app, lambda cache: _run(cache, act))
    print_json(report) if as_json else say(_line(report))
    if report["errors"]:
        raise typer.Exit(1)


def _act(
    model: str | None,
    key: list[str],
    tagged: str | None,
    field: str | None,
    pattern: str | None,
    region: str | None,
) -> Act:
    """The chosen invalidation: a function of the Cache that returns its description."""
    if model is not None:
        return lambda cache: _by_key(cache, model, key)
    if tagged is not None:
        return lambda cache: _by_tag(cache, tagged)
    if field is not None:
        return lambda cache: _by_field(cache, field)
    if pattern is not None:
        return lambda cache: _by_pattern(cache, pattern, region)
    return lambda cache: _by_region(cache, str(region))


def _run(cache: Cache, act: Act) -> dict[str, Any]:
    survey = survey_of(cache.insight)
    # Fail before anything is done if Redis is unavailable. A plain read, so that the
    # application's own account is allowed to.
    survey.read(REGISTRY_DB, [REGISTRY_KEY])
    what = act(cache)
    stats = cache.stats()
    return {
        "what": what,
        "keys": {str(db): count for db, count in sorted(stats.invalidated.items())},
        "errors": dict(stats.errors),
    }


def _line(report: dict[str, Any]) -> str:
    if report["errors"]:
        failed = ", ".join(f"{what} ({count})" for what, count in report["errors"].items())
        return f"{report['what']}: Redis failed: {failed}; run it again"
    keys = ", ".join(f"{count} in database {db}" for db, count in report["keys"].items())
    return f"{report['what']}: invalidated" + (f" (entries and stamps: {keys})" if keys else "")


def _by_key(cache: Cache, model: str, key: list[str]) -> str:
    shape = _shape_named(cache.insight, model)
    name = shape.owner.class_.__name__
    template = shape.template
    if template is None:
        raise CommandError(f"{name} has no key of its own; give --tag, --field or --region")
    if len(key) != len(template.fields):
        given = " ".join(key) or "nothing"
        raise CommandError(
            f"{name} takes its key's fields: {' '.join(template.fields)}; given: {given}"
        )
    columns: list[Any] = [shape.owner.get_property(each).columns[0] for each in template.fields]
    pairs = zip(template.fields, key, columns, strict=True)
    values = [_value(field, text, column.type) for field, text, column in pairs]
    cache.invalidate(shape.owner.class_, *values)
    return f"{name} {' '.join(key)}"


def _shape_named(insight: Insight, name: str) -> EntityShape:
    models = {shape.owner.class_: shape for shape in insight.models()}
    found = [shape for each, shape in models.items() if name in _names_of(each)]
    if len(found) == 1:
        return found[0]
    if found:
        full = ", ".join(sorted(_names_of(each.owner.class_)[1] for each in found))
        raise CommandError(f"several models are named {name}: {full}; give the module too")
    known = ", ".join(sorted(each.__name__ for each in models)) or "none"
    raise CommandError(f"no cached model is named {name!r}; there are: {known}")


def _names_of(class_: type) -> tuple[str, str]:
    return class_.__name__, f"{class_.__module__}.{class_.__qualname__}"


def _by_tag(cache: Cache, tagged: str) -> str:
    named, text = _split("--tag", tagged, "table.column=value, as in my_db.activities.user_id=42")
    place, dot, attribute = named.rpartition(".")
    if not dot:
        raise CommandError(f"--tag {tagged}: give table.column=value; {named!r} has no table")
    column = _column(cache.insight, place, attribute)
    cache.invalidate(tag(column, _value(attribute, text, column.type)))
    return f"tag {column.table.fullname}.{column.name}={text}"


def _column(insight: Insight, place: str, name: str) -> Any:
    """The column of a table, or of a class and its attribute."""
    for table in insight.tables():
        if place == table.fullname and name in table.columns:
            return table.columns[name]
    for shape in insight.models():
        mapper: Mapper[Any] = shape.owner
        if place in _names_of(mapper.class_) and name in mapper.column_attrs:
            return mapper.get_property(name).columns[0]
    tables = ", ".join(sorted(table.fullname for table in insight.tables()))
    raise CommandError(f"--tag: {place} with a column {name} is not cached; tables are: {tables}")


def _by_field(cache: Cache, field: str) -> str:
    name, text = _split("--field", field, "field=value, as in user_id=42")
    types = _types_of(cache.insight, name)
    values = _readings(types, text)
    if types and not values:
        kinds = ", ".join(sorted({repr(each) for each in types}))
        raise CommandError(f"--field {field}: expected a value of {kinds}")
    # Of several types the text does not say which is meant, so invalidate each reading of it.
    for value in values or [text]:
        cache.invalidate_where(**{name: value})
    return f"{name}={text}"


def _readings(types: Iterable[TypeEngine[Any] | None], text: str) -> list[Any]:
    """Every value that the text can mean, once. 1 and True are different here."""
    found: dict[str, Any] = {}
    for type_ in types:
        with suppress(*UNREADABLE):
            value = parsed(text, _kind(type_))
            found[repr(value)] = value
    return list(found.values())


def _types_of(insight: Insight, name: str) -> list[TypeEngine[Any] | None]:
    """The types of the template fields and tag columns of this name."""
    fields = [each.type_of(name) for each in insight.declared() if name in each.template.fields]
    return fields + [
        column.type
        for interest in insight.interests
        for column in interest.tags
        if name in (column.name, column.key)
    ]


def _by_pattern(cache: Cache, pattern: str, region: str | None) -> str:
    regions = regions_named(cache.insight, [region] if region else [])
    gone = sum(cache.invalidate_matching(pattern, each) for each in _one_each(regions))
    return f"{gone} keys matching {pattern}"


def _one_each(regions: list[Any]) -> list[Any]:
    """One region of each database: a pattern searches all keys of a database."""
    return list({region.db: region for region in regions}.values())


def _by_region(cache: Cache, name: str) -> str:
    (region,) = regions_named(cache.insight, [name])
    cache.invalidate(region)
    return f"region {name} (database {region.db})"


def _split(option: str, given: str, form: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise CommandError(f"{option} {given}: give {form}")
    return name, value


def _kind(type_: TypeEngine[Any] | None) -> Any:
    return None if type_ is None or isinstance(type_, NullType) else kind_of(type_)


def _value(field: str, text: str, type_: TypeEngine[Any]) -> Any:
    try:
        return parsed(text, _kind(type_))
    except UNREADABLE:
        raise CommandError(f"{field}={text}: expected a value of {type_!r}") from None
