"""As much of PromQL as it takes to see which metrics and labels an expression uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*")
      | (?P<range>\[[^\]]*\])
      | (?P<name>[A-Za-z_:][\w:]*)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<mark>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
      | (?P<space>\s+)""",
    re.VERBOSE,
)
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "offset", "bool"}


@dataclass(slots=True)
class Used:
    """What one expression uses. ``matched``: of each selected metric, its labels and values."""

    matched: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)

    @property
    def metrics(self) -> set[str]:
        """The names of all metrics."""
        return {name for name, _ in self.matched}


def tokens(expression: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of every token but blanks; ValueError for what is none."""
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise ValueError(f"not understood: {expression[at:]!r} in {expression!r}")
        at = found.end()
        if found.lastgroup not in ("space", "range"):
            yield str(found.lastgroup), found.group()


def used_in(expression: str) -> Used:
    """The metrics, labels and functions of an expression."""
    used, read = Used(), list(tokens(expression))
    at = 0
    while at < len(read):
        kind, text = read[at]
        following = read[at + 1][1] if at + 1 < len(read) else ""
        at += 1
        if kind != "name" or text in _WORDS:
            continue
        if text in _GROUPING:
            labels, at = _until(read, at, ")")
            used.grouped |= {label for kind, label in labels if kind == "name"}
        elif following == "(" or following in _GROUPING:
            used.functions.add(text)
        else:
            matchers: dict[str, str] = {}
            if following == "{":
                inside, at = _until(read, at, "}")
                matchers = _matchers(inside)
            used.matched.append((text, matchers))
    return used


def _until(read: list[tuple[str, str]], at: int, end: str) -> tuple[list[tuple[str, str]], int]:
    stop = next(place for place in range(at, len(read)) if read[place][1] == end)
    return read[at + 1 : stop], stop + 1


def _matchers(inside: list[tuple[str, str]]) -> dict[str, str]:
    names = [text for kind, text in inside if kind == "name"]
    values = [text.strip('"') for kind, text in inside if kind == "string"]
    return dict(zip(names, values, strict=True))
