"""Glob patterns of keys, with Redis' syntax."""

from __future__ import annotations

import re
from collections.abc import Callable

# A class (as in [a-c], [^x]), an escaped character, any one, any number, or itself.
_PART = re.compile(r"\[(\^?)((?:\\.|[^\]\\])*)\]?|\\(.)|([*?])|(.)", re.DOTALL)


def glob(pattern: str) -> Callable[[str], object]:
    """Return a function that says whether a key matches, byte by byte as in Redis."""
    text = pattern.encode().decode("latin-1")
    compiled = re.compile("".join(map(_part, _PART.finditer(text))), re.DOTALL)
    return lambda key: compiled.fullmatch(key.encode().decode("latin-1"))


def _part(found: re.Match[str]) -> str:
    negated, inside, escaped, wild, plain = found.groups()
    if inside is not None:
        return _class(inside, negated)
    if wild:
        return ".*" if wild == "*" else "."
    return re.escape(escaped or plain)


def _class(inside: str, negated: str) -> str:
    members = re.findall(r"(?:\\(.)|(.))(?:-(?:\\(.)|(.)))?", inside, re.DOTALL)
    ranges = []
    for first, one, last, other in members:
        begin = first or one
        end = last or other or begin
        low, high = sorted((begin, end))
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "." if negated else r"(?!)"
    return f"[{negated}{''.join(ranges)}]"
