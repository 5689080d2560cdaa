"""README.ko.md says what README.md says: the same headings, blocks and links, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from tests.support.docs.pages import READMES, Block, blocks_of, headings_of, links_of

KOREAN = "README.ko.md"


def differences(english: Sequence[str], korean: Sequence[str], what: str) -> list[str]:
    """What one has and the other has not, as texts that say where to look."""
    found = []
    for tag, a, b, c, d in SequenceMatcher(None, english, korean, autojunk=False).get_opcodes():
        if tag != "equal":
            missing, extra = list(english[a:b]), list(korean[c:d])
            found.append(
                f"{what} {a + 1}: README.md has {missing or 'nothing'},"
                f" {KOREAN} has {extra or 'nothing'}"
            )
    return found


def code(block: Block) -> str:
    """The code without its comments' words, which are translated."""
    lines = [line.split("#")[0].rstrip() for line in block.text.splitlines()]
    return f"{block.language}: " + "\n".join(line for line in lines if line)


def out_of_step(english: Path, korean: Path) -> list[str]:
    """What keeps the two from being one content."""
    headings = [[f"{'#' * h.level}" for h in headings_of(page)] for page in (english, korean)]
    texts = [[h.text for h in headings_of(page)] for page in (english, korean)]
    found = []
    if headings[0] != headings[1]:
        found.append(f"headings differ: README.md has {texts[0]}, {KOREAN} has {texts[1]}")
    found += differences(
        [code(b) for b in blocks_of(english)], [code(b) for b in blocks_of(korean)], "code block"
    )
    found += differences(
        [link.target for link in links_of(english) if link.target != KOREAN],
        [link.target for link in links_of(korean) if link.target != "README.md"],
        "link",
    )
    return found


def test_they_are_in_step() -> None:
    """Whoever changes one changes the other."""
    found = out_of_step(*READMES)
    assert not found, "\n".join(["README.md and README.ko.md are out of step:", *found])


def test_it_is_korean() -> None:
    """Every section has Korean in it, and speaks to the reader in one way."""
    text = READMES[1].read_text()
    hangul = sum("가" <= letter <= "힣" for letter in text)
    assert hangul > 500
    assert "해요." not in text, "the Korean README is written in 합니다체 throughout"


@pytest.mark.parametrize(
    ("english", "korean", "says"),
    [
        ("# A\n\n## B\n", "# 가\n", "headings differ: README.md has ['A', 'B']"),
        (
            "```sh\nmake a  # x\n```\n",
            "```sh\nmake b  # 엑스\n```\n",
            "code block 1: README.md has",
        ),
        ("[a](x.md)", "[가](y.md)", "link 1: README.md has ['x.md'], README.ko.md has ['y.md']"),
    ],
)
def test_a_step_missed_is_named(tmp_path: Path, english: str, korean: str, says: str) -> None:
    """Which heading, block or link it is."""
    one, other = tmp_path / "one.md", tmp_path / "other.md"
    one.write_text(english)
    other.write_text(korean)
    (found,) = out_of_step(one, other)
    assert says in found


def test_translated_comments_are_in_step(tmp_path: Path) -> None:
    """The code is the same though its comments are Korean."""
    one, other = tmp_path / "one.md", tmp_path / "other.md"
    one.write_text("```python\nx = 1  # one\n```\n")
    other.write_text("```python\nx = 1  # 하나\n```\n")
    assert out_of_step(one, other) == []
