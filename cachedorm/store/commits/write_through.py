"""Write-through: the slots of a commit's new values, for entries that may be replaced."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from cachedorm.errors import NotCacheable
from cachedorm.observe import Observer
from cachedorm.store.protocol.changes import Fixed, Offer
from cachedorm.store.protocol.entry import value_slot
from cachedorm.store.protocol.intent import Intent
from cachedorm.store.protocol.lifetime import Life, life_of
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.runtime.clock import now_ms


class WriteThroughEncoder:
    """Encodes new values by the settings of the regions in use."""

    __slots__ = ("_observer", "_settings")

    def __init__(self, settings: Mapping[str, RegionSettings], observer: Observer) -> None:
        self._settings = settings
        self._observer = observer

    def encoded(
        self, intent: Intent, values: Mapping[Offer, tuple[Any, int]]
    ) -> dict[Offer, tuple[bytes, int]]:
        """The slots of the values that may be stored; the entries of other offers are deleted."""
        encoded: dict[Offer, tuple[bytes, int]] = {}
        for offer, (value, ttl_ms) in values.items():
            fixed = intent.fixed.get(offer)
            if fixed is not None and fixed.clean and ttl_ms > 0:
                try:
                    encoded[offer] = self._slot(offer, fixed, value, ttl_ms)
                except NotCacheable as error:
                    self._observer.error("encode", error)
        return encoded

    def _slot(self, offer: Offer, fixed: Fixed, value: Any, ttl_ms: int) -> tuple[bytes, int]:
        form, now = offer.key.form, now_ms()
        life = self._life(offer, now, ttl_ms)
        slot = value_slot(
            form,
            fixed.server,
            fixed.stamps,
            form.encode(value),
            created_ms=now,
            soft_ms=life.soft_ms,
            outlives=life.outlives,
        )
        return slot, life.key_ms

    def _life(self, offer: Offer, now: int, ttl_ms: int) -> Life:
        regions = [each for each in self._settings.values() if each.db == offer.db]
        if len(regions) != 1:
            # The offer does not say which region the entry is of, so it gets no soft expiry.
            return Life(0, False, ttl_ms)
        own = ttl_ms not in (offer.key.ttl_ms, regions[0].ttl_ms)
        return life_of(regions[0], now, ttl_ms, own=own, chance=random.random())
