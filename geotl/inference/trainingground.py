"""Where a model's training tiles lay, and how large their pixels were, as its file tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geotl.data.footprints import in_metres
from geotl.data.occupied import Shapes, footprint_shapes
from geotl.imagery.windows import Imagery
from geotl.models.model_file import ModelFile

OFF = 0.2  # share by which a scene's pixels may differ from the training tiles'


def training_ground(model: ModelFile) -> Shapes:
    """Footprints of a model's training tiles with their reference systems, where known."""
    boxes = model.companions.footprints
    return footprint_shapes(boxes, _systems(model))


def unknown_ground(model: ModelFile, known: Shapes) -> list[str]:
    """A line where the place of training tiles is not known."""
    lost = len(model.companions.footprints) - len(known)
    return [
        f"the place of {lost} of {lost + len(known)} training tiles is not known: windows on "
        "their ground may be suggested again (give your labels with --labels)"
    ] * bool(lost)


def resolution_notes(model: ModelFile, scenes: Sequence[Imagery]) -> list[str]:
    """A line for each scene whose pixels are of another size than the training tiles'."""
    trained = training_px_m(model)
    notes = []
    for scene in scenes:
        px_m = _px_m([scene.grid.bounds], [scene.grid.crs], (scene.grid.width, scene.grid.height))
        if abs(px_m / trained - 1) > OFF:  # never so where it is nan
            notes.append(
                f"{scene.name}: pixels of {px_m:.3g} m, but the model was trained at "
                f"{trained:.3g} m: what it says here is little worth; resample the scene first "
                f"(gdalwarp -tr {trained:.3g} {trained:.3g})"
            )
    return notes


def training_px_m(model: ModelFile) -> float:
    """Median side of a training pixel in metres, by the tiles' footprints; nan if unknown."""
    boxes = model.companions.footprints.tolist()
    known = [
        (tuple(box), of)
        for box, of in zip(boxes, _systems(model), strict=True)
        if of is not None and box[2] > box[0]
    ]
    side = model.contract.tile_px
    return _px_m([box for box, _ in known], [of for _, of in known], (side, side))


def _px_m(
    boxes: Sequence[tuple[float, ...]], crs: Sequence[str | None], size: tuple[int, int]
) -> float:
    """Median side of a pixel of footprints so many pixels wide and high, in metres."""
    if not boxes:
        return float("nan")
    laid = in_metres([(b[0], b[1], b[2], b[3]) for b in boxes], crs)
    sides = (laid[:, 2:] - laid[:, :2]) / np.array(size)
    return float(np.median(np.sqrt(sides.prod(axis=1))))


def _systems(model: ModelFile) -> list[str | None]:
    """Reference system of each training tile."""
    crs = model.notes.get("training", {}).get("crs")
    return list(crs) if crs else [None] * len(model.companions.footprints)
