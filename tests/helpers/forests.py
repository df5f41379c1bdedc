"""Forests of ten trees in models of pixels, for what depends on no tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geotl.experiments import pixels
from geotl.training import pixel_fusion
from geotl.training.pixel_members import fit_forest

FEW = 10


def few_trees() -> list[tuple[Any, str, Any]]:
    """What stands in place of what: (module, name, value)."""
    small = {
        name: replace(one, settings=(FEW,)) if one.fitter is fit_forest else one
        for name, one in pixel_fusion.MEMBERS.items()
    }
    return [(pixel_fusion, "MEMBERS", small), (pixels, "TREES", FEW)]
