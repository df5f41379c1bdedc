"""Events on their way to a page, the pen, and the thread that writes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from geotl.errors import OutputError
from geotl.labelling.tabs import Events, Pen, PenError
from geotl.labelling.workers import Saver


async def next_event(stream: AsyncIterator[str]) -> dict[str, Any]:
    """The next event of a stream, past its comments."""
    async for text in stream:
        if text.startswith("data: "):
            assert text.endswith("\n\n")
            assert text.count("\n") == 2
            event: dict[str, Any] = json.loads(text[6:])
            return event
    raise AssertionError("the stream has ended")


def test_a_page_is_sent_the_last_of_each_kind_and_then_what_comes() -> None:
    async def listened() -> list[dict[str, Any]]:
        events = Events()
        events.publish("model", version=1)
        events.publish("labels", revision=1)
        events.publish("model", version=2)
        stream = events.stream()
        got = [await next_event(stream) for _ in range(2)]
        threading.Thread(target=lambda: events.publish("labels", revision=2)).start()
        got.append(await next_event(stream))
        events.close()
        assert [text async for text in stream] == []
        return got

    assert asyncio.run(listened()) == [
        {"kind": "labels", "revision": 1},
        {"kind": "model", "version": 2},
        {"kind": "labels", "revision": 2},
    ]


def test_a_page_that_sleeps_gets_the_newest_and_no_queue_grows() -> None:
    async def slept() -> list[dict[str, Any]]:
        events = Events()
        stream = events.stream()
        await anext(stream)
        for revision in range(10_000):
            events.publish("labels", revision=revision)
        events.publish("progress", what="features", done=1, total=2)
        events.publish("progress", what="places", done=1, total=2)
        return [await next_event(stream) for _ in range(3)]

    got = asyncio.run(slept())
    assert got[0] == {"kind": "labels", "revision": 9_999}
    assert [one["what"] for one in got[1:]] == ["features", "places"]


def test_a_stream_that_is_left_is_forgotten() -> None:
    async def left() -> None:
        events = Events()
        stream = events.stream()
        await anext(stream)
        assert len(events._listeners) == 1
        await stream.aclose()  # type: ignore[attr-defined]
        assert not events._listeners
        events.publish("labels", revision=1)

    asyncio.run(left())


def test_a_stream_after_the_end_ends() -> None:
    async def late() -> list[str]:
        events = Events()
        events.close()
        return [text async for text in events.stream()]

    assert asyncio.run(late()) == [": geotl\n\n"]


def test_values_of_events_are_json() -> None:
    events = Events()
    events.publish("accuracy", value=float("nan"), many=np.array([1.5, np.inf]))
    assert events.last()["accuracy"] == {"kind": "accuracy", "value": None, "many": [1.5, None]}


def test_the_pen_goes_with_the_stream_of_its_tab() -> None:
    pen = Pen()
    pen.entered("a")
    pen.entered("b")
    pen.entered("c")
    assert pen.holder == "a"
    pen.entered("a")  # the browser connects again before the old stream is seen to end
    pen.left("a")
    assert pen.holder == "a"
    pen.left("b")
    pen.left("a")
    assert pen.holder == "c"
    pen.left("c")
    assert pen.holder is None
    with pytest.raises(PenError):
        pen.check("c")


def test_a_tab_that_only_watches_takes_nothing_by_leaving() -> None:
    pen = Pen()
    pen.entered("a")
    pen.entered("b")
    pen.left("b")
    assert pen.holder == "a"


def test_what_is_due_is_written_before_the_end() -> None:
    written: list[int] = []
    saver = Saver(lambda: written.append(1), print)
    saver.wake()
    saver.close()
    assert len(written) <= 1
    saver.flush()
    assert written


def test_a_failure_is_said_and_tried_again() -> None:
    lines: list[str] = []
    attempts, done = iter(range(100)), threading.Event()

    def write() -> None:
        if next(attempts) < 1:
            raise OutputError("a: could not be written")

    def problem(line: str) -> None:
        lines.append(line)
        if not line:
            done.set()

    saver = Saver(write, problem)
    saver.wake()
    assert done.wait(10)
    saver.close()
    assert lines == ["a: could not be written", ""]
