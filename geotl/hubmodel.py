"""The former name of `geotl.hub`, which published model cards of earlier releases import."""

from __future__ import annotations

import warnings

from geotl.hub import HubModel, published

__all__ = ["HubModel", "published"]

warnings.warn(
    "geotl.hubmodel is geotl.hub now; this name goes with the next release",
    DeprecationWarning,
    stacklevel=2,
)
