"""ResponseCache, the ASGI middleware: look a request up, wait, run the application or pass."""

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
from cachedorm.responses.composed_values import ComposedValues, Lookup, composed_form, composed_key
from cachedorm.responses.fill import CacheableRequest, ResponseFill
from cachedorm.responses.flights import Admission, ResponseFlight, ResponseFlights, RunOutcome
from cachedorm.responses.messages import App, Message, Receive, Scope, Send, with_field
from cachedorm.responses.provenance import Refusal
from cachedorm.responses.request import Request, path_within
from cachedorm.responses.response import StoredResponse, answer, answer_not_cached, cache_status
from cachedorm.responses.rule import CacheRule
from cachedorm.store.entries.provenance import is_recording
from cachedorm.store.protocol.entry import FINGERPRINT_BYTES
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime.clock import now_ms

_logger = logging.getLogger("cachedorm")

BODY_MAX: Final = 256 * 1024
# The layout of a stored response, beside the entry's own format.
_LAYOUT: Final = 1
_REPORT_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class AsgiCall:
    """The three arguments of one ASGI call."""

    scope: Scope
    receive: Receive
    send: Send


class ResponseCache:
    """ASGI middleware that answers GET and HEAD from responses stored in a region of a Cache.

    A response is stored only if cached reads of that Cache own went into it. It is served only
    while each of those reads would still be a hit with the same bytes, so the commit that changes
    one of its rows invalidates it. If Redis is unavailable, the application answers.

    ``cache``: the Cache, or a function that returns it. ``rules``: what may be cached; the first
    rule that matches a path counts, other paths are passed on untouched. ``version``: of the code
    that makes the responses; a new version starts with none. ``body_max``: bytes; a larger body is
    passed through as it comes. ``wait``: seconds that a request waits at most for another
    request's run of the application.
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
                raise ArgumentError(
                    f"ResponseCache(rules=...): give CacheRule objects, got {rule!r}"
                )
        self._region = region
        self._form = composed_form(_fingerprint(version))
        self._body_max = body_max
        self._wait = wait
        self._name = name
        self._flights = ResponseFlights()
        self._admissions = {rule: Admission(rule.entries_max) for rule in self._rules}
        self._values: tuple[Cache, ComposedValues] | None = None
        self._reported: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule, request = self._rule_for(scope)
        # Inside another ResponseCache, whose response this one becomes a part of.
        if rule is None or request is None or is_recording():
            await self._app(scope, receive, send)
            return
        call = AsgiCall(scope, receive, send)
        values = self._open()
        reason = "disabled" if values is None else rule.why_pass(request)
        if values is None or reason is not None:
            fwd = "fwd=method" if reason == "method" else "fwd=bypass"
            await self._pass(call, fwd, reason or "")
            return
        ttl_ms = rule.ttl_ms or values.entries.settings.ttl_ms
        key = composed_key(rule.key(request), self._form, ttl_ms)
        await self._serve(call, values, CacheableRequest(request, rule, key, ttl_ms, "fwd=miss"))

    def _rule_for(self, scope: Scope) -> tuple[CacheRule | None, Request | None]:
        if scope["type"] != "http":
            return None, None
        path = path_within(scope)
        for rule in self._rules:
            if rule.matches(path):
                return rule, Request.of(scope)
        return None, None

    def _open(self) -> ComposedValues | None:
        """The responses of the Cache; None if it is disabled or closed."""
        cache = self._cache if isinstance(self._cache, Cache) else self._cache()
        if not cache.enabled:
            return None
        if self._values is None or self._values[0] is not cache:
            try:
                self._values = cache, ComposedValues(cache.region(self._region).entries)
            except CacheClosedError:
                return None
        return self._values[1]

    async def _serve(
        self, call: AsgiCall, values: ComposedValues, wanted: CacheableRequest
    ) -> None:
        lookup = await greenlet_spawn(values.get, wanted.key)
        if await self._answered(call, wanted.request, lookup, "hit"):
            return
        directives = wanted.request.directives
        wanted = CacheableRequest(
            wanted.request, wanted.rule, wanted.key, wanted.ttl_ms, _fwd(lookup)
        )
        if "only-if-cached" in directives:
            await answer_not_cached(call.send, cache_status(self._name, wanted.fwd))
        elif wanted.request.method != "GET" or not lookup.asked.available:
            await self._pass(call, wanted.fwd, "" if lookup.asked.available else "unavailable")
        elif self._flights.is_unshared(wanted.key):
            await self._pass(call, wanted.fwd, "not stored lately")
        elif "no-cache" in directives and self._flights.in_progress(wanted.key):
            # The run in progress began before this request came.
            await self._pass(call, wanted.fwd, "no-cache")
        else:
            await self._share(call, values, wanted, lookup)

    async def _share(
        self, call: AsgiCall, values: ComposedValues, wanted: CacheableRequest, lookup: Lookup
    ) -> None:
        """Wait for another request's run or lead one; pass after two fruitless runs."""
        for _ in range(2):
            flight, mine = self._flights.join(wanted.key)
            if mine:
                try:
                    await self._lead(call, values, wanted, lookup, flight)
                finally:
                    # After an error too: followers must not wait for a run that is over.
                    self._flights.finish(flight, RunOutcome.FAILED)
                return
            outcome = await self._flights.wait(flight, self._wait)
            if outcome is RunOutcome.STORED:
                # Look it up again: a commit since that run began may have invalidated a source.
                lookup = await greenlet_spawn(values.get, wanted.key)
                if await self._answered(call, wanted.request, lookup, f"{wanted.fwd}; collapsed"):
                    return
            if outcome is None or outcome is RunOutcome.NOT_STORED:
                break
        await self._pass(call, wanted.fwd, "not waited for")

    async def _lead(
        self,
        call: AsgiCall,
        values: ComposedValues,
        wanted: CacheableRequest,
        lookup: Lookup,
        flight: ResponseFlight,
    ) -> None:
        admission = self._admissions[wanted.rule]
        new = admission.admit(wanted.key, wanted.ttl_ms)
        if new is None:
            self._flights.finish(flight, RunOutcome.NOT_STORED)
            self._report(wanted, Refusal("full", f"{len(admission)} responses are stored already"))
            await self._pass(call, wanted.fwd, "full")
            return
        stored = False
        try:
            lease = await greenlet_spawn(values.lease, wanted.key, lookup.asked)
            if isinstance(lease, Granted):
                stored = await self._run(call, values, wanted, lease, flight)
            elif lease is not None and await self._answered(call, wanted.request, lease, "hit"):
                stored = True
            else:
                self._flights.finish(flight, RunOutcome.NOT_STORED)
                await self._pass(call, wanted.fwd, "lease")
        finally:
            if new and not stored:
                admission.withdraw(wanted.key)

    async def _run(
        self,
        call: AsgiCall,
        values: ComposedValues,
        wanted: CacheableRequest,
        lease: Granted,
        flight: ResponseFlight,
    ) -> bool:
        fill = ResponseFill(
            wanted,
            values,
            lease,
            self._flights,
            flight,
            body_max=self._body_max,
            name=self._name,
            report=self._report,
        )
        try:
            await fill.run(self._app, call.scope, call.receive, call.send)
        finally:
            stored = fill.stored
        return stored

    async def _answered(self, call: AsgiCall, request: Request, lookup: Lookup, word: str) -> bool:
        """Answer with the response found, if the request accepts its age; True if answered."""
        stored = None if lookup.composed is None else StoredResponse.of(lookup.composed.content)
        if stored is None:
            return False
        age_ms = max(0, now_ms() - lookup.created_ms)
        left_ms = stored.ttl_ms - age_ms
        if left_ms <= 0 or not request.accepts(age_ms / 1000, left_ms / 1000):
            return False
        status = cache_status(self._name, word, f"ttl={left_ms // 1000}")
        await answer(call.send, request, stored, status, age_ms // 1000)
        return True

    async def _pass(self, call: AsgiCall, fwd: str, detail: str = "") -> None:
        """Let the application answer, and say so in Cache-Status."""
        status = cache_status(self._name, fwd, detail=detail)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = with_field(message, b"cache-status", status)
            await call.send(message)

        await self._app(call.scope, call.receive, send)

    def _report(self, wanted: CacheableRequest, refusal: Refusal) -> None:
        """Count and log why a response is not stored.

        Reasons that the response itself states go to the debug log. Others go to the info log, at
        most once a second for each rule and reason.
        """
        if self._values is not None:
            entries = self._values[1].entries
            entries.observer.bypass(entries.settings.name, f"response: {refusal.reason}")
        kind, now = (wanted.rule.path, refusal.reason), time.monotonic()
        level = logging.DEBUG
        if refusal.detail and now - self._reported.get(kind, -_REPORT_EVERY) >= _REPORT_EVERY:
            self._reported[kind] = now
            level = logging.INFO
        _logger.log(level, "GET %r is not stored: %s", wanted.request.path, refusal)

    def __repr__(self) -> str:
        return f"<ResponseCache {self._region.name!r} rules={len(self._rules)}>"


def _fwd(lookup: Lookup) -> str:
    """The ``fwd`` word of Cache-Status: why the cache did not answer, RFC 9211, 2.2."""
    if lookup.composed is not None:
        return "fwd=request"
    return "fwd=stale" if lookup.reason == "part" else "fwd=miss"


def _fingerprint(version: str) -> bytes:
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    digest.update(repr(("response", _LAYOUT, version)).encode())
    return digest.digest()
