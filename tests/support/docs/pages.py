"""The pages that people read, taken apart: blocks, headings, links.

A block is fenced and says its language. Two comments may stand before one:

    <!-- setup:
    python that the reader need not see, run at this place
    -->
    <!-- not run: why this block cannot -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
READMES = (ROOT / "README.md", ROOT / "README.ko.md")
PAGES = (*READMES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+|~~~+)(?P<language>[\w+-]*)(?P<rest>.*)$")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.*?)\s*-->")
_SETUP = re.compile(r"^<!--\s*setup:\s*$")
_HEADING = re.compile(r"^(?P<level>#{1,6}) (?P<text>.+?)\s*$")
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, or a hidden setup. ``not_run``: the reason that is given for it."""

    page: Path
    line: int
    language: str
    text: str
    hidden: bool = False
    not_run: str = ""

    @property
    def place(self) -> str:
        """file:line of its first line of code."""
        return f"{name_of(self.page)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and the line it stands on."""

    line: int
    level: int
    text: str

    @property
    def anchor(self) -> str:
        """What a link to it says behind the #, as GitHub and the site make it."""
        plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", self.text).strip().lower()
        return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Link:
    """A link and the line it stands on."""

    line: int
    text: str
    target: str


def name_of(page: Path) -> str:
    """The page's path from the root."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block and hidden setup, in order."""
    return list(_blocks(page, page.read_text().splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    numbered = iter(enumerate(lines, 1))
    reason = ""
    for number, line in numbered:
        fence, marker = _FENCE.match(line), _NOT_RUN.search(line)
        if marker:
            reason = marker["reason"]
        elif _SETUP.match(line):
            taken = _until(numbered, "-->", page, number)
            yield Block(page, number + 1, "python", "\n".join(taken), hidden=True)
        elif fence:
            taken = _until(numbered, fence["indent"] + fence["ticks"], page, number)
            text = "\n".join(each.removeprefix(fence["indent"]) for each in taken)
            yield Block(page, number + 1, fence["language"], text, not_run=reason)
            reason = ""


def _until(numbered: Iterator[tuple[int, str]], end: str, page: Path, begun: int) -> list[str]:
    taken: list[str] = []
    for _, line in numbered:
        if line.rstrip() == end:
            return taken
        taken.append(line)
    raise AssertionError(f"{name_of(page)}:{begun}: a block that does not end with {end!r}")


def prose_of(page: Path) -> list[tuple[int, str]]:
    """The numbered lines outside of blocks and comments."""
    inside, prose = "", []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if inside:
            inside = "" if line.rstrip() == inside else inside
        elif fence:
            inside = fence["indent"] + fence["ticks"]
        elif line.startswith("<!--") and "-->" not in line:
            inside = "-->"
        else:
            prose.append((number, line))
    return prose


def headings_of(page: Path) -> list[Heading]:
    """Every heading, in order."""
    found = ((number, _HEADING.match(line)) for number, line in prose_of(page))
    return [Heading(number, len(each["level"]), each["text"]) for number, each in found if each]


def links_of(page: Path) -> list[Link]:
    """Every link, in order; what stands between backticks is none."""
    return [
        Link(number, each["text"], each["target"])
        for number, line in prose_of(page)
        for each in _LINK.finditer(re.sub(r"(?<!\[)`[^`]*`(?!\])", "", line))
    ]
