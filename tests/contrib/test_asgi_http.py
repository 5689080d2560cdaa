"""HTTP: what is answered, with which headers, to whom; no database is needed for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cachedorm import Cache
from cachedorm.responses import CacheRule, ResponseCache
from cachedorm.responses.request import Request as Asked
from tests.support.contrib.shelf import PAGES, REGIONS
from tests.support.contrib.site import asking, is_hit, is_stored

Headers = Mapping[str, str]


@dataclass
class Page:
    """One page, made of a cached greeting. ``headers``, ``status``, ``body``: what it answers."""

    cache: Cache
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    body: bytes = b"hello"
    runs: int = 0

    async def answer(self, request: Request) -> Response:
        self.runs += 1
        self.cache.region("rows").get_or_create("greeting", lambda: "hello")
        return Response(self.body, self.status, self.headers, media_type="text/plain")

    def client(self, rule: CacheRule | None = None, **options: Any) -> httpx.AsyncClient:
        """Asks for it at any path."""
        app = Starlette(
            routes=[Route("/{path:path}", self.answer, methods=["GET", "HEAD", "POST"])]
        )
        given = rule or CacheRule("/page")
        return asking(ResponseCache(app, self.cache, [given], region=PAGES, **options))

    async def kept(self, rule: CacheRule | None = None, headers: Headers | None = None) -> bool:
        """Whether the second of two equal requests is a hit."""
        async with self.client(rule) as client:
            first = await client.get("/page", headers=headers)
            second = await client.get("/page", headers=headers)
        assert is_stored(first) == is_hit(second)
        return is_hit(second)


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    """The page, over a cache in this process."""
    async with Cache(regions=REGIONS) as cache:
        yield Page(cache)


def left(hit: httpx.Response) -> int:
    """How many seconds longer it is good for, as it says."""
    status = hit.headers["cache-status"]
    assert status.startswith("cachedorm; hit; ttl=")
    return int(status.rpartition("=")[2])


async def test_a_hit_is_the_same_response(page: Page) -> None:
    """Status, headers and body; beside them its age and who answered."""
    page.headers = {"x-kind": "page", "cache-control": "max-age=30"}
    async with page.client() as client:
        first = await client.get("/page")
        second = await client.get("/page")

    assert page.runs == 1
    assert second.status_code == 200
    assert second.content == first.content == b"hello"
    own = {"cache-status", "age"}
    assert {k: v for k, v in second.headers.items() if k not in own} == {
        k: v for k, v in first.headers.items() if k not in own
    }
    assert 0 <= int(second.headers["age"]) < 30
    assert 0 <= left(second) <= 30


RESPONSES: dict[str, tuple[Headers, bool]] = {
    "a cookie": ({"set-cookie": "a=1"}, False),
    "no-store": ({"cache-control": "no-store"}, False),
    "private": ({"cache-control": 'public, private="x"'}, False),
    "no-cache": ({"cache-control": "no-cache"}, False),
    "pragma": ({"pragma": "no-cache"}, False),
    "max-age=0": ({"cache-control": "max-age=0"}, False),
    "s-maxage before max-age": ({"cache-control": "s-maxage=0, max-age=60"}, False),
    "max-age": ({"cache-control": "max-age=60"}, True),
    "max-age of no number": ({"cache-control": "max-age=soon"}, False),
    "a comma in a quoted string": ({"cache-control": 'ext="a, no-store", max-age=9'}, True),
    "it expired": ({"expires": "0"}, False),
    "it expires": ({"expires": formatdate(time() + 3600, usegmt=True)}, True),
    "vary on anything": ({"vary": "*"}, False),
    "vary on an undeclared header": ({"vary": "Accept-Language"}, False),
    "vary on cookies": ({"vary": "Cookie"}, False),
    "a part": ({"content-range": "bytes 0-1/5"}, False),
    "another cache's": ({"age": "7"}, False),
    "an event stream": ({"content-type": "text/event-stream"}, False),
    "a wrong length": ({"content-length": "4"}, False),
    "its own tag": ({"etag": 'W/"mine"'}, True),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_which_responses_are_kept(page: Page, name: str) -> None:
    """What the response says of itself counts."""
    page.headers, kept = dict(RESPONSES[name][0]), RESPONSES[name][1]
    assert await page.kept() is kept


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 401, 404, 500, 503])
async def test_only_200_is_kept(page: Page, status: int) -> None:
    """Other answers are the application's each time."""
    page.status = status
    page.body = b"" if status in (204, 304) else page.body
    assert not await page.kept()


async def test_the_reason_is_said(page: Page) -> None:
    """In the response, for whoever wonders."""
    page.headers = {"set-cookie": "a=1"}
    async with page.client() as client:
        response = await client.get("/page")
    assert response.headers["cache-status"] == 'cachedorm; fwd=miss; detail="set-cookie"'
    assert response.headers["set-cookie"] == "a=1"


async def test_hop_by_hop_headers_are_not_kept(page: Page) -> None:
    """They are about one connection; what Connection names is too."""
    page.headers = {"connection": "x-once", "x-once": "1", "keep-alive": "5", "x-kept": "1"}
    async with page.client() as client:
        await client.get("/page")
        second = await client.get("/page")
    assert is_hit(second)
    assert second.headers["x-kept"] == "1"
    assert not {"connection", "x-once", "keep-alive"} & set(second.headers)


async def test_a_tag_is_made_of_the_content(page: Page) -> None:
    """Strong; another body has another one."""
    async with page.client() as client:
        one = (await client.get("/page")).headers["etag"]
        page.body = b"other"
        other = (await client.get("/page", headers={"cache-control": "no-cache"})).headers["etag"]
    assert one.startswith('"')
    assert one != other


NAMED = {
    "the tag": ("{tag}", 304),
    "the tag, weak": ("W/{tag}", 304),
    "a list with it": ('"a,b", {tag}', 304),
    "any": ("*", 304),
    "another": ('"other"', 200),
    "a weak other": ('W/"other"', 200),
    "part of it": ('"{part}"', 200),
    "garbage": ("tag", 200),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("warm", [True, False])
async def test_if_none_match(page: Page, name: str, warm: bool) -> None:
    """A 304 without a body and without its headers, from the cache or fresh."""
    sent, status = NAMED[name]
    async with page.client() as client:
        tag = (await client.get("/page")).headers["etag"]
        if not warm:
            page.cache.invalidate(PAGES)
        given = sent.format(tag=tag, part=tag.strip('"')[:5])
        response = await client.get("/page", headers={"if-none-match": given})

    assert response.status_code == status
    assert response.headers["etag"] == tag
    assert response.content == (b"" if status == 304 else b"hello")
    assert ("content-type" in response.headers) is (status == 200)


async def test_head_is_answered_from_what_get_stored(page: Page) -> None:
    """The headers of the whole and no body; on its own HEAD stores nothing."""
    async with page.client() as client:
        before = await client.head("/page")
        whole = await client.get("/page")
        after = await client.head("/page")

    assert not is_hit(before)
    assert not is_hit(whole)
    assert is_hit(after)
    assert after.content == b""
    assert after.headers["content-length"] == "5"
    assert after.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_passed_on(page: Page, method: str) -> None:
    """They neither read nor end a response; commits do."""
    async with page.client() as client:
        await client.get("/page")
        other = await client.request(method, "/page")
        assert other.headers["cache-status"] == 'cachedorm; fwd=method; detail="method"'
        assert is_hit(await client.get("/page"))


REQUESTS: dict[str, tuple[Headers, str]] = {
    "a range": ({"range": "bytes=0-1"}, "range"),
    "no-store": ({"cache-control": "no-store"}, "no-store"),
    "a condition": ({"if-match": "*"}, "if-match"),
    "a body": ({"content-length": "3"}, "body"),
    "credentials": ({"authorization": "Bearer x"}, "authorization"),
    "cookies": ({"cookie": "a=1"}, "cookie"),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_which_requests_are_passed_on(page: Page, name: str) -> None:
    """Neither answered from the cache nor stored."""
    headers, detail = REQUESTS[name]
    content = b"abc" if "content-length" in headers else None
    async with page.client() as client:
        await client.get("/page")
        response = await client.request("GET", "/page", headers=headers, content=content)
    assert page.runs == 2
    assert response.headers["cache-status"] == f'cachedorm; fwd=bypass; detail="{detail}"'


async def test_other_paths_are_none_of_its_business(page: Page) -> None:
    """Only what is declared is looked at."""
    async with page.client() as client:
        for path in ("/pages", "/page/", "/", "/page/more"):
            assert "cache-status" not in (await client.get(path)).headers


async def test_no_cache_makes_it_anew(page: Page) -> None:
    """And stores what was made."""
    async with page.client() as client:
        await client.get("/page")
        page.body = b"new"
        anew = await client.get("/page", headers={"cache-control": "no-cache"})
        assert anew.headers["cache-status"] == "cachedorm; fwd=request; stored"
        assert (await client.get("/page")).content == b"new"


@pytest.mark.parametrize(
    ("asked", "hit"),
    [
        ("max-age=60", True),
        ("max-age=0", False),
        ("min-fresh=5", True),
        ("min-fresh=61", False),
        ("max-stale", True),
        ("max-age=x", False),
    ],
)
async def test_what_a_request_is_content_with(page: Page, asked: str, hit: bool) -> None:
    """Its Cache-Control is heard."""
    async with page.client() as client:
        await client.get("/page")
        before = time()
        while time() - before < 0.005:  # older than nothing at all
            pass
        response = await client.get("/page", headers={"cache-control": asked})
    assert is_hit(response) is hit


async def test_only_if_cached(page: Page) -> None:
    """504 where nothing is cached, without a run."""
    wish = {"cache-control": "only-if-cached"}
    async with page.client() as client:
        assert (await client.get("/page", headers=wish)).status_code == 504
        assert page.runs == 0
        await client.get("/page")
        assert (await client.get("/page", headers=wish)).content == b"hello"


async def test_the_time_to_live_is_the_shortest(page: Page) -> None:
    """Of the region's, the rule's and the response's."""
    async with page.client(CacheRule("/page", ttl=30)) as client:
        await client.get("/page")
        assert 10 < left(await client.get("/page")) <= 30
    page.headers = {"cache-control": "max-age=600, s-maxage=10"}
    page.cache.invalidate(PAGES)
    async with page.client(CacheRule("/page", ttl=30)) as client:
        await client.get("/page")
        assert 0 <= left(await client.get("/page")) <= 10


async def test_its_time_is_up(page: Page) -> None:
    """Then it is made anew."""
    async with page.client(CacheRule("/page", ttl=0.05)) as client:
        first = await client.get("/page")
        assert is_stored(first)
        ended = time() + 0.06
        while time() < ended:
            pass
        assert not is_hit(await client.get("/page"))


async def answers(page: Page, rule: CacheRule, *asked: tuple[str, Headers]) -> list[bool]:
    """Whether each of these requests is a hit; each answer tells which run made it."""
    found = []
    async with page.client(rule) as client:
        for path, headers in asked:
            page.body = b"%d" % page.runs
            found.append(is_hit(await client.get(path, headers=headers)))
    return found


async def test_declared_headers_tell_responses_apart(page: Page) -> None:
    """A response that varies on them is kept, one for each of their values."""
    page.headers = {"vary": "Accept-Language, x-tenant"}
    rule = CacheRule("/page", vary=("Accept-Language", "X-Tenant"))
    korean = {"accept-language": "ko"}
    asked = [
        ("/page", korean),
        ("/page", {"accept-language": "en"}),
        ("/page", {}),
        ("/page", {"accept-language": "k", "x-tenant": "o"}),
        ("/page", {"x-tenant": "ko"}),
        ("/page", korean),
    ]
    assert await answers(page, rule, *asked) == [False] * 5 + [True]


async def test_credentials_tell_responses_apart_if_declared(page: Page) -> None:
    """To each their own; without any, another one."""
    rule = CacheRule("/page", authorization="key", cookies="key")
    kim, lee = {"authorization": "Bearer kim"}, {"authorization": "Bearer lee"}
    cookie = {"cookie": "Bearer kim"}
    asked = [("/page", kim), ("/page", lee), ("/page", {}), ("/page", cookie), ("/page", kim)]
    assert await answers(page, rule, *asked) == [False] * 4 + [True]


def test_credentials_cannot_be_read_in_a_key() -> None:
    """It has a digest of them."""
    scope = {
        "method": "GET",
        "path": "/page",
        "headers": [(b"authorization", b"Bearer secret")],
        "query_string": b"",
    }
    key = CacheRule("/page", authorization="key").key(Asked.of(scope))
    assert "secret" not in key
    assert key.startswith("response:/page:")


async def test_ignored_credentials_change_nothing(page: Page) -> None:
    """For what is public, whoever asks."""
    rule = CacheRule("/page", authorization="ignore", cookies="ignore")
    asked = [("/page", {"authorization": "a"}), ("/page", {"cookie": "b"}), ("/page", {})]
    assert await answers(page, rule, *asked) == [False, True, True]


async def test_hosts_tell_responses_apart(page: Page) -> None:
    """An answer with links in it must not be poisoned by a forged Host."""
    rule = CacheRule("/page")
    asked = [("/page", {"host": "evil"}), ("/page", {}), ("/page", {"host": "evil"})]
    assert await answers(page, rule, *asked) == [False, False, True]


async def test_declared_parameters_tell_responses_apart(page: Page) -> None:
    """By name and value, in whatever order the names come."""
    rule = CacheRule("/page", query=("a", "b"))
    asked = [
        "/page",
        "/page?a=1",
        "/page?a=1&b=2",
        "/page?b=2&a=1",
        "/page?a=1&a=2",
        "/page?a=2&a=1",
        "/page?%61=1&a=2",
        "/page?a=2&%61=1",
        "/page?a=1%26b%3D2",
        "/page?a",
        "/page?a=",
        "/page?a=%ff",
        "/page?a=%fe",
    ]
    hits = await answers(page, rule, *[(path, {}) for path in asked])
    assert hits == [path == "/page?b=2&a=1" for path in asked]


async def test_an_undeclared_parameter_passes_the_request_on(page: Page) -> None:
    """Nobody said what it means, and nobody can fill the cache with its values."""
    async with page.client(CacheRule("/page", query=("a",))) as client:
        for query in ("b=1", "a=1&b=2", "%62=1", "a=1&;x"):
            response = await client.get(f"/page?{query}")
            assert response.headers["cache-status"] == 'cachedorm; fwd=bypass; detail="query"'


async def test_a_declared_parameter_may_be_spelt_in_percents(page: Page) -> None:
    """The application decodes it too."""
    async with page.client(CacheRule("/page", query=("a",))) as client:
        assert is_stored(await client.get("/page?%61=1"))


async def test_very_long_requests_are_passed_on(page: Page) -> None:
    """They are worth nobody's memory."""
    async with page.client(CacheRule("/page", query=("a",))) as client:
        response = await client.get("/page?a=" + "x" * 5000)
    assert response.headers["cache-status"] == 'cachedorm; fwd=bypass; detail="length"'


async def test_no_header_can_forge_a_key(page: Page) -> None:
    """Names, separators and quotes in a value stay inside of it."""
    rule = CacheRule("/page", vary=("x-a", "x-b"), query=("q",))
    asked: list[tuple[str, Headers]] = [
        ("/page?q=1", {"x-a": "1", "x-b": "2"}),
        ("/page?q=1", {"x-a": "1'), ('x-b', (b'2"}),
        ("/page?q=1", {"x-a": "1, 2"}),
        ("/page?q=1')", {"x-b": "2"}),
        ("/page?q=1%0d%0ax-b:%202", {"x-a": "1"}),
    ]
    assert await answers(page, rule, *asked) == [False] * 5


async def test_cache_status_is_appended(page: Page) -> None:
    """An inner cache's own line stays before ours, and is not kept."""
    page.headers = {"cache-status": "inner; hit"}
    async with page.client() as client:
        await client.get("/page")
        second = await client.get("/page")
        page.headers["set-cookie"] = "a=1"
        page.cache.invalidate(PAGES)
        third = await client.get("/page")
    assert second.headers["cache-status"].startswith("cachedorm; hit")
    assert third.headers.get_list("cache-status")[0] == "inner; hit"


async def test_it_can_be_switched_off(page: Page) -> None:
    """With the Cache, whose switch it is."""
    page.cache.enabled = False
    assert not await page.kept()


async def test_a_closed_cache_passes_everything_on(page: Page) -> None:
    """A request that comes late, while the application shuts down, is answered."""
    await page.cache.aclose()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await Response("late")(scope, receive, send)

    app = ResponseCache(late, lambda: page.cache, [CacheRule("/page")], region=PAGES)
    async with asking(app) as client:
        assert (await client.get("/page")).text == "late"
