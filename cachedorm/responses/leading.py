"""Running the application for a response that is kept if it is made of cached reads alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.responses.answer import answer, cache_status
from cachedorm.responses.capture import Capture
from cachedorm.responses.flights import Flight, Flights, Landing
from cachedorm.responses.messages import App, Fields, Message, Receive, Scope, Send, with_field
from cachedorm.responses.request import Request
from cachedorm.responses.rule import CacheRule
from cachedorm.responses.stored import Stored, stored_of, why_not_stored
from cachedorm.store.entries.derived import Derived, Made
from cachedorm.store.entries.provenance import Provenance, Refusal, recording
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted

# This run alone came to nothing: whoever waits for it may lead another one at once.
_BROKEN_OFF: Final = frozenset({"unfinished", "disconnected"})
# The same: about who asks, or what that client has already; others may get a 200.
_OF_THE_CLIENT: Final = frozenset({302, 303, 304, 307, 401, 403, 407, 412, 429})
# Reasons of the moment: the next response may well be kept.
PASSING: Final = frozenset({"changed", "unpublished", "database is down", "lease", "older session"})


def _passes(refusal: Refusal) -> bool:
    # A read that misses opens a snapshot in SQLite, and the next one of its session goes past the
    # cache. What was missed is cached now.
    return refusal.reason in PASSING or refusal.detail == "open snapshot"


@dataclass(frozen=True, slots=True)
class Wish:
    """A response that is wanted: by whom, under which rule, kept where and for how long."""

    request: Request
    rule: CacheRule
    key: EntryKey
    ttl_ms: int
    fwd: str


class Leading:
    """One run. ``tell``: hears why its response was not kept."""

    def __init__(
        self,
        wish: Wish,
        derived: Derived,
        lease: Granted,
        flights: Flights,
        flight: Flight,
        *,
        body_max: int,
        name: str,
        tell: Callable[[Wish, Refusal], None],
    ) -> None:
        self._wish = wish
        self._derived = derived
        self._lease: Granted | None = lease
        self._flights = flights
        self._flight = flight
        self._body_max = body_max
        self._name = name
        self._tell = tell
        self._began = time.monotonic()
        self._provenance = Provenance(derived.entries.slots)
        self._status = 200
        self.stored = False

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's answer, kept if it may be."""

        async def passed(reason: str) -> bytes:
            noted = self._provenance.refusal
            known = noted is not None and noted.reason == reason
            return await self._give_up(noted if known and noted else Refusal(reason))

        async def complete(start: Message, fields: Fields, body: bytes) -> None:
            await self._complete(send, start, fields, body)

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # Who is told that nobody listens any more may end the body early, as if whole.
                self._provenance.refuse("disconnected")
            return message

        capture = Capture(send, self._body_max, self._why_not, complete, passed)
        try:
            with recording(self._provenance):
                await app(scope, heard, capture)
            await capture.end()
        finally:
            # After a failure or a cancellation: no other process shall wait for what never comes.
            await self._release()

    def _why_not(self, status: int, fields: Fields) -> str | None:
        self._status = status
        refusal = self._provenance.refusal
        if refusal is not None:
            return refusal.reason
        return why_not_stored(status, fields, self._wish.rule.covers)

    async def _complete(self, send: Send, start: Message, fields: Fields, body: bytes) -> None:
        """The whole response is there: keep it, and only then let the client know of it."""
        refusal = self._provenance.seal()
        made = stored_of(fields, body, self._wish.ttl_ms)
        if refusal is None and isinstance(made, Stored):
            if await self._publish(made):
                status = cache_status(self._name, self._wish.fwd, "stored")
                await answer(send, self._wish.request, made, status)
                return
            refusal = Refusal("lease", "it was cleared meanwhile, took too long, or Redis is away")
        status = await self._give_up(refusal or Refusal(str(made)))
        await send(with_field(start, b"cache-status", status))
        await send({"type": "http.response.body", "body": body})

    async def _publish(self, made: Stored) -> bool:
        lease, self._lease = self._lease, None
        assert lease is not None
        parts = self._provenance.parts
        self.stored = True  # unless it is said not to be: whoever is cancelled here never hears
        self.stored = await greenlet_spawn(
            self._derived.publish,
            self._wish.key,
            lease,
            Made(made.content, parts),
            made.ttl_ms,
            time.monotonic() - self._began,
        )
        if self.stored:
            self._flights.land(self._flight, Landing.STORED)
        return self.stored

    async def _give_up(self, refusal: Refusal) -> bytes:
        """Nothing will be kept, so let those go who wait for it; the Cache-Status that says so."""
        self._provenance.seal()
        self._tell(self._wish, refusal)
        alone = self._is_alone(refusal.reason)
        if not alone and not _passes(refusal):
            self._flights.shun(self._wish.key)
        self._flights.land(self._flight, Landing.FAILED if alone else Landing.NOT_STORED)
        await self._release()
        return cache_status(self._name, self._wish.fwd, detail=refusal.reason)

    def _is_alone(self, reason: str) -> bool:
        """Whether another client's run may end otherwise."""
        return reason in _BROKEN_OFF or (reason == "status" and self._status in _OF_THE_CLIENT)

    async def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await greenlet_spawn(self._derived.release, self._wish.key, lease)
