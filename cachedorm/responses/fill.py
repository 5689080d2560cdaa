"""One run of the application whose response is stored if only cached reads went into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.responses.composed_values import ComposedValue, ComposedValues
from cachedorm.responses.flights import ResponseFlight, ResponseFlights, RunOutcome
from cachedorm.responses.messages import App, Fields, Message, Receive, Scope, Send, with_field
from cachedorm.responses.provenance import Provenance, Refusal
from cachedorm.responses.request import Request
from cachedorm.responses.response import (
    Capture,
    StoredResponse,
    answer,
    cache_status,
    stored_of,
    why_not_stored,
)
from cachedorm.responses.rule import CacheRule
from cachedorm.store.entries.provenance import recording
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted

# Only this run was aborted: a follower may lead the next one at once.
_ABORTED: Final = frozenset({"unfinished", "disconnected"})
# Statuses about this client, or about what it already has; others may get a 200.
_CLIENT_STATUSES: Final = frozenset({302, 303, 304, 307, 401, 403, 407, 412, 429})
# Temporary reasons: the next response may be storable.
TEMPORARY: Final = frozenset(
    {"changed", "unpublished", "database is down", "lease", "older session"}
)


def _is_temporary(refusal: Refusal) -> bool:
    # In SQLite a read that misses opens a snapshot, and the session's next read bypasses the cache.
    # What it missed is cached now.
    return refusal.reason in TEMPORARY or refusal.detail == "open snapshot"


@dataclass(frozen=True, slots=True)
class CacheableRequest:
    """A request that the cache may answer: its rule, the key and TTL, and the forward reason.

    ``fwd``: the word of Cache-Status for why the cache did not answer.
    """

    request: Request
    rule: CacheRule
    key: EntryKey
    ttl_ms: int
    fwd: str


class ResponseFill:
    """One run of the application under a lease. ``report``: called with the reason not to store."""

    def __init__(
        self,
        wanted: CacheableRequest,
        values: ComposedValues,
        lease: Granted,
        flights: ResponseFlights,
        flight: ResponseFlight,
        *,
        body_max: int,
        name: str,
        report: Callable[[CacheableRequest, Refusal], None],
    ) -> None:
        self._wanted = wanted
        self._values = values
        self._lease: Granted | None = lease
        self._flights = flights
        self._flight = flight
        self._body_max = body_max
        self._name = name
        self._report = report
        self._began = time.monotonic()
        self._provenance = Provenance(values.entries.slots)
        self._status = 200
        self.stored = False

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, send its response, and store it if that is allowed."""

        async def passed(reason: str) -> bytes:
            noted = self._provenance.refusal
            known = noted is not None and noted.reason == reason
            return await self._give_up(noted if known and noted else Refusal(reason))

        async def complete(start: Message, fields: Fields, body: bytes) -> None:
            await self._complete(send, start, fields, body)

        async def receive_noting() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # An application that sees its client gone may end the body early, as if whole.
                self._provenance.refuse("disconnected")
            return message

        capture = Capture(send, self._body_max, self._why_not, complete, passed)
        try:
            with recording(self._provenance):
                await app(scope, receive_noting, capture)
            await capture.end()
        finally:
            # Also after a failure or a cancellation: other processes must not wait in vain.
            await self._release()

    def _why_not(self, status: int, fields: Fields) -> str | None:
        self._status = status
        refusal = self._provenance.refusal
        if refusal is not None:
            return refusal.reason
        return why_not_stored(status, fields, self._wanted.rule.covers)

    async def _complete(self, send: Send, start: Message, fields: Fields, body: bytes) -> None:
        """Store the whole response, and only then send it."""
        refusal = self._provenance.seal()
        made = stored_of(fields, body, self._wanted.ttl_ms)
        if refusal is None and isinstance(made, StoredResponse):
            if await self._publish(made):
                status = cache_status(self._name, self._wanted.fwd, "stored")
                await answer(send, self._wanted.request, made, status)
                return
            refusal = Refusal(
                "lease", "it was cleared meanwhile, took too long, or Redis is unavailable"
            )
        status = await self._give_up(refusal or Refusal(str(made)))
        await send(with_field(start, b"cache-status", status))
        await send({"type": "http.response.body", "body": body})

    async def _publish(self, made: StoredResponse) -> bool:
        lease, self._lease = self._lease, None
        assert lease is not None
        sources = self._provenance.sources
        self.stored = True  # assume so: if cancelled here, the outcome stays unknown
        self.stored = await greenlet_spawn(
            self._values.publish,
            self._wanted.key,
            lease,
            ComposedValue(made.content, sources),
            made.ttl_ms,
            time.monotonic() - self._began,
        )
        if self.stored:
            self._flights.finish(self._flight, RunOutcome.STORED)
        return self.stored

    async def _give_up(self, refusal: Refusal) -> bytes:
        """Release the followers: nothing will be stored. Return the Cache-Status to send."""
        self._provenance.seal()
        self._report(self._wanted, refusal)
        client_only = self._is_for_client(refusal.reason)
        if not client_only and not _is_temporary(refusal):
            self._flights.suspend_sharing(self._wanted.key)
        self._flights.finish(
            self._flight, RunOutcome.FAILED if client_only else RunOutcome.NOT_STORED
        )
        await self._release()
        return cache_status(self._name, self._wanted.fwd, detail=refusal.reason)

    def _is_for_client(self, reason: str) -> bool:
        """Whether the reason concerns this client only."""
        return reason in _ABORTED or (reason == "status" and self._status in _CLIENT_STATUSES)

    async def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await greenlet_spawn(self._values.release, self._wanted.key, lease)
