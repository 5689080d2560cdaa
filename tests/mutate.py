"""Takes the rules of tests/mutants.toml out of a copy of the code, one by one; each must be missed.

A row: `rule` in words, `file`, `find` (a text that stands there once), `replace`, and `test`, the
test that must fail without the rule (a pytest node or several).
`python -m tests.mutate [--jobs 2] [WORD...]` runs the rows whose rule or file has such a word.
Ends with 1 if a mutant survives, if an edit no longer applies, or if a test fails without any edit.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "tests" / "mutants.toml"
COPIED = ("cachedorm", "models", "migrations", "examples", "tests", "benchmarks")
FILES = ("pyproject.toml", "alembic.ini", "README.md")
TIMEOUT = 180.0


class Outcome(Enum):
    """What became of a row; all but KILLED are failures of this run."""

    KILLED = "killed"
    SURVIVED = "SURVIVED: the test passes without the rule"
    UNFIT = "NO LONGER APPLIES: the text to find does not stand there exactly once"
    NONSENSE = "NONSENSE: the edited file is no Python, which any test would notice"
    BROKEN = "BROKEN: the test does not pass, or runs no test, with the rule in place"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule, the edit that removes it, and the test that guards it."""

    rule: str
    file: str
    find: str
    replace: str
    test: tuple[str, ...]

    @classmethod
    def of(cls, row: dict[str, object]) -> "Mutant":
        """The mutant of one row; ValueError says what the row lacks."""
        unknown = set(row) ^ {"rule", "file", "find", "replace", "test"}
        if unknown:
            raise ValueError(f"{row.get('rule', row)}: missing or unknown: {sorted(unknown)}")
        test = row["test"]
        tests = tuple(map(str, test)) if isinstance(test, list) else (str(test),)
        return cls(str(row["rule"]), str(row["file"]), str(row["find"]), str(row["replace"]), tests)


def read_rows(path: Path, words: Sequence[str] = ()) -> list[Mutant]:
    """The rows of the file that have one of the words."""
    rows = [Mutant.of(row) for row in tomllib.loads(path.read_text()).get("mutant", [])]
    return [m for m in rows if not words or any(word in f"{m.rule} {m.file}" for word in words)]


class Copy:
    """A copy of the tree to edit and to run tests in."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, folder / name, ignore=ignore)
        for name in FILES:
            if (root / name).is_file():
                shutil.copy(root / name, folder / name)

    def judge(self, mutant: Mutant) -> Outcome:
        """Run the row: its test without the rule, then with it."""
        path = self.folder / mutant.file
        text = path.read_text() if path.is_file() else ""
        edited = text.replace(mutant.find, mutant.replace)
        if text.count(mutant.find) != 1:
            return Outcome.UNFIT
        if path.suffix == ".py" and not _is_python(edited):
            return Outcome.NONSENSE
        path.write_text(edited)
        try:
            survived = self.passes(mutant.test)
        finally:
            path.write_text(text)
        if survived:
            return Outcome.SURVIVED
        # The second run tells a killed mutant from a test that always fails.
        return Outcome.KILLED if self.passes(mutant.test) else Outcome.BROKEN

    def passes(self, tests: Sequence[str]) -> bool:
        """Do the tests pass here? A run that hangs or finds no test does not."""
        # -B: a cached .pyc of the same size and second would hide the edit.
        command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        environment = os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            [*command, *tests],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            try:
                return run.wait(TIMEOUT) == 0
            except subprocess.TimeoutExpired:
                run.terminate()
                return False


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def run(mutants: Sequence[Mutant], *, root: Path = ROOT, jobs: int = 1) -> list[Outcome]:
    """The outcome of every mutant, in order, printed as they come."""
    with tempfile.TemporaryDirectory(prefix="cachedorm-mutants-") as folder:
        copies: Queue[Copy] = Queue()
        for number in range(jobs):
            copies.put(Copy(root, Path(folder) / str(number)))
        printing = threading.Lock()

        def judge(mutant: Mutant) -> Outcome:
            copy, begun = copies.get(), time.monotonic()
            try:
                outcome = copy.judge(mutant)
            finally:
                copies.put(copy)
            with printing:
                seconds = time.monotonic() - begun
                print(f"{outcome.value}: {mutant.rule} [{mutant.file}] {seconds:.0f} s", flush=True)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(judge, mutants))


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at the same time")
    parser.add_argument("words", nargs="*", help="only rows whose rule or file has such a word")
    options = parser.parse_args()
    mutants = read_rows(ROWS, options.words)
    outcomes = run(mutants, jobs=options.jobs)
    killed = outcomes.count(Outcome.KILLED)
    print(f"{killed} of {len(mutants)} mutants killed, {len(mutants) - killed} not")
    return 0 if mutants and killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
