"""The pages for contributors name files that are there, and the limits that the suite holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.docs.pages import ROOT, name_of
from tests.support.journeys import CALLS_MAX
from tests.unit.test_layering import FLOORS

ARCHITECTURE = ROOT / "docs" / "architecture.md"
_FILE = re.compile(r"`([\w./]+(?:\.py|\.toml|\.md|/))`")
_LIMIT = re.compile(r"^\| `(?P<journey>[^`]+)` \| (?P<calls>\d+) \|", re.MULTILINE)
_MODULE = re.compile(r"^\| `((?:orm|store|declare)[\w.]+)`", re.MULTILINE)


@pytest.mark.parametrize("page", [ARCHITECTURE, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_files_are_there(page: Path) -> None:
    """Seen from the root of the repository, or from the library's."""
    named = set(_FILE.findall(page.read_text()))
    gone = {n for n in named if not any((ROOT / at / n).exists() for at in ("", "cachedorm"))}
    assert len(named) > 10
    assert not gone


def test_the_modules_of_the_journeys_are_there() -> None:
    """A stop names a module or a package."""
    for module in _MODULE.findall(ARCHITECTURE.read_text()):
        path = ROOT / "cachedorm" / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_the_limits_are_those_of_the_suite() -> None:
    """The page has every journey, with the number that the test holds it to."""
    shown = {each["journey"]: int(each["calls"]) for each in _LIMIT.finditer(read())}
    assert shown == CALLS_MAX


def test_the_diagram_has_every_layer_of_the_orm_and_the_store() -> None:
    """In the order of the floors: what imports stands above what is imported."""
    diagram = read().split("```text\n")[1].split("```")[0]
    lines = diagram.splitlines()
    below = len(lines)
    for floor in FLOORS:
        drawn = {place for place in floor if place.startswith(("orm.", "store."))}
        for place in drawn:
            at = [n for n, line in enumerate(lines) if re.search(rf"{place}\b", line)]
            assert at, f"{place} is not in the diagram"
            assert max(at) <= below, f"{place} stands too low"
        if drawn:
            below = min(n for n, line in enumerate(lines) for p in drawn if p in line)


def read() -> str:
    """The page."""
    return ARCHITECTURE.read_text()
