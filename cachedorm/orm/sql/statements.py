"""What each kind of statement may change, by its first word.

Only what the grammar allows in that very place is read; a statement that has no rule, or does not
look as its rule expects, is everything.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from cachedorm.orm.sql.effect import OPAQUE, READ, SETTING, UNKNOWN, Effect, RelationName
from cachedorm.orm.sql.lexer import Statement, Unreadable, without_blanks
from cachedorm.orm.sql.names import relation
from cachedorm.orm.sql.writes import query, write, writes

Rule = Callable[[Statement, str], Effect] | Effect

# Functions of PostgreSQL and its extensions that a SELECT calls for what they change.
FUNCTIONS: Final[Mapping[str, Effect]] = {
    "set_config": SETTING,
    "dblink": UNKNOWN,
    "dblink_exec": UNKNOWN,
    "dblink_send_query": UNKNOWN,
    "addgeometrycolumn": UNKNOWN,
    "dropgeometrycolumn": UNKNOWN,
    "dropgeometrytable": UNKNOWN,
    "updategeometrysrid": UNKNOWN,
    "populate_geometry_columns": UNKNOWN,
}


def effect_of(part: Statement, dialect: str) -> Effect:
    """Say what one statement may change. Raises `Unreadable` where its words are odd."""
    tokens = without_blanks(part)
    start = next((i for i, token in enumerate(tokens) if token.value != "("), 0)
    if not tokens or tokens[start].kind != "word":
        return UNKNOWN
    rule = _RULES[dialect].get(tokens[start].value, _unruly)
    if start and rule is not query:
        return UNKNOWN
    return (rule if isinstance(rule, Effect) else rule(part, dialect)) | _called(tokens)


def _called(tokens: Statement) -> Effect:
    effect = READ
    for token, following in pairwise(tokens):
        if following.value == "(" and token.kind in ("word", "name"):
            effect |= FUNCTIONS.get(token.value, READ)
    return effect


def _unruly(_part: Statement, dialect: str) -> Effect:
    # MySQL commits before nearly every statement that is not a query.
    return UNKNOWN if dialect in ("postgresql", "sqlite") else _MAY_COMMIT


_MAY_COMMIT: Final = UNKNOWN | Effect(ends_transaction="perhaps")


def _words(part: Statement) -> list[str]:
    return [token.value if token.kind == "word" else "" for token in without_blanks(part)]


# --- transactions


def _begin(part: Statement, dialect: str) -> Effect:
    begins = Effect(begins=True) if dialect in ("postgresql", "sqlite") else _IMPLICIT_COMMIT
    plain = {"begin", "start", "work", "transaction", "deferred", "immediate", "exclusive"}
    return begins if plain.issuperset(_words(part)) else begins | OPAQUE


_IMPLICIT_COMMIT: Final = Effect(begins=True, ends_transaction="commit")


def _commit(part: Statement, _dialect: str) -> Effect:
    words = _words(part)
    if words[1:2] == ["prepared"]:
        # What it wrote was written before, perhaps by another process.
        return UNKNOWN | Effect(ends_transaction="commit prepared")
    return Effect(ends_transaction="commit", begins="chain" in words)


def _rollback(part: Statement, _dialect: str) -> Effect:
    words = _words(part)
    if words[1:2] == ["prepared"]:
        return Effect(opaque=True, ends_transaction="rollback prepared")
    if "to" in words:
        return READ  # a savepoint: what was touched since may stay touched
    return Effect(ends_transaction="rollback", begins="chain" in words)


def _prepare(part: Statement, _dialect: str) -> Effect:
    tokens = without_blanks(part)
    if len(tokens) == 3 and tokens[1].value == "transaction" and tokens[2].kind == "string":
        return Effect(opaque=True, ends_transaction="prepare")
    return UNKNOWN


def _set(part: Statement, _dialect: str) -> Effect:
    return OPAQUE if _words(part)[1:2] in _UNTIL_THE_END else SETTING


_UNTIL_THE_END: Final = (["local"], ["transaction"], ["constraints"])


# --- statements around a statement


def _explain(part: Statement, dialect: str) -> Effect:
    """EXPLAIN runs nothing; EXPLAIN ANALYZE is the statement itself."""
    tokens = list(part)
    words = {"analyze", "analyse", "verbose"}
    at = _next(tokens, 1)
    if at < len(tokens) and tokens[at].value == "(":
        end = _closing(tokens, at)
        options, rest = tokens[at:end], tokens[end + 1 :]
    else:
        end = at
        while end < len(tokens) and (_next(tokens, end) > end or tokens[end].value in words):
            end += 1
        options, rest = tokens[at:end], tokens[end:]
    if not {"analyze", "analyse"}.intersection(_words(options)):
        return READ
    return effect_of(rest[_next(rest, 0) :], dialect)


def _next(tokens: Statement, at: int) -> int:
    """Give the place of the next token that is no blank."""
    while at < len(tokens) and not without_blanks(tokens[at : at + 1]):
        at += 1
    return at


def _closing(tokens: Statement, at: int) -> int:
    """Give the place of the parenthesis that closes the one here."""
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].kind == "mark":
            depth += (tokens[place].value == "(") - (tokens[place].value == ")")
        if not depth:
            return place
    raise Unreadable("(")


def _copy(part: Statement, dialect: str) -> Effect:
    at = _next(part, 1)
    if at < len(part) and part[at].value == "(":
        return effect_of(part[_next(part, at + 1) : _closing(part, at)], dialect)
    tokens = without_blanks(part)
    name, at = relation(tokens, 1, dialect)
    if at < len(tokens) and tokens[at].value == "(":
        at = _closing(tokens, at) + 1
    match _words(tokens[at : at + 1]):
        case ["from"]:
            return _written({name})
        case ["to"]:
            return READ
    return UNKNOWN


def _written(names: set[RelationName]) -> Effect:
    return Effect(writes=frozenset(names), opaque=True)


# --- whole relations


def _skipped(tokens: Statement, at: int, *words: str) -> int:
    """Give the place behind these optional words, in this order."""
    for word in words:
        if at < len(tokens) and tokens[at].kind == "word" and tokens[at].value == word:
            at += 1
    return at


def _relations(tokens: Statement, at: int, dialect: str) -> tuple[set[RelationName], int]:
    """Give the relations listed from here on, each perhaps with ONLY or *; and where they end."""
    names: set[RelationName] = set()
    while True:
        name, at = relation(tokens, _skipped(tokens, at, "only"), dialect)
        names.add(name)
        at += at < len(tokens) and tokens[at].value == "*"
        if at == len(tokens) or tokens[at].value != ",":
            return names, at
        at += 1


def _truncate(part: Statement, dialect: str) -> Effect:
    tokens = without_blanks(part)
    names, at = _relations(tokens, _skipped(tokens, 1, "table"), dialect)
    rest = _words(tokens[at:])
    if not {"restart", "continue", "identity", "cascade", "restrict"}.issuperset(rest):
        return UNKNOWN
    found = frozenset(names)
    cascade = found if "cascade" in rest else frozenset[RelationName]()
    return Effect(writes=found, truncates=found, truncates_cascade=cascade, opaque=True)


def _refresh(part: Statement, dialect: str) -> Effect:
    tokens = without_blanks(part)
    at = _skipped(tokens, 1, "materialized", "view", "concurrently")
    name, _ = relation(tokens, at, dialect)
    return _written({name}) if at > 2 else UNKNOWN


def _create(part: Statement, dialect: str) -> Effect:
    tokens, words = without_blanks(part), _words(part)
    if words[1:2] == ["index"] or words[1:3] == ["unique", "index"]:
        return READ
    if writes(_without_actions(tokens)) or "execute" in words:
        return UNKNOWN
    if {"temp", "temporary"}.intersection(words[1:3]) and "table" in words[2:4]:
        return SETTING  # from now on its name hides another table's
    at = _skipped(tokens, 1, "unlogged", "table", "if", "not", "exists")
    if tokens[at - 1].value not in ("table", "exists"):
        return UNKNOWN
    return _written({relation(tokens, at, dialect)[0]})


def _without_actions(tokens: Statement) -> Statement:
    """Leave out ON DELETE and ON UPDATE, which are parts of a column's definition."""
    return [t for i, t in enumerate(tokens) if not (i and tokens[i - 1].value == "on")]


def _alter(part: Statement, dialect: str) -> Effect:
    tokens, words = without_blanks(part), _words(part)
    if words[1:2] != ["table"]:
        return UNKNOWN
    name, at = relation(tokens, _skipped(tokens, 2, "if", "exists", "only"), dialect)
    at += at < len(tokens) and tokens[at].value == "*"
    # Others rename it, move its rows under another table, or change who sees them.
    plain = words[at : at + 1] in (["add"], ["drop"], ["alter"], ["validate"])
    return _written({name}) if plain and not _FAR_REACHING.intersection(words) else UNKNOWN


_FAR_REACHING: Final = frozenset(
    {"rename", "attach", "detach", "inherit", "owner", "enable", "disable", "force", "replica"}
)


def _drop(part: Statement, dialect: str) -> Effect:
    tokens, words = without_blanks(part), _words(part)
    if words[1:2] == ["index"]:
        return READ
    if words[1:2] != ["table"]:
        return UNKNOWN
    names, at = _relations(tokens, _skipped(tokens, 2, "if", "exists"), dialect)
    if words[at:] not in ([], ["cascade"], ["restrict"]):
        return UNKNOWN
    # SQLite deletes the rows first, and its foreign keys act.
    return _written(names) | Effect(deletes=frozenset(names))


_HARMLESS: Final[Mapping[str, Rule]] = dict.fromkeys(
    ("savepoint", "release", "analyze", "vacuum", "reindex"), READ
)
_COMMON: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("select", "values", "with"), query),
    **dict.fromkeys(("insert", "update", "delete"), write),
    "explain": _explain,
    "begin": _begin,
    "commit": _commit,
    "rollback": _rollback,
}
_POSTGRESQL: Final[Mapping[str, Rule]] = {
    **_COMMON,
    **_HARMLESS,
    **dict.fromkeys(("listen", "notify", "unlisten", "show", "close", "deallocate"), READ),
    **dict.fromkeys(("analyse", "cluster", "checkpoint", "comment"), READ),
    **dict.fromkeys(("lock", "grant", "revoke"), OPAQUE),
    **dict.fromkeys(("reset", "discard", "load"), SETTING),
    "table": query,
    "merge": write,
    "start": _begin,
    "end": _commit,
    "abort": _rollback,
    "prepare": _prepare,
    "set": _set,
    "copy": _copy,
    "truncate": _truncate,
    "refresh": _refresh,
    "create": _create,
    "alter": _alter,
    "drop": _drop,
}
_SQLITE: Final[Mapping[str, Rule]] = {
    **_COMMON,
    **_HARMLESS,
    **dict.fromkeys(("pragma", "attach", "detach"), SETTING),
    "replace": write,
    "end": _commit,
    "create": _create,
    "alter": _alter,
    "drop": _drop,
}
_MYSQL: Final[Mapping[str, Rule]] = {
    **_COMMON,
    **dict.fromkeys(("savepoint", "release", "show", "describe", "desc"), READ),
    **dict.fromkeys(("set", "use"), SETTING),
    "table": query,
    "replace": write,
    "start": _begin,
}
_RULES: Final = {
    "postgresql": _POSTGRESQL,
    "sqlite": _SQLITE,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
