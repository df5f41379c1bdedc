"""Stages of work on the blocks of a scene that run in parallel, each in its own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

import torch

from geotl.arrays import Float32s, Int64s
from geotl.inference.sliding_window import Predicted, WindowPredictor

Given = TypeVar("Given")
Made = TypeVar("Made")
AHEAD = 1  # blocks read, and passed through networks, before they are needed


@runtime_checkable
class TwoStage(Protocol):
    """A predictor whose networks can run while the block before is finished."""

    @property
    def has_network(self) -> bool:
        """Whether there is a first stage at all."""

    def begin(self, image: Float32s, rows: Int64s, cols: Int64s) -> Callable[[], Predicted]:
        """Run the networks over a block in this thread; return what gives the result of `look`.

        Args:
            image: as `WindowPredictor.predict_windows` takes it.
            rows: likewise.
            cols: likewise.
        """


def ahead(
    pool: ThreadPoolExecutor | None,
    items: Iterable[tuple[int, Given | None]],
    work: Callable[[Given], Made],
) -> Iterator[tuple[int, Made | None]]:
    """What `work` makes of numbered items, in order; of None it makes nothing.

    A pool works on `AHEAD` items more than were asked for; without one each is made when asked for.
    """
    if pool is None:
        yield from ((n, None if item is None else work(item)) for n, item in items)
        return
    waiting: deque[tuple[int, Future[Made] | None]] = deque()
    for n, item in items:
        waiting.append((n, None if item is None else pool.submit(work, item)))
        if len(waiting) > AHEAD:
            first, made = waiting.popleft()
            yield first, made.result() if made else None
    yield from ((n, made.result() if made else None) for n, made in waiting)


def network_threads() -> int:
    """How many of torch's threads run the networks of a predictor that has two stages."""
    return max(1, torch.get_num_threads() // 2)


@contextmanager
def network_pool(sweep: WindowPredictor) -> Iterator[ThreadPoolExecutor | None]:
    """A thread for the networks of a predictor, which may use half of torch's threads.

    None where the predictor has none, or where torch has one thread, which goes from one to the
    other. Two threads that share a convolution wait for each other whenever something else runs.
    """
    count = torch.get_num_threads()
    if count == 1 or not (isinstance(sweep, TwoStage) and sweep.has_network):
        yield None
        return
    try:
        with ThreadPoolExecutor(1, "network", torch.set_num_threads, (network_threads(),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)  # what threads that begin later start from
