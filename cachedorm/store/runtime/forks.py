"""What must not cross a fork: sockets, threads, and locks that somebody may hold."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Somebody who has something to leave behind."""

    def begin_in_child(self) -> None:
        """Called in the forked child, where only the forking thread lives on."""


_followed: weakref.WeakSet[Forked] = weakref.WeakSet()
_following = False


def follow_forks(owner: Forked) -> None:
    """Has the owner's ``begin_in_child`` called after every fork, for as long as it lives."""
    global _following  # noqa: PLW0603 - such hooks cannot be taken back, so there is one for all
    _followed.add(owner)
    if not _following and hasattr(os, "register_at_fork"):
        _following = True
        os.register_at_fork(after_in_child=_tell_all)


def _tell_all() -> None:
    for owner in list(_followed):
        owner.begin_in_child()
