"""The pen: of the tabs that show a project one at a time may change it."""

from __future__ import annotations

import threading
from collections import Counter

from geotl.errors import GeoTLError


class PenError(GeoTLError, PermissionError):
    """A change from a tab without the pen."""


class Pen:
    """Which tab may change the labels; tabs are known by ids that they make themselves."""

    def __init__(self) -> None:
        """Belong to no tab."""
        self._lock = threading.Lock()
        self._holder: str | None = None
        self._streams: Counter[str] = Counter()  # open event streams, in the order of their tabs

    @property
    def holder(self) -> str | None:
        """The tab that has it."""
        return self._holder

    def ask(self, client: str) -> bool:
        """Give it to a tab if no other has it; whether the tab has it then.

        >>> pen = Pen()
        >>> pen.ask("a"), pen.ask("b"), pen.ask("a")
        (True, False, True)
        """
        with self._lock:
            if self._holder is None:
                self._holder = client
            return self._holder == client

    def take(self, client: str) -> None:
        """Give it to a tab, whichever has it.

        >>> pen = Pen()
        >>> pen.ask("a"), pen.take("b"), pen.holder
        (True, None, 'b')
        """
        with self._lock:
            self._holder = client

    def check(self, client: str) -> None:
        """Make sure that a tab has it.

        Raises:
            PenError: another tab has it, or none.
        """
        if self._holder != client:
            raise PenError("another tab or person labels this project; take over to change it here")

    def entered(self, client: str) -> None:
        """Note that a tab listens; it gets the pen if no other has it."""
        self.ask(client)
        with self._lock:
            self._streams[client] += 1

    def left(self, client: str) -> None:
        """Note that a tab listens no more; its pen goes to the tab that has listened longest."""
        with self._lock:
            self._streams[client] -= 1
            if self._streams[client] <= 0:
                del self._streams[client]
                if self._holder == client:
                    self._holder = next(iter(self._streams), None)
