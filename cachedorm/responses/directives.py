"""Cache-Control, read: RFC 9111, 5.2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cachedorm.responses.messages import Fields, values_of

# A name, and maybe a value: a token or a quoted string, in which a comma ends nothing.
_DIRECTIVE = re.compile(r'\s*([^\s,=;"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,;"]*))?')
_DIGITS_MAX = 9

Directives = Mapping[str, str]


def directives_of(fields: Fields) -> Directives:
    """The directives of Cache-Control by their names in lower case; without it, of Pragma."""
    found = values_of(fields, b"cache-control")
    return _read(found or values_of(fields, b"pragma"))


def _read(values: Iterable[bytes]) -> Directives:
    text = b",".join(values).decode("latin-1")
    found: dict[str, str] = {}
    for name, value in _DIRECTIVE.findall(text):
        # Said twice, the first counts, as RFC 9111 (4.2.1) has it.
        found.setdefault(name.lower(), value.strip('"'))
    return found


def seconds_in(directives: Directives, name: str) -> int | None:
    """The seconds that a directive gives: None without it, 0 if it gives no number."""
    value = directives.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        return 0  # what cannot be understood must not make anything fresh
    return int(value[:_DIGITS_MAX]) if len(value) <= _DIGITS_MAX else 10**_DIGITS_MAX
