"""The thread that delivers pending invalidations: started when there are any, ended when not."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachedorm.store.runtime.forks import follow_forks

EVERY = 0.25


class RetryThread:
    """Runs ``retry`` every ``every`` seconds for as long as it returns that there is more to do.

    ``retry`` must not raise. A forked child starts a thread of its own.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_every",
        "_lock",
        "_nudge",
        "_retry",
        "_stop",
        "_thread",
    )

    def __init__(self, retry: Callable[[], bool], every: float = EVERY) -> None:
        self._retry = retry
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
        """Start the thread if it does not run: there is something to do. Never blocks."""
        with self._lock:
            self._nudge.set()
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(
                    target=self._run, name="cachedorm-retry", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    # The interpreter is shutting down, or no thread can be started now.
                    self._thread = None

    def _run(self) -> None:
        while True:
            self._nudge.clear()
            more = self._retry()
            with self._lock:
                # Under the lock, so that `wake` does not rely on a thread that is about to end.
                if self._closing or not (more or self._nudge.is_set()):
                    self._thread = None
                    return
            if more:
                # New work does not make an unavailable Redis answer sooner.
                self._stop.wait(self._every)

    def close(self, timeout: float) -> None:
        """Let the thread try once more, and wait at most ``timeout`` seconds for its end."""
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
        return f"<RetryThread {'running' if self.is_running else 'idle'}>"
