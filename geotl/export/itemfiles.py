"""A model's STAC item written beside its files."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely

from geotl.console import Log
from geotl.data.footprints import ground_in_degrees
from geotl.errors import ModelError
from geotl.export.mlmassets import assets_of
from geotl.export.stac_checks import check_item
from geotl.export.stac_mlm import mlm_item
from geotl.io.files import check_absent, write_text
from geotl.models.model_file import ModelFile


def write_item(
    model: ModelFile,
    path: Path,
    others: Sequence[Path] = (),
    *,
    licence: str | None = None,
    overwrite: bool = False,
    say: Log = print,
) -> dict[str, Any]:
    """Write the STAC item of a model and further files, after all checks.

    Args:
        model: loaded from a file, which the item names.
        path: to write to, ending in .json; files are named from there.
        others: further files, such as the model's exports.
        licence: of the model.
        overwrite: replace what is there.
        say: told every line.

    Raises:
        ModelError: a file is missing, or an export of another model.
        OutputError: the item exists, cannot be written, or would be wrong.
    """
    check_absent(path, overwrite=overwrite)
    if model.path is None:
        raise ModelError("a model that lies in no file has no item; save it first")
    assets = assets_of(model.path, others, path)
    written = datetime.datetime.fromtimestamp(model.path.stat().st_mtime, datetime.UTC)
    ground = training_ground_of(model)
    item = mlm_item(model, assets, ground=ground, written=written, licence=licence)
    check_item(item, path.resolve().parent)
    write_text(path, json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    for one in assets:
        if one.href.startswith("../"):
            say(f"{one.path.name} lies outside of the item's folder and is named {one.href}")
    say(f"mlm      {path} ({len(assets)} asset{'s' if len(assets) > 1 else ''})")
    return item


def training_ground_of(model: ModelFile) -> shapely.Geometry | None:
    """The ground of a model's training tiles in degrees, None where it is not known."""
    boxes = model.companions.footprints.tolist()
    systems = model.notes.get("training", {}).get("crs") or [None] * len(boxes)
    return ground_in_degrees([(box[0], box[1], box[2], box[3]) for box in boxes], systems)
