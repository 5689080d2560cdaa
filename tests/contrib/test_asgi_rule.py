"""Rules: what can be declared, and what a wrong declaration is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cachedorm import Cache, Region
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.responses import CacheRule, ResponseCache
from cachedorm.responses.messages import directives_of, seconds_in
from cachedorm.responses.response import matches_etag
from tests.support.contrib.shelf import PAGES

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "no slash": (lambda: CacheRule("items"), 'a path begins with "/"'),
    "no name": (lambda: CacheRule("/items/{}"), "is not a name; write {user_id}"),
    "a type": (lambda: CacheRule("/items/{id:int}"), "is not a name; write {user_id}"),
    "a lone brace": (lambda: CacheRule("/items/{id"), "a single brace"),
    "one text": (lambda: CacheRule("/items", query="q"), "give a tuple of names"),  # type: ignore[arg-type]
    "an empty name": (
        lambda: CacheRule("/items", query=("",)),
        "every name must be a non-empty string",
    ),
    "no header": (lambda: CacheRule("/items", vary=("a b",)), "is not a header name"),
    "credentials": (lambda: CacheRule("/", vary=("Authorization",)), 'write authorization="key"'),
    "cookies": (lambda: CacheRule("/", vary=("cookie",)), 'write cookies="key"'),
    "no time": (lambda: CacheRule("/items", ttl=0), "CacheRule('/items'): ttl"),
    "no choice": (
        lambda: CacheRule("/items", authorization="yes"),  # type: ignore[arg-type]
        'give "pass", "key" or "ignore"',
    ),
    "no room": (lambda: CacheRule("/items", entries_max=0), "give 1 or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_cannot_work_is_refused(name: str) -> None:
    """At once, and with what to do."""
    declare, says = WRONG[name]
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert says in str(refused.value)


async def test_what_is_no_rule_is_refused() -> None:
    """A path alone is none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async with Cache() as cache:
        with pytest.raises(ArgumentError, match="give CacheRule objects, got '/items'"):
            ResponseCache(app, cache, ["/items"], region=PAGES)  # type: ignore[list-item]


async def test_a_region_that_the_cache_does_not_list_is_refused() -> None:
    """When the middleware is first used, as for a model."""
    from cachedorm.errors import CachedormError
    from tests.support.contrib.shelf import REGIONS

    async with Cache(regions=REGIONS) as cache:
        with pytest.raises(CachedormError, match="elsewhere"):
            cache.region(Region("elsewhere", db=9, ttl=60))
        assert cache.region(PAGES) is cache.region("pages")


@pytest.mark.parametrize(
    ("path", "asked", "matches"),
    [
        ("/items/{id}", "/items/1", True),
        ("/items/{id}", "/items/", False),
        ("/items/{id}", "/items/1/more", False),
        ("/items/{id}", "/items/1/", False),
        ("/items/{id}/list", "/items/a b/list", True),
        ("/a.b", "/axb", False),
        ("/{a}-{b}", "/1-2", True),
        ("/items/{id}", "/items/1\n", True),
        ("/items", "/items\n", False),
    ],
)
def test_which_paths_a_rule_is_about(path: str, asked: str, matches: bool) -> None:
    """A name stands for one segment, all else for itself."""
    assert CacheRule(path).matches(asked) is matches


def test_a_rule_takes_durations_as_regions_do() -> None:
    """Seconds or a timedelta; none is the region's own."""
    assert CacheRule("/a", ttl=timedelta(minutes=2)).ttl_ms == 120_000
    assert CacheRule("/a", ttl=1.5).ttl_ms == 1500
    assert CacheRule("/a").ttl_ms is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("max-age=5", 5),
        ("MAX-AGE=5", 5),
        ('max-age="5"', 5),
        ("no-store, max-age=5", 5),
        ("max-age=5, max-age=9", 5),
        ("max-age=-1", 0),
        ("max-age=1.5", 0),
        ("max-age", 0),
        ("max-age=" + "9" * 400, 10**9),
        ("s-max-age=5", None),
        ('x="max-age=5"', None),
        ("", None),
    ],
)
def test_directives(text: str, seconds: int | None) -> None:
    """Read as RFC 9111 has them; what is no number makes nothing fresh."""
    fields = ((b"cache-control", text.encode()),)
    assert seconds_in(directives_of(fields), "max-age") == seconds


def test_tags_are_compared_weakly() -> None:
    """W/ makes no difference for If-None-Match; a comma in a tag ends nothing."""
    assert matches_etag([b'"b"', b'W/"a,c"'], b'"a,c"')
    assert matches_etag([b'"a"'], b'W/"a"')
    assert not matches_etag([b'"a'], b'"a"')
    assert not matches_etag([], b'"a"')
