"""What each kind of statement may change, by its first word.

A statement without a rule, or one that does not look as its rule expects, may write everything:
so do CREATE, ALTER, DROP, EXPLAIN, COPY, REFRESH, DO, CALL and EXECUTE.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from cachedorm.orm.sql.effect import OPAQUE, READ, SETTING, UNKNOWN, Effect, RelationName
from cachedorm.orm.sql.lexer import Tokens, without_blanks
from cachedorm.orm.sql.names import relation
from cachedorm.orm.sql.writes import query, write

Rule = Callable[[Tokens, str], Effect] | Effect

# Functions of PostgreSQL and its extensions that a SELECT calls for their side effects.
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


def effect_of(part: Tokens, dialect: str) -> Effect:
    """What one statement may change. Raises ``Unreadable`` if a name is missing."""
    tokens = without_blanks(part)
    start = next((i for i, token in enumerate(tokens) if token.value != "("), 0)
    if not tokens or tokens[start].kind != "word":
        return UNKNOWN
    rule = _RULES[dialect].get(tokens[start].value, _unknown)
    if start and rule is not query:
        return UNKNOWN
    return (rule if isinstance(rule, Effect) else rule(part, dialect)) | _called(tokens)


def _called(tokens: Tokens) -> Effect:
    effect = READ
    for token, following in pairwise(tokens):
        if following.value == "(" and token.kind in ("word", "name"):
            effect |= FUNCTIONS.get(token.value, READ)
    return effect


def _unknown(part: Tokens, _dialect: str) -> Effect:
    # A temporary table hides another of its name until the connection is closed.
    temporary = any(
        pair[0] in _CREATING and pair[1] in _TEMPORARY for pair in pairwise(_words(part))
    )
    return UNKNOWN | SETTING if temporary else UNKNOWN


_TEMPORARY: Final = frozenset({"temp", "temporary"})
_CREATING: Final = frozenset({"create", "replace", "global", "local", "into"})


def _words(part: Tokens) -> list[str]:
    return [token.value if token.kind == "word" else "" for token in without_blanks(part)]


def _begin(part: Tokens, _dialect: str) -> Effect:
    begins = Effect(begins=True)
    plain = {"begin", "start", "work", "transaction", "deferred", "immediate", "exclusive"}
    return begins if plain.issuperset(_words(part)) else begins | OPAQUE


def _commit(part: Tokens, _dialect: str) -> Effect:
    words = _words(part)
    if words[1:2] == ["prepared"]:
        # Its writes were made earlier, perhaps by another process.
        return UNKNOWN | Effect(ends_transaction="commit prepared")
    return Effect(ends_transaction="commit", begins="chain" in words)


def _rollback(part: Tokens, _dialect: str) -> Effect:
    words = _words(part)
    if words[1:2] == ["prepared"]:
        return Effect(opaque=True, ends_transaction="rollback prepared")
    if "to" in words:
        return READ  # to a savepoint: what was touched since then may stay touched
    return Effect(ends_transaction="rollback", begins="chain" in words)


def _prepare(part: Tokens, _dialect: str) -> Effect:
    tokens = without_blanks(part)
    if len(tokens) == 3 and tokens[1].value == "transaction" and tokens[2].kind == "string":
        return Effect(opaque=True, ends_transaction="prepare")
    return UNKNOWN


def _set(part: Tokens, _dialect: str) -> Effect:
    return OPAQUE if _words(part)[1:2] in _UNTIL_THE_END else SETTING


_UNTIL_THE_END: Final = (["local"], ["transaction"], ["constraints"])


def _skipped(tokens: Tokens, at: int, *words: str) -> int:
    """The place behind these optional words, in this order."""
    for word in words:
        if at < len(tokens) and tokens[at].kind == "word" and tokens[at].value == word:
            at += 1
    return at


def _relations(tokens: Tokens, at: int, dialect: str) -> tuple[set[RelationName], int]:
    """The relations listed from this token on, perhaps with ONLY or *, and the place behind."""
    names: set[RelationName] = set()
    while True:
        name, at = relation(tokens, _skipped(tokens, at, "only"), dialect)
        names.add(name)
        at += at < len(tokens) and tokens[at].value == "*"
        if at == len(tokens) or tokens[at].value != ",":
            return names, at
        at += 1


def _truncate(part: Tokens, dialect: str) -> Effect:
    tokens = without_blanks(part)
    names, at = _relations(tokens, _skipped(tokens, 1, "table"), dialect)
    rest = _words(tokens[at:])
    if not {"restart", "continue", "identity", "cascade", "restrict"}.issuperset(rest):
        return UNKNOWN
    found = frozenset(names)
    cascade = found if "cascade" in rest else frozenset[RelationName]()
    return Effect(writes=found, truncates_cascade=cascade, opaque=True)


_HARMLESS: Final[Mapping[str, Rule]] = dict.fromkeys(
    ("savepoint", "release", "analyze", "vacuum", "reindex"), READ
)
_COMMON: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("select", "values", "with"), query),
    **dict.fromkeys(("insert", "update", "delete"), write),
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
    "truncate": _truncate,
}
_SQLITE: Final[Mapping[str, Rule]] = {
    **_COMMON,
    **_HARMLESS,
    **dict.fromkeys(("pragma", "attach", "detach"), SETTING),
    "replace": write,
    "end": _commit,
}
_RULES: Final = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}
