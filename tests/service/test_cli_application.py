"""Which application a command works on, and how everything wrong is said: one line, status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cachedorm.cli.errors import masked, one_line
from cachedorm.cli.terminal import plain, shown
from tests.fixtures.command_line import Command

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that do not exist; nothing here asks them."""
    monkeypatch.setenv("WARM_DATABASE", "postgresql+psycopg://127.0.0.1:1/none")
    monkeypatch.setenv("WARM_REDIS", "redis://127.0.0.1:1")


def test_pyproject_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """From a folder further down, past a pyproject.toml that says nothing of it."""
    (tmp_path / "pyproject.toml").write_text('[tool.cachedorm]\napp = "shop_of_test:cache"\n')
    (tmp_path / "shop_of_test.py").write_text(
        "from cachedorm import Cache, Region, Regions\n"
        'cache = Cache(regions=Regions(Region("shop", db=3, ttl=60)))\n'
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    monkeypatch.chdir(below)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])

    done = command("regions", "--json", app=None)

    assert done.status == 0, done.stderr
    assert "shop" in [each["name"] for each in done.json["regions"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.cachedorm\n", "cannot be read"),
        ("\udcff", "cannot be read"),
        ("[tool.cachedorm]\napp = 3\n", "3 is not a string"),
        ('[tool.cachedorm]\napp = "shop"\n', "give module:name"),
        ('[tool.cachedorm]\napp = "no_such_shop:cache"\n', "No module named 'no_such_shop'"),
        ('tool = "x"\n', "no application given"),
        ('[tool]\ncachedorm = "x"\n', "no application given"),
        ("", "no application given"),
    ],
)
def test_a_wrong_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, text: str, says: str
) -> None:
    """What is wrong with it is said, and which file it was."""
    (tmp_path / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.chdir(tmp_path)
    done = command("regions", app=None)

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nothing", "give module:name"),
        (":cache", "give module:name"),
        ("models:", "give module:name"),
        ("no_such_shop:cache", "No module named"),
        ("models:REGIONS.nope", "has no attribute 'nope'"),
        ("tests.support.service.warm_app:not_a_cache", "expected a Cache, got a int"),
        ("tests.support.service.cli_apps:failing", "RuntimeError: no such setting"),
        ("tests.support.service.cli_apps:leaving", "wrong environment"),
        ("tests.support.service.cli_apps:coroutine", "a coroutine"),
        ("tests.support.service.cli_apps:lazy.cache", "RuntimeError: not yet"),
    ],
)
@pytest.mark.parametrize("words", [("warm",), ("doctor",), ("inspect", "k")])
def test_a_wrong_app(command: Command, app: str, says: str, words: tuple[str, ...]) -> None:
    """Whatever it does when it is imported or called, no traceback and no password."""
    done = command(*words, app=app)

    assert (done.status, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert says in done.stderr
    assert "s3cret" not in done.stderr


def test_what_the_application_prints(command: Command) -> None:
    """Goes to the error stream: a script reads the command's own words."""
    done = command("regions", "--json", app="tests.support.service.cli_apps:talkative")

    assert (done.status, done.json["reserved"]) == (0, [])
    assert done.stderr == "opening the cache\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nope",), "No such command"),
        (("stats", "--nope"), "(see cachedorm stats --help)"),
        (("stats", "--sample", "many"), "--sample"),
        (("inspect",), "Missing argument"),
        (("--nope",), "No such option"),
        (("inspect", "\udcff"), "\\xff: not UTF-8 text"),
    ],
)
def test_wrong_words(command: Command, words: tuple[str, ...], says: str) -> None:
    """One line that names the help."""
    done = command(*words, app=None)

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_an_output_that_is_full(words: tuple[str, ...]) -> None:
    """Is said, and a script sees that it has not got all."""
    command = [sys.executable, "-m", "cachedorm.cli", "regions", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--app", "tests.support.service.cli_apps:in_korean"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("at redis://me:pa:s@s@host:1/x", "at redis://me:***@host:1/x"),
        ("redis://:pw@host", "redis://:***@host"),
        ("postgresql+psycopg://u@host/db", "postgresql+psycopg://u@host/db"),
        ("host=h password=geheim user=u", "host=h password=*** user=u"),
        ("?user=u&password=geheim&x=1", "?user=u&password=***&x=1"),
        ("a mail to me@host and http://host/a", "a mail to me@host and http://host/a"),
    ],
)
def test_passwords_are_masked(text: str, safe: str) -> None:
    """Wherever a foreign text holds one."""
    assert masked(text) == safe


def test_errors_are_a_line() -> None:
    """With their type, the first two lines, nothing of the rest."""
    assert one_line(ValueError("a\n\n  b  \nc")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"


def test_nothing_is_obeyed_and_json_is_json() -> None:
    """Control characters are spelt out; what JSON lacks is text."""
    assert shown("a\x1b[0m\u202eb 종이\n") == "a\\x1b[0m\\u202eb 종이\n"
    assert plain({1: [float("nan"), b"\xff", "\ud800"], "x": (None, True)}) == {
        "1": ["nan", "ff", "\\ud800"],
        "x": [None, True],
    }
