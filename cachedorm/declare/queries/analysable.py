"""What a statement may contain if its answer depends on the rows of its tables alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import ClauseElement, Table
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Select, TableSample, TextualSelect
from sqlalchemy.sql.visitors import iterate

# Functions that depend on their arguments alone.
_PURE: Final = frozenset(
    {
        *("abs", "ceil", "ceiling", "exp", "floor", "gcd", "lcm", "ln", "log", "mod", "power"),
        *("round", "sign", "sqrt", "trunc", "width_bucket", "greatest", "least", "coalesce"),
        *("nullif", "num_nonnulls", "num_nulls"),
        # Text.
        *("bit_length", "btrim", "char_length", "character_length", "concat", "concat_ws"),
        *("initcap", "left", "length", "lower", "lpad", "ltrim", "md5", "octet_length"),
        *("position", "regexp_replace", "repeat", "replace", "reverse", "right", "rpad"),
        *("rtrim", "similarity", "split_part", "starts_with", "strpos", "substr", "substring"),
        *("to_char", "translate", "trim", "unaccent", "upper", "word_similarity"),
        # Times; the session's zone counts, and reads after a SET bypass the cache.
        *("date_part", "date_trunc", "make_date", "make_time", "make_timestamp"),
        # Arrays and JSON.
        *("array_length", "array_position", "array_to_string", "cardinality", "json_array_length"),
        *("json_build_array", "json_build_object", "jsonb_array_length", "jsonb_build_array"),
        *("jsonb_build_object", "row_to_json", "to_json", "to_jsonb"),
        # Aggregates and windows.
        *("aggregate_strings", "array_agg", "avg", "bool_and", "bool_or", "corr", "count"),
        *("cube", "cume_dist", "dense_rank", "every", "first_value", "grouping_sets"),
        *("grouping", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "lag"),
        *("last_value", "lead", "max", "min", "mode", "nth_value", "ntile", "percent_rank"),
        *("percentile_cont", "percentile_disc", "rank", "rollup", "row_number", "stddev"),
        *("stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp", "variance"),
        # PostGIS.
        *("st_asbinary", "st_asewkb", "st_astext", "st_distance", "st_dwithin"),
        *("st_geogfromewkb", "st_geogfromtext", "st_geogfromwkb", "st_geomfromewkb"),
        *("st_geomfromtext", "st_makepoint", "st_setsrid", "st_x", "st_y"),
    }
)
_VOLATILE: Final = frozenset(
    {
        *("age", "clock_timestamp", "current_date", "current_time", "current_timestamp"),
        *("localtime", "localtimestamp", "now", "statement_timestamp", "timeofday"),
        *("transaction_timestamp", "sysdate", "random", "gen_random_uuid", "uuid_generate_v4"),
        *("nextval", "next_value", "setval", "currval", "txid_current", "pg_current_xact_id"),
        *("current_setting", "current_user", "session_user", "user"),
    }
)
# Elements of these packages are analysed as what they are, even with @compiles.
_KNOWN: Final = ("sqlalchemy.", "geoalchemy2.")


class NotAnalysable(Exception):
    """The statement contains something whose effect on the answer is not known; says what."""


def check_analysable(statement: ClauseElement) -> None:
    """Raise NotAnalysable for what may change the answer without a write to a known table."""
    for element in iterate(statement):
        reason = _why_not(element)
        if reason is not None:
            raise NotAnalysable(reason)


def tables_within(statement: ClauseElement) -> Iterator[Table]:
    """Every table that the statement names, some more than once."""
    for element in iterate(statement):
        for found in (element, getattr(element, "table", None)):
            if isinstance(found, Table):
                yield found


def _why_not(element: Any) -> str | None:
    match element:
        case TextualSelect() | TextClause():
            return f"SQL text: {str(element)!r}"
        case UpdateBase():
            return f"a statement inside that writes: {element}"
        case TableSample():
            return f"a random sample of {element.element}"
        case ColumnClause() if element.is_literal and not _is_harmless(element.name):
            return f"a literal column: {str(element)!r}"
        case FunctionElement():
            return _why_not_function(element)
        case Select():
            return _why_not_select(element)
        case _ if _is_written_by_application(element):
            return f"{type(element).__name__}, which the application compiles to SQL text itself"
        case _:
            return None


def _is_written_by_application(element: Any) -> bool:
    """Whether the element's class belongs to the application and has ``@compiles``."""
    class_ = type(element)
    return hasattr(class_, "_compiler_dispatcher") and not class_.__module__.startswith(_KNOWN)


def _is_harmless(literal: str) -> bool:
    """Whether this is the star of COUNT(*) or the number that a relationship's EXISTS selects."""
    return literal == "*" or literal.isdecimal()


def _why_not_select(statement: Select[Any]) -> str | None:
    for text, _ in (*statement._prefixes, *statement._suffixes):
        return f"SQL text: {str(text)!r}"
    if statement._for_update_arg is not None:
        return "FOR UPDATE: a lock cannot be cached"
    if any(isinstance(option, LoaderCriteriaOption) for option in statement._with_options):
        return "with_loader_criteria(), which may read other tables; write it as a condition"
    return None


def _why_not_function(function: FunctionElement[Any]) -> str | None:
    name = str(getattr(function, "name", type(function).__name__)).lower()
    if name in _VOLATILE:
        return f"{name}(), whose value changes by itself"
    schema = [each for each in getattr(function, "packagenames", ()) if each != "pg_catalog"]
    if name in _PURE and not schema:
        return None
    called = ".".join([*schema, name])
    return f"the function {called}(), which may read other tables or change by itself"
