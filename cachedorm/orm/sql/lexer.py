"""SQL text as tokens, one statement at a time, exactly as the database's own lexer cuts it.

The reader must never mistake a string for code or code for a comment. A text that two settings of
a database would cut differently is therefore refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

TokenKind = Literal["word", "name", "string", "number", "bind", "mark"]


class Token(NamedTuple):
    """One token: its kind, its value (a word in lower case) and its text for sqlglot."""

    kind: TokenKind
    value: str
    parser_text: str


Tokens = Sequence[Token]


class Unreadable(ValueError):
    """The text cannot be cut with certainty."""


@dataclass(frozen=True, slots=True)
class _Lexer:
    """The lexical rules of one dialect. The pattern's group names are the kinds of token."""

    pattern: re.Pattern[str]
    nested_comments: bool
    body: str  # the word that opens a routine's body


# Letters beyond ASCII belong to words; other characters (no-break spaces) are refused later.
_WORD: Final = r"(?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)"
_NUMBER: Final = r"(?P<number>[0-9]+)"
_PLAIN: Final = r"'(?:[^']+|'')*+'"
_QUOTED: Final = r'(?P<name>"(?:[^"]+|"")++")'
_COLON: Final = r"(?P<mark2>::|:=)"
# psycopg's %s and %(name)s, text()'s :name. A bind's name with a quote in it is refused: without
# parameters the same characters would be a modulo and a string.
_FORMAT: Final = (
    r"(?P<bind>%[sbt](?![A-Za-z0-9_])|%\([^()'\"$/-]*\)[sbt]|:[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<refused_bind>%\([^)]*\)[sbt])"
)
_PERCENT: Final = r"(?P<percent>%%)"
_COMMENT: Final = r"(?P<block>/\*)"
_MARK: Final = r"(?P<mark>[!#&()*+,./:;<=>?@^|~\[\]%-])"

_POSTGRESQL: Final = _Lexer(
    re.compile(
        "|".join(
            (
                r"(?P<space>[ \t\n\r\f\v]+|--[^\n\r]*)",
                _COMMENT,
                r"(?P<escaped>[eE]'(?:[^'\\]+|\\.|'')*+')",
                r"(?P<refused>[uU]&\")",
                rf"(?P<string>(?:[bBxXnN]|[uU]&)?{_PLAIN})",
                _QUOTED,
                r"(?P<bindn>\$[0-9]+)",
                r"(?P<dollar>\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\$)",
                _WORD,
                _NUMBER,
                _COLON,
                _FORMAT,
                _PERCENT,
                r"(?P<escape>\\:)",
                _MARK,
            )
        ),
        re.DOTALL,
    ),
    nested_comments=True,
    body="atomic",
)
_SQLITE: Final = _Lexer(
    re.compile(
        "|".join(
            (
                r"(?P<space>[ \t\n\r\f]+|--[^\n]*)",
                _COMMENT,
                rf"(?P<string>[xX]?{_PLAIN})",
                _QUOTED,
                r"(?P<name2>`(?:[^`]+|``)++`|\[[^\]]+\])",
                r"(?P<bindn>\?[0-9]*|[@$][A-Za-z_][A-Za-z0-9_]*)",
                _WORD,
                _NUMBER,
                _FORMAT,
                _PERCENT,
                r"(?P<escape>\\:)",
                _MARK,
            )
        ),
        re.DOTALL,
    ),
    nested_comments=False,
    body="begin",
)
LEXERS: Final = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}

_BLOCK_EDGE: Final = re.compile(r"/\*|\*/")
_QUOTE_BEHIND_BACKSLASH: Final = re.compile(r"(?<!\\)(?:\\\\)*\\'")


def statements(sql: str, dialect: str) -> list[list[Token]]:
    """Split a text into statements of tokens, without comments and empty statements.

    Raises ``Unreadable`` if the text is ambiguous or the dialect is not known.
    """
    if (lexer := LEXERS.get(dialect)) is None:
        raise Unreadable(dialect)
    return [part for part in _split(_tokens(sql, lexer), lexer) if part]


def parser_text(tokens: Tokens) -> str:
    """The text for sqlglot: strings are emptied, and all binds look alike."""
    return "".join(token.parser_text for token in tokens)


def _tokens(sql: str, lexer: _Lexer) -> Iterator[Token]:
    position, match_at = 0, lexer.pattern.match
    while position < len(sql):
        if (match := match_at(sql, position)) is None:
            raise Unreadable(sql[position : position + 20])
        position = match.end()
        kind, text = match.lastgroup, match.group()
        match kind:
            case "block":
                position = _comment_end(sql, position, lexer)
                yield _SPACE
            case "dollar":
                position = _dollar_end(sql, position, text)
                yield _STRING
            case _:
                yield _token(kind or "", text)


_SPACE: Final = Token("mark", "", " ")
_STRING: Final = Token("string", "", " '' ")  # empty, so that it never names a table
_BIND: Final = Token("bind", "", " :p ")
_PERCENT_SIGN: Final = Token("mark", "%", "%")
_COLON_SIGN: Final = Token("mark", ":", ":")


_FIXED: Final = {
    "space": _SPACE,
    "escaped": _STRING,
    "bindn": _BIND,
    "percent": _PERCENT_SIGN,
    "escape": _COLON_SIGN,
}


def _token(kind: str, text: str) -> Token:
    if kind in _FIXED:
        return _FIXED[kind]
    match kind:
        case "word":
            return Token("word", _word(text), text)
        case "name" | "name2":
            return _name(text)
        case "mark" | "mark2":
            return Token("mark", text, text)
        case "number":
            return Token("number", text, text)
        case "string":
            return _string(text)
        case "bind":  # :n may be the end of a slice, a[1:n], and stays whole
            return Token("bind", text, text) if text.startswith(":") else _BIND
    raise Unreadable(text)


def _word(text: str) -> str:
    if not text.isascii() and not all(c.isalnum() or c in "_$" for c in text):
        raise Unreadable(text)  # PostgreSQL takes a no-break space for a letter, others for a blank
    return lower(text)


def _name(text: str) -> Token:
    closing = text[-1]
    value = text[1:-1] if closing == "]" else text[1:-1].replace(closing * 2, closing)
    return Token("name", value, '"' + value.replace('"', '""') + '"')


def _string(text: str) -> Token:
    # With standard_conforming_strings=off the server reads '\'' differently.
    if _QUOTE_BEHIND_BACKSLASH.search(text):
        raise Unreadable(text)
    return _STRING


def _comment_end(sql: str, position: int, lexer: _Lexer) -> int:
    if not lexer.nested_comments:
        end = sql.find("*/", position)
        return len(sql) if end < 0 else end + 2
    depth = 1
    while depth:
        if (edge := _BLOCK_EDGE.search(sql, position)) is None:
            raise Unreadable("/*")
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def _dollar_end(sql: str, position: int, tag: str) -> int:
    end = sql.find(tag, position)
    if end < 0:
        raise Unreadable(tag)
    return end + len(tag)


def lower(text: str) -> str:
    """Fold ASCII letters only, as PostgreSQL does in a UTF-8 database."""
    return text.lower() if text.isascii() else _ASCII_UPPER.sub(lambda m: m.group().lower(), text)


_ASCII_UPPER: Final = re.compile("[A-Z]+")


def _split(tokens: Iterator[Token], lexer: _Lexer) -> Iterator[list[Token]]:
    """Split at semicolons, but not within parentheses or a routine's body (as psql does)."""
    part: list[Token] = []
    depth = bodies = 0
    for token in tokens:
        if token.value == ";" and token.kind == "mark" and depth <= 0 and not bodies:
            yield part
            part = []
            continue
        if not part and is_blank(token):
            continue
        if token.kind == "mark":
            depth += (token.value == "(") - (token.value == ")")
        elif token.kind == "word":
            bodies += _step(bodies, part, token, lexer)
        part.append(token)
    if depth > 0 or bodies:
        raise Unreadable("a body or a parenthesis is not closed")
    yield part


def _step(bodies: int, part: Tokens, token: Token, lexer: _Lexer) -> int:
    """The number of routine bodies and CASEs that this word opens, or -1 if it closes one."""
    match token.value:
        case lexer.body if _is_routine(part):
            return 1
        case "case" if bodies:
            return 1
        case "end" if bodies:
            return -1
    return 0


def _is_routine(part: Tokens) -> bool:
    words = [token.value for token in part[:12] if token.kind == "word"]
    return words[:1] == ["create"] and not _ROUTINES.isdisjoint(words)


_ROUTINES: Final = frozenset({"function", "procedure", "trigger"})


def is_blank(token: Token) -> bool:
    """Whether the token stands for a blank or a comment."""
    return not token.value and token.kind == "mark"


def without_blanks(part: Tokens) -> list[Token]:
    """The tokens without the blanks between them."""
    return [token for token in part if not is_blank(token)]
