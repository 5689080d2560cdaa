"""The site builds, names every page, fetches nothing, and its reference is whole."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import cachedorm
import cachedorm.contrib
import cachedorm.testing
from tests.support.docs.pages import ROOT

# What applications import from the modules for frameworks; other names of theirs are private.
MODULES = {
    "responses": ("CacheRule", "ResponseCache"),
    "contrib.fastapi": ("Warming", "serving", "session_of"),
    "contrib.logs": ("StructuredLogs",),
    "contrib.opentelemetry": ("OpenTelemetryMetrics", "OpenTelemetryTraces"),
    "contrib.prometheus": ("PrometheusCounters", "PrometheusObserver"),
}

# Where the site's tool takes the name for the module that it comes from.
NAMESAKES = {"cachedorm.tag": "cachedorm.declare.policies.tag.tag"}

REFERENCE = (ROOT / "docs" / "reference.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as mkdocs can."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        # The theme prints an advertisement; it is no warning.
        env={
            "NO_MKDOCS_2_WARNING": "1",
            "PATH": "/usr/bin:/bin",
            "DISABLE_MKDOCS_2_WARNING": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_nav() -> None:
    """A page that is not there is found by nobody."""
    settings = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r"^ +- [^:\n#]+: (\S+\.md)$", settings, re.MULTILINE))
    there = {each.relative_to(ROOT / "docs").as_posix() for each in (ROOT / "docs").rglob("*.md")}
    assert there == listed, f"add to nav in mkdocs.yml: {sorted(there - listed)}"


def test_it_builds(site: Path) -> None:
    """With every page, link, anchor and docstring."""
    assert (site / "tutorial" / "index.html").exists()
    reference = (site / "reference" / "index.html").read_text()
    assert "invalidate_where" in reference


def test_a_function_is_shown_as_one(site: Path) -> None:
    """And not as the module of its name, with all that is in it."""
    reference = (site / "reference" / "index.html").read_text()
    shown = set(re.findall(r'<h[1-6] id="([\w.]+)"', reference))
    said = re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE)
    functions = [name for name in said if inspect.isfunction(pkgutil.resolve_name(name))]
    assert "cachedorm.cached" in functions
    for name in functions:
        assert name in shown
        assert not [each for each in shown if each.startswith(f"{name}.")]


def test_it_fetches_nothing(site: Path) -> None:
    """Fonts, scripts, styles and pictures come with it; only people follow links out of it."""
    fetched = re.compile(r'<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)="?(https?:)?//[^">]*')
    found = {
        match.group(0)
        for page in site.rglob("*.html")
        for match in fetched.finditer(page.read_text())
        if 'rel="canonical"' not in match.group(0)
    }
    assert not found


def public() -> Iterator[tuple[str, Any]]:
    """Every public name and, of classes of ours, every public member."""
    for module in (cachedorm, cachedorm.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            yield f"{module.__name__}.{name}", thing
            yield from _members(f"{module.__name__}.{name}", thing)
    for place, names in MODULES.items():
        module = importlib.import_module(f"cachedorm.{place}")
        for name in names:
            yield f"{module.__name__}.{name}", getattr(module, name)
            yield from _members(f"{module.__name__}.{name}", getattr(module, name))
    for name, error in vars(cachedorm.errors).items():
        if inspect.isclass(error):
            yield f"cachedorm.errors.{name}", error


def _members(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            yield f"{name}.{member}", value


def test_everything_has_a_docstring() -> None:
    """What stands in the reference says what the caller gets."""
    assert [name for name, thing in public() if not inspect.getdoc(thing)] == []


def test_the_reference_has_every_public_name() -> None:
    """And is the place to look."""
    names = [
        f"cachedorm.{name}"
        for name in cachedorm.__all__
        if not isinstance(getattr(cachedorm, name), ModuleType)
    ]
    missing = [name for name in names if f"::: {NAMESAKES.get(name, name)}\n" not in REFERENCE]
    assert missing == []
    for place, wanted in MODULES.items():
        for name in wanted:
            assert f"::: cachedorm.{place}.{name}\n" in REFERENCE
    there = {
        f"contrib.{module.name}" for module in pkgutil.iter_modules(cachedorm.contrib.__path__)
    }
    assert there == set(MODULES) - {"responses"}, "say here what an application imports from it"
    assert "::: cachedorm.testing\n" in REFERENCE
    assert "::: cachedorm.errors\n" in REFERENCE


def test_the_settings_name_no_place_to_fetch_from() -> None:
    """No web font, no analytics, no social cards."""
    text = (ROOT / "mkdocs.yml").read_text()
    settings = yaml.safe_load(re.sub(r"!!python/\S+", "", text))
    assert settings["theme"]["font"] is False
    assert "https://" not in text
    assert [
        each if isinstance(each, str) else next(iter(each)) for each in settings["plugins"]
    ] == [
        "search",
        "mkdocstrings",
    ]
