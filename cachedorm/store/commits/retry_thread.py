"""One thread that tells Redis later, started when there is something to tell, gone when not."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachedorm.store.runtime.forks import follow_forks

EVERY = 0.25


class Mender:
    """Runs ``mend`` every so many seconds for as long as it answers that there is more to do.

    ``mend`` must not raise. The thread is this process's own: a forked child starts its own.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_every",
        "_lock",
        "_mend",
        "_nudge",
        "_stop",
        "_thread",
    )

    def __init__(self, mend: Callable[[], bool], every: float = EVERY) -> None:
        self._mend = mend
        self._every = every
        self.begin_in_child()
        follow_forks(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    def wake(self) -> None:
        """There is something to do: starts the thread if it does not run. Never blocks."""
        with self._lock:
            self._nudge.set()
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(
                    target=self._run, name="cachedorm-mender", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    # The interpreter is shutting down, or has no thread left: the next may have.
                    self._thread = None

    def _run(self) -> None:
        while True:
            self._nudge.clear()
            more = self._mend()
            with self._lock:
                # Under the lock, so that nobody believes in a thread that is about to end.
                if self._closing or not (more or self._nudge.is_set()):
                    self._thread = None
                    return
            if more:
                # New work is no reason to ask a Redis sooner that is away.
                self._stop.wait(self._every)

    def close(self, timeout: float) -> None:
        """Lets the thread try once more, and waits for its end at most so many seconds."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def __repr__(self) -> str:
        return f"<Mender {'running' if self.is_running else 'idle'}>"
