"""Threads that work on the newest of what they are given, and report what goes wrong."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

NICE = 10  # of 19
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
