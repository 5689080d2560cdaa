"""What one commit is about to change, between INTEND and SETTLE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachedorm.store.protocol.changes import Fixed, Offer, Touched, Written
from cachedorm.store.protocol.entry import new_token

INTENT_MS = 30_000


@dataclass(slots=True, eq=False)
class Intent:
    """What one commit touched. ``placed``: the intents stand; ``left``: seconds SETTLE may take.

    ``passed``: nothing is cached over the tables written, so Redis was not asked.
    """

    touched: Touched
    left: float
    intent_ms: int = INTENT_MS
    token: bytes = field(default_factory=new_token)
    placed: bool = False
    written: Written = field(default_factory=Written)
    passed: bool = False
    fixed: Mapping[Offer, Fixed] = field(default_factory=dict)
