"""A thread that writes what changed soon after it did, and tries again where the disk is full."""

from __future__ import annotations

import threading
from collections.abc import Callable

from geotl.errors import GeoTLError

PAUSE_S = 0.15  # several changes in a row are written once
RETRY_S = 1.0


class Saver:
    """Calls a function in a thread of its own after `wake`."""

    def __init__(self, write: Callable[[], None], problem: Callable[[str], None]) -> None:
        """Begin to wait.

        Args:
            write: writes the newest state.
            problem: takes one line when that fails, and "" when it works again.
        """
        self._write, self._problem = write, problem
        self._due, self._ended = threading.Event(), threading.Event()
        self._writing = threading.Lock()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="saver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Write soon."""
        self._due.set()

    def flush(self) -> None:
        """Write now, in the calling thread.

        Raises:
            GeoTLError, OSError: what the function raises.
        """
        with self._writing:
            self._due.clear()
            self._write()

    def close(self) -> None:
        """End the thread; what is due is written first."""
        self._ended.set()
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._due.wait()
            self._ended.wait(PAUSE_S)
            if self._due.is_set() and not self._is_written():
                self._due.set()
                self._ended.wait(RETRY_S)

    def _is_written(self) -> bool:
        try:
            self.flush()
        except (GeoTLError, OSError) as error:
            self._failed = True
            self._problem(str(error))
            return False
        if self._failed:
            self._failed = False
            self._problem("")
        return True
