"""Threads that work on the newest of what they are given, and report what goes wrong.

`Newest` works on items in memory, `Saver` writes what changed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from geotl.errors import GeoTLError

NICE = 10  # of 19
PAUSE_S = 0.15  # several changes in a row are written once
RETRY_S = 1.0
Item = TypeVar("Item")
Fault = Callable[[str, BaseException], None]  # takes the name of the thread and the error


class Stale:
    """Whether the item that is worked on is out of date: there is a newer one, or the end."""

    def __init__(self, is_over: Callable[[], bool], turn: threading.Condition) -> None:
        """Of an item that `is_over` tells of, whenever `turn` is notified."""
        self._is_over, self._turn = is_over, turn

    def __call__(self) -> bool:
        """Whether it is now."""
        return self._is_over()

    def within(self, seconds: float) -> bool:
        """Whether it is before some time has passed, which is waited for."""
        with self._turn:
            return self._turn.wait_for(self._is_over, max(0.0, seconds))


class Newest(Generic[Item]):
    """A thread that works on the newest item; of those that come meanwhile, the last one is next.

    An error in the work is passed on, and the next item is worked on all the same.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item, Stale], None],
        fault: Fault,
        *,
        rest_s: float = 0.0,
        nice: bool = False,
    ) -> None:
        """Prepare the thread.

        Args:
            name: of the thread.
            work: takes an item and whether it is out of date, which long work should ask.
            fault: takes unexpected errors.
            rest_s: how long an item must be the newest before the work on it begins.
            nice: leave the processors to other threads that want them, where the system can.
        """
        self.name, self._work, self._fault, self._rest_s = name, work, fault, rest_s
        self._turn = threading.Condition()
        self._item: Item | None = None
        self._given = self._done = 0
        self._nice = nice
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"geotl {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def give(self, item: Item | None) -> None:
        """Take a newer item; returns at once. None is no work, but ends that on older items."""
        with self._turn:
            self._item, self._given = item, self._given + 1
            self._turn.notify_all()

    def close(self) -> None:
        """End the thread after what it is at, and wait for that."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def wait(self, timeout_s: float) -> bool:
        """Wait until all that was given is done; whether it is."""
        with self._turn:
            return self._turn.wait_for(lambda: self._done == self._given, timeout_s)

    def _run(self) -> None:
        if self._nice and sys.platform == "linux":  # where threads have priorities of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._done != self._given)
                self._rest()
                if self._closed:
                    return
                item, number = self._item, self._given
            self._attempt(item, number)
            with self._turn:
                self._done = number
                self._turn.notify_all()

    def _rest(self) -> None:
        """Wait until the newest item has been so for a while."""
        number = -1
        while not self._closed and self._rest_s and number != self._given:
            number = self._given
            self._turn.wait_for(partial(self._is_over, number), self._rest_s)

    def _is_over(self, number: int) -> bool:
        """Whether there is a newer item than that of a number, or the end."""
        return self._closed or self._given != number

    def _attempt(self, item: Item | None, number: int) -> None:
        if item is None:
            return
        try:
            self._work(item, Stale(partial(self._is_over, number), self._turn))
        except Exception as error:  # a thread must not end silently
            logging.getLogger(__name__).exception("%s", self.name)
            self._fault(self.name, error)


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
