"""Fixtures of the lecture's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from geotl.lecture.samples import sample


@pytest.fixture(scope="module")
def lecture_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of a module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        sample.cache_clear()
        yield
    sample.cache_clear()
