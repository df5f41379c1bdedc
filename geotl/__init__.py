"""geotl: transfer learning on satellite imagery, for labs with few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geotl._version import __version__ as __version__

__all__ = ["Model", "Predictions", "load"]

if TYPE_CHECKING:
    from geotl.api import Model, Predictions, load


def __getattr__(name: str) -> Any:
    """Import torch and the rest only when something of the API is asked for."""
    if name in __all__:
        from geotl import api

        return getattr(api, name)
    raise AttributeError(f"module 'geotl' has no attribute {name!r}")
