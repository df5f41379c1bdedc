"""Where geotl keeps what it would otherwise compute anew; it may be deleted at will."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where packed tiles, frozen features and a machine's gains are kept between runs.

    GEOTL_CACHE, else geotl under XDG_CACHE_HOME, else ~/.cache/geotl. It may be deleted at will.
    """
    if given := os.environ.get("GEOTL_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "geotl"
