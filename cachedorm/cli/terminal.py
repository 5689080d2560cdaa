"""Output for people and scripts: tables on a terminal, plain columns in a pipe, JSON.

Text from Redis or from a row is printed literally: no markup, control characters escaped.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Without a terminal: wide enough that nothing is cut or wrapped.
_PIPE_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or practically unbounded in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, width=_PIPE_WIDTH, highlight=False, soft_wrap=True)


def table(*columns: str, title: str | None = None, plain: bool | None = None) -> Table:
    """An empty table; without lines and title in a pipe."""
    if not sys.stdout.isatty() if plain is None else plain:
        named = any(columns)
        return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=named)
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def row(into: Table, *cells: object, style: str = "") -> None:
    """Add a row; cells of any type are printed as text."""
    into.add_row(*(cell(each) for each in cells), style=style)


def cell(value: object) -> Text:
    """One value as literal text; empty for None."""
    return Text("" if value is None else shown(str(value)))


def put(what: RenderableType) -> None:
    """Print a table or a group; in a pipe without trailing blanks."""
    if sys.stdout.isatty():
        console().print(what)
        return
    piped = console()
    with piped.capture() as captured:
        piped.print(what)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def say(text: str, *, style: str = "") -> None:
    """Print one line for people."""
    put(Text(shown(text), style=style))


def shown(text: str) -> str:
    """The text with control characters escaped, except line ends."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else _escape(each) for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def print_json(value: Any) -> None:
    """Print the value as JSON; non-ASCII letters stay if the output is UTF."""
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=ascii_only) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """The value for JSON: bytes in hexadecimal, unknown types as their text."""
    match value:
        case Enum():
            return value.name
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes() | bytearray() | memoryview():
            return value.hex()
        case Mapping():
            return {str(plain(name)): plain(each) for name, each in value.items()}
        case Iterable():
            return [plain(each) for each in value]
        case _:
            return str(value)


def seconds(ms: int | None) -> str:
    """A duration for people, exact: 90 s, 24 h, 7 d."""
    if ms is None:
        return ""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= length and ms % length == 0:
            return f"{ms // length} {unit}"
    return f"{ms / 1000:g} s"


def about(ms: int) -> str:
    """A duration for people, rounded: 3587 s are 59.8 min."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= 2 * length:
            return f"{ms / length:.1f} {unit}"
    return f"{ms / 1000:.1f} s"


def size(number: float) -> str:
    """A size in bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
