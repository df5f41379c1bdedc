"""The tabs that show a project: events on their way to each, and the pen, which one of them has.

Events are server-sent. A page that reads slowly gets the newest of each kind, not a queue that
grows.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

from geotl.errors import GeoTLError
from geotl.io.files import jsonable

EVERY_S = 15.0  # a comment line, so that a connection that is gone is noticed
Event = Mapping[str, Any]
Key = tuple[str, str]  # kind, and of progress its work


class Events:
    """The last event of each kind, and the pages that listen."""

    def __init__(self) -> None:
        """Begin without events."""
        self._lock = threading.Lock()
        self._last: dict[Key, Event] = {}
        self._listeners: list[_Listener] = []
        self._closed = False

    def publish(self, kind: str, **values: object) -> None:
        """Send an event to every page; any thread may call it.

        Args:
            kind: of the event.
            values: that JSON knows, or arrays; nan becomes null.
        """
        event = {"kind": kind, **jsonable(values)}
        key = kind, str(values.get("what", ""))
        with self._lock:
            self._last.pop(key, None)
            self._last[key] = event
            for listener in self._listeners:
                listener.offer(key, event)

    def last(self) -> dict[str, Event]:
        """The last event of each kind."""
        with self._lock:
            return {kind: event for (kind, _), event in self._last.items()}

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._closed = True
            for listener in self._listeners:
                listener.end()

    async def stream(self) -> AsyncIterator[str]:
        """The text of a page's event stream: the last of each kind, then what comes."""
        listener = _Listener(asyncio.get_running_loop())
        with self._lock:
            for key, event in self._last.items():
                listener.offer(key, event)
            self._listeners.append(listener)
            if self._closed:
                listener.end()
        try:
            yield ": geotl\n\n"
            async for text in listener.texts():
                yield text
        finally:
            with self._lock:
                self._listeners.remove(listener)


class _Listener:
    """What a page has not been sent yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._ready = loop, asyncio.Event()
        self._pending: dict[Key, Event] = {}
        self._lock = threading.Lock()
        self._ended = False

    def offer(self, key: Key, event: Event) -> None:
        with self._lock:
            self._pending.pop(key, None)
            self._pending[key] = event
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    async def texts(self) -> AsyncIterator[str]:
        while not self._ended:
            try:
                await asyncio.wait_for(self._ready.wait(), EVERY_S)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            self._ready.clear()
            with self._lock:
                pending, self._pending = self._pending, {}
            for event in pending.values():
                yield f"data: {json.dumps(event, allow_nan=False)}\n\n"

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)


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
