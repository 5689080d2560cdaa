"""Many requests at once, slow and failing runs, streams and clients that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cachedorm import Cache
from cachedorm.responses import CacheRule, ResponseCache
from tests.support.contrib.shelf import PAGES, REGIONS
from tests.support.contrib.site import asking, is_hit, is_stored

Run = Callable[["Theatre", Any], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": []}


def headed(**headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return START | {"headers": pairs}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


@dataclass
class Theatre:
    """An application that plays what it is given, run by run; the last goes on for ever."""

    cache: Cache
    plays: list[Run] = field(default_factory=list)
    runs: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        play = self.plays[min(self.runs, len(self.plays) - 1)]
        self.runs += 1
        self.cache.region("rows").get_or_create("greeting", lambda: "hello")
        await play(self, send)

    def app(self, **options: Any) -> ResponseCache:
        return ResponseCache(self, self.cache, [CacheRule("/page")], region=PAGES, **options)

    def client(self, **options: Any) -> httpx.AsyncClient:
        return asking(self.app(**options))


@pytest_asyncio.fixture
async def theatre() -> AsyncIterator[Theatre]:
    """The application, over a cache in this process."""
    async with Cache(regions=REGIONS) as cache:
        yield Theatre(cache)


async def hello(theatre: Theatre, send: Any) -> None:
    await send(START)
    await send(part(b"hello"))


async def held_hello(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await theatre.go_on.wait()
    await hello(theatre, send)


async def held_failure(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await theatre.go_on.wait()
    raise RuntimeError("the application fails")


async def cookie_at_once(theatre: Theatre, send: Any) -> None:
    await send(headed(set_cookie="a=1"))
    theatre.started.set()
    await theatre.go_on.wait()
    await send(part(b"yours"))


async def private_at_once(theatre: Theatre, send: Any) -> None:
    await send(headed(cache_control="private"))
    theatre.started.set()
    await theatre.go_on.wait()
    await send(part(b"yours"))


def refused(status: int) -> Run:
    async def play(theatre: Theatre, send: Any) -> None:
        theatre.started.set()
        await theatre.go_on.wait()
        await send(START | {"status": status})
        await send(part(b"not you"))

    return play


async def begin(theatre: Theatre, client: httpx.AsyncClient, count: int) -> list[Any]:
    """The leader, whose run has begun, and so many others that have asked meanwhile."""
    leader = asyncio.create_task(client.get("/page"))
    await theatre.started.wait()
    others = [asyncio.create_task(client.get("/page")) for _ in range(count)]
    for _ in range(50):  # each gets as far as it can without the leader
        await asyncio.sleep(0)
    return [leader, *others]


async def test_many_requests_are_one_run(theatre: Theatre) -> None:
    """Those that came meanwhile are given what the first has made."""
    theatre.plays = [held_hello]
    async with theatre.client() as client:
        asked = await begin(theatre, client, 20)
        theatre.go_on.set()
        answers = await asyncio.gather(*asked)

    assert theatre.runs == 1
    assert {answer.content for answer in answers} == {b"hello"}
    assert is_stored(answers[0])
    assert all("fwd=miss; collapsed; ttl=" in a.headers["cache-status"] for a in answers[1:])


async def test_different_requests_do_not_wait(theatre: Theatre) -> None:
    """Another key is another run."""
    theatre.plays = [held_hello, hello]
    async with theatre.client() as client:
        asked = await begin(theatre, client, 0)
        other = await client.get("/page", headers={"host": "other"})
        assert other.content == b"hello"
        theatre.go_on.set()
        await asyncio.gather(*asked)


@pytest.mark.parametrize("status", [500, 429])
async def test_a_leader_that_comes_to_nothing_does_not_block_the_others(
    theatre: Theatre, status: int
) -> None:
    """It fails, or its client is refused: the next one leads, and the rest are given that."""
    theatre.plays = [held_failure if status == 500 else refused(status), hello]
    async with theatre.client() as client:
        asked = await begin(theatre, client, 5)
        theatre.go_on.set()
        answers = await asyncio.gather(*asked)

    assert [answer.status_code for answer in answers] == [status, *[200] * 5]
    assert theatre.runs == 2


async def test_leaders_that_keep_failing(theatre: Theatre) -> None:
    """After two everybody runs for itself: nobody hangs, nobody tries for ever."""
    theatre.plays = [held_failure]
    async with theatre.client() as client:
        asked = await begin(theatre, client, 5)
        theatre.go_on.set()
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [500] * 6


async def test_a_cancelled_leader_does_not_block_the_others(theatre: Theatre) -> None:
    """Its client has gone and its server has cancelled it; its lease is given up too."""
    theatre.plays = [held_hello, hello]
    async with theatre.client() as client:
        leader, *others = await begin(theatre, client, 3)
        leader.cancel()
        answers = await asyncio.gather(*others)
        with suppress(asyncio.CancelledError):
            await leader
        assert {answer.content for answer in answers} == {b"hello"}
        assert is_hit(await client.get("/page"))
    assert theatre.runs == 2


async def test_others_do_not_wait_for_what_is_not_kept(theatre: Theatre) -> None:
    """They know as soon as the leader's response begins."""
    theatre.plays = [cookie_at_once, hello]
    async with theatre.client() as client:
        leader, *others = await begin(theatre, client, 3)
        answers = await asyncio.gather(*others)
        assert [answer.content for answer in answers] == [b"hello"] * 3
        assert not leader.done()
        theatre.go_on.set()
        assert (await leader).headers["set-cookie"] == "a=1"


async def test_for_a_while_nobody_waits_again(theatre: Theatre) -> None:
    """What could not be kept a moment ago is not waited for: it would be one after the other."""
    theatre.plays = [private_at_once]
    theatre.go_on.set()
    async with theatre.client() as client:
        await client.get("/page")
        theatre.started.clear()
        theatre.go_on.clear()
        asked = await begin(theatre, client, 3)
        assert theatre.runs == 5
        theatre.go_on.set()
        answers = await asyncio.gather(*asked)
    assert 'detail="not stored lately"' in answers[0].headers["cache-status"]


@pytest.mark.parametrize(("status", "kept"), [(401, True), (429, True), (304, True), (404, False)])
async def test_who_is_refused_keeps_nobody_elses_response_out(
    theatre: Theatre, status: int, kept: bool
) -> None:
    """A status that is about the client says nothing of the next one's answer."""
    theatre.plays = [refused(status), hello]
    theatre.go_on.set()
    async with theatre.client() as client:
        assert (await client.get("/page")).status_code == status
        assert is_stored(await client.get("/page")) is kept


async def test_nobody_waits_longer_than_it_will(theatre: Theatre) -> None:
    """Then it runs the application itself."""
    theatre.plays = [held_hello, hello]
    async with theatre.client(wait=0.01) as client:
        leader, other = await begin(theatre, client, 1)
        assert (await other).content == b"hello"
        theatre.go_on.set()
        await leader


async def test_no_cache_does_not_join_an_older_run(theatre: Theatre) -> None:
    """It asks for an answer made after it asked."""
    theatre.plays = [held_hello, hello]
    async with theatre.client() as client:
        (leader,) = await begin(theatre, client, 0)
        anew = await client.get("/page", headers={"cache-control": "no-cache"})
        assert anew.content == b"hello"
        assert theatre.runs == 2
        theatre.go_on.set()
        await leader


async def told(theatre: Theatre, **options: Any) -> tuple[asyncio.Task[None], list[Any]]:
    """A request in the raw, and the messages that its client has got so far."""
    got: list[Any] = []
    scope = {"type": "http", "method": "GET", "path": "/page", "headers": [], "query_string": b""}

    async def send(message: Any) -> None:
        got.append(message)

    app = theatre.app(**options)
    call: Any = app(scope, _nothing, send)
    task = asyncio.create_task(call)
    await theatre.started.wait()
    return task, got


async def _nothing() -> Any:
    return {"type": "http.request"}


async def long_body(theatre: Theatre, send: Any) -> None:
    await send(START)
    await send(part(b"x" * 60, more=True))
    await send(part(b"y" * 60, more=True))
    theatre.started.set()
    await theatre.go_on.wait()
    await send(part(b"z"))


async def test_a_large_body_is_passed_through(theatre: Theatre) -> None:
    """Held up to the limit; from there on every piece goes out as it comes."""
    theatre.plays = [long_body]
    task, got = await told(theatre, body_max=100)
    assert b"".join(each.get("body", b"") for each in got) == b"x" * 60 + b"y" * 60
    assert (b"cache-status", b'cachedorm; fwd=miss; detail="size"') in got[0]["headers"]
    theatre.go_on.set()
    await task
    assert got[-1] == part(b"z")


async def test_a_body_of_the_limit_is_kept(theatre: Theatre) -> None:
    """In however many pieces it came."""
    theatre.plays = [long_body]
    theatre.go_on.set()
    async with theatre.client(body_max=121) as client:
        await client.get("/page")
        second = await client.get("/page")
    assert is_hit(second)
    assert second.content == b"x" * 60 + b"y" * 60 + b"z"


async def events(theatre: Theatre, send: Any) -> None:
    await send(headed(content_type="text/event-stream"))
    await send(part(b"data: 1\n\n", more=True))
    theatre.started.set()
    await theatre.go_on.wait()
    await send(part(b""))


async def test_an_event_stream_is_never_held(theatre: Theatre) -> None:
    """Its first event is with the client while the second is not there yet."""
    theatre.plays = [events]
    task, got = await told(theatre)
    assert [each.get("body") for each in got] == [None, b"data: 1\n\n"]
    theatre.go_on.set()
    await task


async def by_path(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await send(START)
    await send({"type": "http.response.pathsend", "path": "/etc/hostname"})


async def with_trailers(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await send(START | {"trailers": True})
    await send(part(b"body"))
    await send({"type": "http.response.trailers", "headers": []})


@pytest.mark.parametrize("play", [by_path, with_trailers])
async def test_what_is_no_plain_body_is_passed_through(theatre: Theatre, play: Run) -> None:
    """Extensions of ASGI that nobody could store."""
    theatre.plays = [play]
    task, got = await told(theatre)
    await task
    assert got[-1]["type"] in ("http.response.pathsend", "http.response.trailers")
    assert got[0]["type"] == "http.response.start"


async def unfinished(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await send(START)
    await send(part(b"half", more=True))


async def breaking(theatre: Theatre, send: Any) -> None:
    await unfinished(theatre, send)
    raise RuntimeError("in the middle")


async def test_an_unfinished_response_is_not_kept(theatre: Theatre) -> None:
    """What there is of it reaches the client; the next request runs again."""
    theatre.plays = [unfinished, hello]
    task, got = await told(theatre)
    await task
    assert [each.get("body") for each in got] == [None, b"half"]
    async with theatre.client() as client:
        assert is_stored(await client.get("/page"))


async def test_a_failure_in_the_middle_is_the_servers(theatre: Theatre) -> None:
    """Nothing has been sent yet, so it can still be a 500; nothing is kept."""
    theatre.plays = [breaking, hello]
    task, got = await told(theatre)
    with pytest.raises(RuntimeError, match="in the middle"):
        await task
    assert got == []
    async with theatre.client() as client:
        assert is_stored(await client.get("/page"))


def shop_scope() -> dict[str, Any]:
    """What ``asking`` asks for the page with."""
    return {
        "type": "http",
        "method": "GET",
        "path": "/page",
        "headers": [(b"host", b"shop")],
        "query_string": b"",
        "scheme": "http",
        "raw_path": b"/page",
        "root_path": "",
    }


async def test_a_client_that_goes_away(theatre: Theatre) -> None:
    """The response was complete, so it is kept for the others."""
    theatre.plays = [hello]
    app = theatre.app()
    scope = shop_scope()

    async def gone(message: Any) -> None:
        raise OSError("the client has gone")

    with pytest.raises(OSError, match="gone"):
        await app(scope, _nothing, gone)
    async with asking(app) as client:
        assert is_hit(await client.get("/page"))


async def test_a_body_that_ends_because_nobody_listens_is_not_kept(theatre: Theatre) -> None:
    """It looks whole and is not; whoever waits for it runs the application, and that is kept."""
    leaving = asyncio.Event()

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        theatre.runs += 1
        theatre.cache.region("rows").get_or_create("greeting", lambda: "hello")
        await send(START)
        await send(part(b"one ", more=True))
        theatre.started.set()
        if theatre.runs == 1 and (await receive())["type"] == "http.disconnect":
            await send(part(b""))
        else:
            await send(part(b"two"))

    async def left() -> Any:
        await leaving.wait()
        return {"type": "http.disconnect"}

    app = ResponseCache(listening, theatre.cache, [CacheRule("/page")], region=PAGES)
    scope = shop_scope()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asking(app) as client:
        leader = asyncio.create_task(app(scope, left, send))
        await theatre.started.wait()
        others = [asyncio.create_task(client.get("/page")) for _ in range(3)]
        for _ in range(50):
            await asyncio.sleep(0)
        leaving.set()
        await leader
        answers = await asyncio.gather(*others)
        assert {answer.content for answer in answers} == {b"one two"}
        assert is_hit(await client.get("/page"))
    assert theatre.runs == 2
    assert (b"cache-status", b'cachedorm; fwd=miss; detail="disconnected"') in sent[0]["headers"]


async def headers_of_any_kind(theatre: Theatre, send: Any) -> None:
    theatre.started.set()
    await send(START | {"headers": (pair for pair in [(b"x-a", b"1")])})
    await send(part(b"hello"))


@pytest.mark.parametrize("body_max", [3, 100])
async def test_headers_may_be_any_iterable(theatre: Theatre, body_max: int) -> None:
    """ASGI says no more of them; they reach the client, kept or passed through."""
    theatre.plays = [headers_of_any_kind]
    task, got = await told(theatre, body_max=body_max)
    await task
    assert (b"x-a", b"1") in got[0]["headers"]


async def test_other_protocols_are_passed_on(theatre: Theatre) -> None:
    """Lifespan and WebSockets are none of its business."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    wrapped = ResponseCache(app, theatre.cache, [CacheRule("/page")], region=PAGES)
    for kind in ("lifespan", "websocket"):
        await wrapped({"type": kind, "path": "/page"}, _nothing, _nothing)  # type: ignore[arg-type]
    assert seen == ["lifespan", "websocket"]


async def test_one_cache_within_another(theatre: Theatre) -> None:
    """The inner one stays out of it: what it read is a part of the outer one's response."""
    theatre.plays = [hello]
    outer = ResponseCache(theatre.app(), theatre.cache, [CacheRule("/page")], region=PAGES)
    async with asking(outer) as client:
        first = await client.get("/page")
        assert first.headers.get_list("cache-status") == ["cachedorm; fwd=miss; stored"]
        assert is_hit(await client.get("/page"))
