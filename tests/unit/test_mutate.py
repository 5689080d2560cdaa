"""The mutation runner itself: what it calls killed is killed."""

from pathlib import Path

import pytest

from tests.mutate import ROOT, Mutant, Outcome, read_rows, run

CODE = "def price(n):\n    return max(n, 0)\n"
TESTS = """from cachedorm.shop import price
def test_floor():
    assert price(-1) == 0
def test_plain():
    assert price(3) == 3
def test_wrong():
    assert price(3) == 4
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with one rule, one test that guards it and one that does not."""
    for folder, name, text in [("cachedorm", "shop", CODE), ("tests", "test_shop", TESTS)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / f"{name}.py").write_text(text)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    return tmp_path


def mutant(test: str, find: str = "max(n, 0)", replace: str = "n") -> Mutant:
    """The rule taken out, guarded by this test."""
    node = f"tests/test_shop.py{test}"
    return Mutant("no negative price", "cachedorm/shop.py", find, replace, (node,))


def test_every_outcome_is_told_apart(tree: Path) -> None:
    """Killed, survived, edits that cannot be made, tests that never pass or do not exist."""
    mutants = [
        mutant("::test_floor"),
        mutant("::test_plain"),
        mutant("::test_floor", find="min(n, 0)"),
        mutant("::test_floor", replace="(n"),
        mutant("::test_wrong"),
        mutant("::test_gone"),
    ]

    outcomes = run(mutants, root=tree, jobs=2)

    assert outcomes == [
        Outcome.KILLED,
        Outcome.SURVIVED,
        Outcome.UNFIT,
        Outcome.NONSENSE,
        Outcome.BROKEN,
        Outcome.BROKEN,
    ]
    assert (tree / "cachedorm" / "shop.py").read_text() == CODE


def test_rows_are_read_and_chosen_by_word(tmp_path: Path) -> None:
    """A word picks the rows whose rule or file has it."""
    rows = tmp_path / "mutants.toml"
    row = '[[mutant]]\nrule = "{0}"\nfile = "{0}.py"\nfind = "a"\nreplace = "b"\ntest = "t"\n'
    rows.write_text(row.format("fence") + row.format("stamp"))

    assert [m.rule for m in read_rows(rows)] == ["fence", "stamp"]
    assert [m.rule for m in read_rows(rows, ["stamp"])] == ["stamp"]


def test_a_row_that_lacks_something_is_refused(tmp_path: Path) -> None:
    """A row without a test would survive unseen."""
    rows = tmp_path / "mutants.toml"
    rows.write_text('[[mutant]]\nrule = "r"\nfile = "f"\nfind = "a"\nreplace = "b"\n')
    with pytest.raises(ValueError, match="test"):
        read_rows(rows)


def test_every_row_names_code_and_tests_that_are_there() -> None:
    """A rule that moved is still guarded: its text stands once, and its tests' files exist."""
    astray = [
        mutant.rule
        for mutant in read_rows(ROOT / "tests" / "mutants.toml")
        if (ROOT / mutant.file).read_text().count(mutant.find) != 1
        or not all((ROOT / node.partition("::")[0]).exists() for node in mutant.test)
    ]
    assert astray == []
