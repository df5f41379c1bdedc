"""Tiles of the page: their side, colours, PNG files, and the last ones kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from geotl.arrays import UInt8s

SIDE = 256  # pixels of a tile
CONFIDENCE = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")  # viridis, from 0 to 1
OUTSIDE = ("#ffb000", "#e3472f", "#7a0016")  # just outside the area of applicability, to far
_LEVEL = 1  # a tile travels within one machine: quick rather than small
T = TypeVar("T")


def png_of(rgba: UInt8s) -> bytes:
    """A PNG file of 8-bit colours with opacity.

    Args:
        rgba: [h,w,4], red, green, blue and opacity from 0 to 255, not premultiplied.

    >>> png_of(np.zeros((2, 3, 4), np.uint8))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, "png", compress_level=_LEVEL)
    return stream.getvalue()


EMPTY = png_of(np.zeros((SIDE, SIDE, 4), np.uint8))


class RecentValues(Generic[T]):
    """Values by key, of which the longest unused are dropped.

    A value is computed once, however many threads ask for it meanwhile: the others wait.
    """

    def __init__(self, max_bytes: int, size: Callable[[T], int]) -> None:
        """Begin with none.

        Args:
            max_bytes: what is kept in all, a value of more alone not at all.
            size: bytes of a value.
        """
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._awaited: dict[Hashable, Future[T]] = {}
        self._max, self._size, self.bytes = max_bytes, size, 0

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of a key, computed where it is not kept; its error reaches all who wait."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            awaited = self._awaited.get(key)
            if awaited is None:
                mine = self._awaited[key] = Future()
        return awaited.result() if awaited is not None else self._computed(key, compute, mine)

    def _computed(self, key: Hashable, compute: Callable[[], T], mine: Future[T]) -> T:
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._awaited[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._awaited[key]
            self._keep(key, value)
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: T) -> None:
        self._kept[key] = value
        self.bytes += self._size(value)
        while self.bytes > self._max:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= self._size(dropped)
