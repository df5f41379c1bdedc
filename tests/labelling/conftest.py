"""What the tests of the page in a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.label_page import Pages, chromium


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of other tests'
def browser() -> Iterator[Any]:
    """A browser of Playwright's."""
    pytest.importorskip("playwright", reason="playwright drives the page")
    with chromium() as opened:
        yield opened


@pytest.fixture
def pages(browser: Any) -> Iterator[Pages]:
    """Pages of the browser, closed at the end of a test."""
    opened = Pages(browser)
    yield opened
    opened.close()
