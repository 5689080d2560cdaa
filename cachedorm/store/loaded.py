"""What a read of the database gives to a fill, and what a fill may find instead of a lease."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the database answered: a value, or ABSENT for "no such row".

    ``ttl_ms`` is the row's own time to live (not jittered; not published if it is over).
    Not ``publish``: this answer is for its reader alone.
    """

    value: Any
    ttl_ms: int | None = None
    publish: bool = True


class Unleased(Enum):
    """Why there is no lease to be had: load, and publish nothing."""

    INTENT = "intent"
    INTEREST = "interest"
    HELD = "lease"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Served:
    """Somebody published while we asked for the lease."""

    value: Any
    slot: bytes
