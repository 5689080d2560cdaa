"""Every code block of every page does what the page says it does."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cachedorm.cli import app
from tests.support.docs.pages import PAGES, ROOT, Block, blocks_of, name_of

DATABASE = "postgresql+psycopg://localhost/app"
REDIS = "redis://localhost:6379"

# What a page may show. Other languages are checked by nobody, so nobody shows them.
LANGUAGES = {"python", "sh", "text", "yaml", "toml", "json", "ini", "conf"}
# So few blocks may stay unrun, in all pages together, each with its reason.
NOT_RUN_MAX = 2

# What is to be had elsewhere, and is checked for its syntax only.
OTHERS_PROGRAMS = {
    "alembic",
    "apt-get",
    "celery",
    "curl",
    "docker",
    "dockerd",
    "ip",
    "kill",
    "schemathesis",
    "kubectl",
    "mkdocs",
    "pytest",
    "python",
    "redis-cli",
    "rm",
    "uvicorn",
}

pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def every_block(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def python_of(page: Path) -> list[tuple[str, str]]:
    """Place and text of what is run of a page, what its file in setups/ says first."""
    setup = ROOT / "tests" / "docs" / "setups" / f"{page.name.split('.')[0].lower()}.py"
    before = [(name_of(setup), setup.read_text())] if setup.exists() else []
    shown = [block for block in blocks_of(page) if block.language == "python"]
    return before + [(block.place, block.text) for block in shown if not block.not_run]


Run = Callable[[str, Path], str | None]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs the blocks (JSON) of one page in a folder; what it said if it failed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.docs.runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        told, answers = runner.stdin, runner.stdout

        def run_page(blocks: str, folder: Path) -> str | None:
            told.write(f'{{"folder": {json.dumps(str(folder))}, "blocks": {blocks}}}\n')
            told.flush()
            failed: str | None = json.loads(answers.readline())["failed"]
            return failed

        yield run_page
        told.close()


@pages
def test_the_blocks_of_a_page_run(
    page: Path, request: pytest.FixtureRequest, run: Run, tmp_path: Path
) -> None:
    """In order, in one namespace, on the real servers where its URLs name them."""
    blocks = python_of(page)
    if not blocks:
        return
    text = json.dumps(blocks)
    if DATABASE in text:
        text = text.replace(DATABASE, request.getfixturevalue("new_database")())
    if REDIS in text:
        text = text.replace(REDIS, request.getfixturevalue("redis_url"))
    failed = run(text, tmp_path)
    assert failed is None, failed


def test_few_blocks_are_not_run() -> None:
    """A marker is for what really cannot run here, and says why."""
    unrun = [block for page in PAGES for block in blocks_of(page) if block.not_run]
    listed = "\n".join(f"{block.place}: {block.not_run}" for block in unrun)
    assert len(unrun) <= NOT_RUN_MAX, f"more than {NOT_RUN_MAX} blocks are not run:\n{listed}"
    # What a shell is told may need an engine or a cluster; a text needs no marker.
    assert all(block.language in ("python", "sh") for block in unrun), listed


@pages
def test_every_block_says_its_language(page: Path) -> None:
    """So that it is known how to check it; what a program prints is ``text``."""
    others = [b.place for b in blocks_of(page) if b.language not in LANGUAGES]
    assert not others, f"give these blocks one of the languages {sorted(LANGUAGES)}: {others}"


def test_settings_can_be_read() -> None:
    """By the parser of their language."""
    parsers: dict[str, Callable[[str], object]] = {
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
        "json": json.loads,
    }
    for block in every_block(*parsers):
        assert parsers[block.language](block.text), block.place


@pytest.mark.parametrize("block", every_block("sh"), ids=lambda block: str(block.place))
def test_shell_commands_exist(block: Block) -> None:
    """Make targets, extras, our own commands and files; the rest is at least sound syntax."""
    parsed = subprocess.run(["bash", "-n"], input=block.text, text=True, check=False)
    assert parsed.returncode == 0, block.place
    wrong = [f"{block.place}: {why}" for words in commands_in(block.text) for why in check(words)]
    assert not wrong, "\n".join(wrong)


def commands_in(text: str) -> list[list[str]]:
    """The words of each command, without comments and what is set before it."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            continue
        for part in re.split(r"&&|\|\||;|\|| &$", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"^\w+=", words[0]):
                words = words[1:]
            if words and words[0] != "export":
                found.append(words)
    return found


def check(words: list[str]) -> list[str]:
    """What is wrong with one command, as texts."""
    program, *rest = words
    if program == "make":
        return [f"make has no target {each}" for each in rest if each not in _targets()]
    if program == "pip":
        return _unknown_extras(rest)
    if program == "cachedorm":
        return _wrong_options(rest)
    if "/" in program:
        return [] if (ROOT / program).exists() else [f"there is no {program}"]
    return [] if program in OTHERS_PROGRAMS else [f"{program} is not known to exist"]


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _unknown_extras(words: list[str]) -> list[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = [each for word in words for each in re.findall(r"cachedorm\[([\w,-]+)\]", word)]
    wanted = {extra for group in named for extra in group.split(",")}
    return [f"pyproject.toml has no extra {each}" for each in sorted(wanted - set(extras))]


def _wrong_options(words: list[str]) -> list[str]:
    names = words[:1]
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [*names, "--help"])
    if shown.exit_code != 0:
        return [f"cachedorm {' '.join(names)} --help: {shown.output}"]
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    return [f"cachedorm {names[0]} has no {each}" for each in options if each not in shown.output]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("make tset", "no target tset"),
        ("pip install 'cachedorm[postgers]'", "no extra postgers"),
        ("cachedorm warn --app a:b", "No such command"),
        ("cachedorm warm --apps a:b", "has no --apps"),
        ("tests/containers/bild.sh", "there is no"),
        ("cachdorm warm", "not known"),
    ],
)
def test_a_wrong_command_is_named(command: str, says: str) -> None:
    """The checks see what they are for."""
    (words,) = commands_in(command)
    assert says in " ".join(check(words))


def test_a_failing_block_is_named(run: Run, tmp_path: Path) -> None:
    """With the page and the line, and the line's text."""
    page = tmp_path / "page.md"
    page.write_text("# T\n\n```python\nx = 1\n```\n\n```python\nassert x == 2, 'seen'\n```\n")
    text = json.dumps([(block.place, block.text) for block in blocks_of(page)])
    failed = run(text, tmp_path)
    assert failed is not None
    assert "in the block at page.md:8" in failed
    assert "assert x == 2" in failed


def test_a_failing_page_leaves_nothing_running(run: Run, tmp_path: Path) -> None:
    """A worker that a block has started ends with its page."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        start = (
            "import os, subprocess\n"
            f"held = os.open({str(fifo)!r}, os.O_WRONLY)\n"
            "worker = subprocess.Popen(['sleep', '600'], stdout=held)\n"
        )
        assert run(json.dumps([("page:1", start), ("page:2", "1 / 0")]), tmp_path) is not None
        # Its end is readable at once when nobody holds the other end any more, as the worker would.
        assert select.select([reader], [], [], 20)[0]
    finally:
        os.close(reader)
