"""Every link between the pages leads somewhere, anchors included."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.docs.pages import PAGES, ROOT, Heading, headings_of, links_of, name_of


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere, as texts."""
    found = []
    for link in links_of(page):
        path, _, anchor = unquote(link.target).partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = page if not path else (page.parent / path).resolve()
        if not target.exists():
            found.append(f"{name_of(page)}:{link.line}: there is no {path}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            found.append(f"{name_of(page)}:{link.line}: {path or 'this page'} has no #{anchor}")
    return found


def anchors(page: Path) -> set[str]:
    """Of every heading; a second one of the same text is numbered."""
    seen: dict[str, int] = {}
    for heading in headings_of(page):
        seen[heading.anchor] = seen.get(heading.anchor, 0) + 1
    numbered = {f"{name}-{n}" for name, count in seen.items() for n in range(1, count)}
    return set(seen) | numbered


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading of it."""
    assert not broken(page), "\n".join(["", *broken(page)])


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name_of)
def test_links_of_the_site_stay_in_it(page: Path) -> None:
    """The site holds docs/ alone; what lies beside it is named, not linked."""
    outside = [
        f"{name_of(page)}:{link.line}: {link.target}"
        for link in links_of(page)
        if "://" not in link.target
        and not (page.parent / link.target.partition("#")[0])
        .resolve()
        .is_relative_to(ROOT / "docs")
    ]
    assert not outside, f"name the file in backticks instead: {outside}"


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    """With its line, and whether file or anchor is missing."""
    page = tmp_path / "page.md"
    page.write_text("# One two\n\n[a](gone.md) [b](#one-two)\n[c](#three) `[d](gone.md)`\n")
    assert broken(page) == [
        "page.md:3: there is no gone.md",
        "page.md:4: this page has no #three",
    ]


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        ("A read", "a-read"),
        ('`on_write="refresh"`', "on_writerefresh"),
        ("약속하는 것", "약속하는-것"),
    ],
)
def test_anchors_are_githubs(text: str, anchor: str) -> None:
    """And so are the site's, by pymdownx."""
    assert Heading(1, 2, text).anchor == anchor
