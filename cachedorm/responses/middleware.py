"""ResponseCache: the middleware, and the way that each request takes through it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.cache import Cache
from cachedorm.declare.policies.region import Region
from cachedorm.errors import ArgumentError, CacheClosedError
from cachedorm.responses.admission import Admission
from cachedorm.responses.answer import answer, cache_status, refuse_to_ask
from cachedorm.responses.flights import Flight, Flights, Landing
from cachedorm.responses.leading import Leading, Wish
from cachedorm.responses.messages import App, Message, Receive, Scope, Send, with_field
from cachedorm.responses.request import Request, path_within
from cachedorm.responses.rule import CacheRule
from cachedorm.responses.stored import Stored
from cachedorm.store.entries.derived import Derived, Sight, derived_key, made_form
from cachedorm.store.entries.provenance import Refusal, is_recording
from cachedorm.store.protocol.entry import FINGERPRINT_BYTES, now_ms
from cachedorm.store.protocol.slots import Granted

logger = logging.getLogger("cachedorm")

BODY_MAX: Final = 256 * 1024
# The layout of what is stored, beside the entry's own format.
_LAYOUT: Final = 1
_TELL_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the application, to be answered or passed on."""

    scope: Scope
    receive: Receive
    send: Send


class ResponseCache:
    """ASGI middleware that answers GET and HEAD from responses kept in a region of a Cache.

    A response is kept if it was made of cached reads of that Cache alone, and served only while
    each of them would still be a hit with the same bytes: it is gone with the commit that changes
    one of its rows. ``rules`` say what may be cached; the first that matches a path counts, other
    paths are passed on untouched. ``cache`` may be a function that gives the Cache. ``version``: of
    what the application makes of its rows; a new one starts with no responses. ``body_max``: in
    bytes; larger bodies are passed through as they come. ``wait``: for so many seconds a request
    waits at most for another one's run of the application. With Redis away every request just runs.
    """

    def __init__(
        self,
        app: App,
        cache: Cache | Callable[[], Cache],
        rules: Iterable[CacheRule],
        *,
        region: Region,
        version: str = "",
        body_max: int = BODY_MAX,
        wait: float = 5.0,
        name: str = "cachedorm",
    ) -> None:
        self._app = app
        self._cache = cache
        self._rules = tuple(rules)
        for rule in self._rules:
            if not isinstance(rule, CacheRule):
                raise ArgumentError(f"ResponseCache(rules=...): {rule!r} is no CacheRule")
        self._region = region
        self._form = made_form(_fingerprint(version))
        self._body_max = body_max
        self._wait = wait
        self._name = name
        self._flights = Flights()
        self._admissions = {rule: Admission(rule.entries_max) for rule in self._rules}
        self._derived: tuple[Cache, Derived] | None = None
        self._told: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule, request = self._rule_for(scope)
        # Within another cache's run this one only makes a part of its answer.
        if rule is None or request is None or is_recording():
            await self._app(scope, receive, send)
            return
        call = Call(scope, receive, send)
        derived = self._open()
        reason = "disabled" if derived is None else rule.why_pass(request)
        if derived is None or reason is not None:
            fwd = "fwd=method" if reason == "method" else "fwd=bypass"
            await self._pass(call, fwd, reason or "")
            return
        ttl_ms = rule.ttl_ms or derived.entries.settings.ttl_ms
        key = derived_key(rule.key(request), self._form, ttl_ms)
        await self._serve(call, derived, Wish(request, rule, key, ttl_ms, "fwd=miss"))

    def _rule_for(self, scope: Scope) -> tuple[CacheRule | None, Request | None]:
        if scope["type"] != "http":
            return None, None
        path = path_within(scope)
        for rule in self._rules:
            if rule.matches(path):
                return rule, Request.of(scope)
        return None, None

    def _open(self) -> Derived | None:
        """The responses of the Cache, unless it is switched off or closed."""
        cache = self._cache if isinstance(self._cache, Cache) else self._cache()
        if not cache.enabled:
            return None
        if self._derived is None or self._derived[0] is not cache:
            try:
                self._derived = cache, Derived(cache.region(self._region).entries)
            except CacheClosedError:
                return None
        return self._derived[1]

    async def _serve(self, call: Call, derived: Derived, wish: Wish) -> None:
        sight = await greenlet_spawn(derived.get, wish.key)
        if await self._answered(call, wish.request, sight, "hit"):
            return
        directives = wish.request.directives
        wish = Wish(wish.request, wish.rule, wish.key, wish.ttl_ms, _fwd(sight))
        if "only-if-cached" in directives:
            await refuse_to_ask(call.send, cache_status(self._name, wish.fwd))
        elif wish.request.method != "GET" or not sight.asked.available:
            await self._pass(call, wish.fwd, "" if sight.asked.available else "unavailable")
        elif self._flights.shuns(wish.key):
            await self._pass(call, wish.fwd, "not stored lately")
        elif "no-cache" in directives and self._flights.is_flying(wish.key):
            # Somebody's run began before this was asked.
            await self._pass(call, wish.fwd, "no-cache")
        else:
            await self._share(call, derived, wish, sight)

    async def _share(self, call: Call, derived: Derived, wish: Wish, sight: Sight) -> None:
        """Follow another's run, or lead; two that come to nothing are enough."""
        for _ in range(2):
            flight, mine = self._flights.board(wish.key)
            if mine:
                try:
                    await self._lead(call, derived, wish, sight, flight)
                finally:
                    # Unless it has landed: nobody here shall wait for it either.
                    self._flights.land(flight, Landing.FAILED)
                return
            landing = await self._flights.wait(flight, self._wait)
            if landing is Landing.STORED:
                # Looked at anew: since that run began a commit may have ended what it was made of.
                sight = await greenlet_spawn(derived.get, wish.key)
                if await self._answered(call, wish.request, sight, f"{wish.fwd}; collapsed"):
                    return
            if landing is None or landing is Landing.NOT_STORED:
                break
        await self._pass(call, wish.fwd, "not waited for")

    async def _lead(
        self, call: Call, derived: Derived, wish: Wish, sight: Sight, flight: Flight
    ) -> None:
        admission = self._admissions[wish.rule]
        new = admission.admit(wish.key, wish.ttl_ms)
        if new is None:
            self._flights.land(flight, Landing.NOT_STORED)
            self._tell(wish, Refusal("full", f"{len(admission)} responses are stored already"))
            await self._pass(call, wish.fwd, "full")
            return
        stored = False
        try:
            lease = await greenlet_spawn(derived.lease, wish.key, sight.asked)
            if isinstance(lease, Granted):
                stored = await self._run(call, derived, wish, lease, flight)
            elif lease is not None and await self._answered(call, wish.request, lease, "hit"):
                stored = True
            else:
                self._flights.land(flight, Landing.NOT_STORED)
                await self._pass(call, wish.fwd, "lease")
        finally:
            if new and not stored:
                admission.withdraw(wish.key)

    async def _run(
        self, call: Call, derived: Derived, wish: Wish, lease: Granted, flight: Flight
    ) -> bool:
        leading = Leading(
            wish,
            derived,
            lease,
            self._flights,
            flight,
            body_max=self._body_max,
            name=self._name,
            tell=self._tell,
        )
        try:
            await leading.run(self._app, call.scope, call.receive, call.send)
        finally:
            stored = leading.stored
        return stored

    async def _answered(self, call: Call, request: Request, sight: Sight, word: str) -> bool:
        """Answer with what was found, if it is something and the request is content with it."""
        stored = None if sight.made is None else Stored.of(sight.made.content)
        if stored is None:
            return False
        age_ms = max(0, now_ms() - sight.created_ms)
        left_ms = stored.ttl_ms - age_ms
        if left_ms <= 0 or not request.accepts(age_ms / 1000, left_ms / 1000):
            return False
        status = cache_status(self._name, word, f"ttl={left_ms // 1000}")
        await answer(call.send, request, stored, status, age_ms // 1000)
        return True

    async def _pass(self, call: Call, fwd: str, detail: str = "") -> None:
        """Have the application answer, and say so."""
        status = cache_status(self._name, fwd, detail=detail)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = with_field(message, b"cache-status", status)
            await call.send(message)

        await self._app(call.scope, call.receive, send)

    def _tell(self, wish: Wish, refusal: Refusal) -> None:
        """Say why a response is not kept: to the debug log what it says itself, to info the rest,
        each kind once a second."""
        if self._derived is not None:
            entries = self._derived[1].entries
            entries.observer.bypass(entries.settings.name, f"response: {refusal.reason}")
        kind, now = (wish.rule.path, refusal.reason), time.monotonic()
        level = logging.DEBUG
        if refusal.detail and now - self._told.get(kind, -_TELL_EVERY) >= _TELL_EVERY:
            self._told[kind] = now
            level = logging.INFO
        logger.log(level, "GET %r is not stored: %s", wish.request.path, refusal)

    def __repr__(self) -> str:
        return f"<ResponseCache {self._region.name!r} rules={len(self._rules)}>"


def _fwd(sight: Sight) -> str:
    """Why the cache did not answer, RFC 9211, 2.2."""
    if sight.made is not None:
        return "fwd=request"
    return "fwd=stale" if sight.reason == "part" else "fwd=miss"


def _fingerprint(version: str) -> bytes:
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    digest.update(repr(("response", _LAYOUT, version)).encode())
    return digest.digest()
