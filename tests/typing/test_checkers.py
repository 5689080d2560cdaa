"""What a user's type checker sees: mypy and pyright, strict, on right calls and on wrong ones."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT, WRONG = HERE / "right_calls.py", HERE / "wrong_calls.py"

# A checker without a cache reads all of SQLAlchemy, perhaps on a busy machine.
TIMEOUT = 300

Errors = dict[tuple[str, int], set[str]]


def run(module: str, *arguments: str) -> str:
    """What the checker prints for both files; it must find errors, and not crash."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, str(RIGHT), str(WRONG)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def mypy_errors(cache: Path) -> Errors:
    """Errors of mypy, strict, without the project's own settings."""
    found: Errors = {}
    printed = run(
        "mypy",
        "--strict",
        "--config-file=",
        "--explicit-package-bases",
        "--no-error-summary",
        "--hide-error-context",
        f"--cache-dir={cache}",
    )
    for line in printed.splitlines():
        match = re.fullmatch(r"(.*?):(\d+): error: .*\[([a-z-]+)\]", line)
        if match is not None:
            path, number, code = match.groups()
            found.setdefault((Path(path).name, int(number)), set()).add(code)
    return found


def pyright_errors(cache: Path) -> Errors:
    """Errors of pyright, strict; ``basedpyright`` is pyright with a Node.js that pip installs."""
    config = cache / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}))
    printed = run(
        "basedpyright", "--outputjson", f"--pythonpath={sys.executable}", f"--project={config}"
    )
    found: Errors = {}
    for each in json.loads(printed)["generalDiagnostics"]:
        if each["severity"] == "error":
            place = Path(each["file"]).name, each["range"]["start"]["line"] + 1
            found.setdefault(place, set()).add(each["rule"])
    return found


def marked_errors(checker: str) -> Errors:
    """The errors that the comments among the wrong calls expect on the line below."""
    found: Errors = {}
    for number, line in enumerate(WRONG.read_text().splitlines(), start=1):
        if "# error:" in line:
            codes = re.search(rf"# error:.*\b{checker}=([\w,-]+)", line)
            assert codes is not None, f"line {number} names no code of {checker}"
            found[WRONG.name, number + 1] = set(codes[1].split(","))
    return found


@pytest.mark.parametrize(
    ("checker", "module", "errors"),
    [("mypy", "mypy", mypy_errors), ("pyright", "basedpyright", pyright_errors)],
    ids=["mypy", "pyright"],
)
def test_right_calls_pass_and_wrong_calls_do_not(
    checker: str, module: str, errors: Callable[[Path], Errors], pytestconfig: pytest.Config
) -> None:
    """A checker finds the marked errors, on their lines, and no other."""
    pytest.importorskip(module, reason=f"needs {module}, of the extra 'dev'")
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir(f"typing-{checker}")
    assert errors(cache) == marked_errors(checker)
