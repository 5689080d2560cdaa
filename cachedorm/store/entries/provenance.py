"""The hook through which the read path reports what answered each read.

The response cache sets a recorder during a request. A cached read reports the entry that answered
it; a read past the cache calls ``refuse``. Without a recorder the cost is one context variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from cachedorm.store.protocol.keys import EntryKey


class ReadRecorder(Protocol):
    """What the read path reports to."""

    sealed: bool

    def note_session(self, session: Any) -> None:
        """A session is about to answer a read."""

    def served(self, slots: object, db: int, key: EntryKey, slot: bytes | None) -> None:
        """A read was answered by this entry. ``slot``: its bytes, None if it is not in Redis."""

    def refuse(self, reason: str, detail: str = "") -> None:
        """A read was answered by something else than an entry."""


_CURRENT: Final[ContextVar[ReadRecorder | None]] = ContextVar("cachedorm_recorder", default=None)

current = _CURRENT.get
"""The recorder of this context, or None."""


@contextmanager
def recording(recorder: ReadRecorder) -> Iterator[None]:
    """Report the reads of the block, and of the tasks and threads it starts, to this recorder."""
    token = _CURRENT.set(recorder)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def absorbed() -> Iterator[None]:
    """Report nothing within the block: it loads an entry, and that entry is reported afterwards."""
    if _CURRENT.get() is None:
        yield
        return
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def is_recording() -> bool:
    """Whether a recorder of this context still takes reports."""
    recorder = _CURRENT.get()
    return recorder is not None and not recorder.sealed


def refuse(reason: str, detail: str = "") -> None:
    """Report to the recorder, if there is one, that a read went past the cache."""
    recorder = _CURRENT.get()
    if recorder is not None:
        recorder.refuse(reason, detail)
