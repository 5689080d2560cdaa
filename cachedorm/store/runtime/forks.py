"""Forks: objects that hold sockets, threads or locks start afresh in the child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """An object that must not share its state with a forked child."""

    def begin_in_child(self) -> None:
        """Reset in the forked child, where only the forking thread continues."""


_attachment: weakref.WeakSet[Forked] = weakref.WeakSet()
_following = False


def follow_forks(owner: Forked) -> None:
    """Call the owner's ``begin_in_child`` after every fork, as long as the owner lives."""
    global _following  # noqa: PLW0603 - such hooks cannot be removed, so there is one for all
    _attachment.add(owner)
    if not _following and hasattr(os, "register_at_fork"):
        _following = True
        os.register_at_fork(after_in_child=_begin_all_in_child)


def _begin_all_in_child() -> None:
    for owner in list(_attachment):
        owner.begin_in_child()
