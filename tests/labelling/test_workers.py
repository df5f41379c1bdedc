"""A thread that works on the newest item alone."""

from __future__ import annotations

import threading

from geotl.labelling.workers import Newest, Stale


def ignored(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


def test_of_items_that_come_during_the_work_the_last_is_next() -> None:
    begun, go, done = threading.Event(), threading.Event(), list[tuple[int, bool]]()

    def work(item: int, stale: Stale) -> None:
        begun.set()
        assert go.wait(10)
        done.append((item, stale()))

    worker = Newest("test", work, ignored)
    worker.start()
    worker.give(1)
    assert begun.wait(10)
    for item in (2, 3, 4):
        worker.give(item)
    go.set()
    assert worker.wait(10)
    worker.close()
    assert done == [(1, True), (4, False)]


def test_nothing_to_do_ends_work_on_what_is_older() -> None:
    begun, ended = threading.Event(), list[bool]()

    def work(item: int, stale: Stale) -> None:
        begun.set()
        ended.append(stale.within(30))

    worker = Newest("test", work, ignored)
    worker.start()
    worker.give(1)
    assert begun.wait(10)
    worker.give(None)
    assert worker.wait(10)
    worker.close()
    assert ended == [True]


def test_closing_does_not_wait_for_rest() -> None:
    done: list[int] = []
    worker = Newest("test", lambda item, stale: done.append(item), ignored, rest_s=60.0)
    worker.start()
    worker.give(1)
    assert not worker.wait(0.05)
    worker.close()
    assert done == []


def test_an_error_is_passed_on_and_the_next_item_is_done() -> None:
    faults, done = list[str](), list[int]()

    def work(item: int, stale: Stale) -> None:
        done.append(1 // item)

    worker = Newest("test", work, lambda name, error: faults.append(f"{name}: {error}"), nice=True)
    worker.start()
    worker.give(0)
    assert worker.wait(10)
    worker.give(1)
    assert worker.wait(10)
    worker.close()
    assert done == [1]
    assert "test: integer division" in faults[0]
