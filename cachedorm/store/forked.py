"""What a forked child must not inherit: locks that were held, and what other threads were at."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Forkable(Protocol):
    """Something that can begin anew."""

    def begin_anew(self) -> None:
        """Forget everything that only the parent's threads could finish. Takes no lock."""


_followed: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def anew_when_forked(each: Forkable) -> None:
    """Have it begin anew in every child that is forked while it lives."""
    _followed.add(each)


def _all_anew() -> None:
    for each in list(_followed):
        each.begin_anew()


# One hook for all, because hooks cannot be taken back.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_anew)
