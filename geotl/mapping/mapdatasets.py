"""Maps as data sets of xarray, for notebooks (extra `xarray`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotl.errors import needed_by_model
from geotl.imagery.scene import MaskChoice, Scene
from geotl.imagery.sensors import Sensor
from geotl.imagery.xarray_scene import need_rioxarray, scene_of
from geotl.inference.onnx_model import Mapper
from geotl.io.raster import read
from geotl.mapping.mapinputs import at_training_resolution, interest_in, open_for
from geotl.mapping.run import map_scene
from geotl.mapping.task import MapOptions
from geotl.models.model_file import Contract

if TYPE_CHECKING:
    import xarray as xr


def mapped_dataset(
    model: Mapper,
    scene: str | Path | xr.DataArray,
    out: str | Path | None,
    options: MapOptions | None = None,
    *,
    sensor: Sensor | None = None,
    mask: MaskChoice = "auto",
    aoi: str | Path | None = None,
    bbox: Sequence[float] | None = None,
    quiet: bool = True,
) -> xr.Dataset:
    """Map a scene and hand out the map; arguments as `api.Model.map` takes them.

    Raises:
        DataError: a scene that the model cannot map, or no xarray.
        OutputError: an output that exists, or cannot be written.
    """
    need_rioxarray("a map as a data set")
    options = options or MapOptions()
    opened = _opened(model, scene, sensor, mask)
    interest = interest_in(opened, model.contract.tile_px, options, aoi=aoi, bbox=bbox)
    with ExitStack() as stack:
        if out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geotl-map-")))
            out, options = folder / "map.tif", replace(options, page=False)
        made = map_scene(
            model,
            opened,
            Path(out),
            options,
            interest=interest,
            quiet=quiet,
            say=_silent if quiet else print,
        )
        return read_map(made.files, model.contract)


def read_map(files: Mapping[str, Path], contract: Contract) -> xr.Dataset:
    """A map's rasters, by name, as variables of a data set over y and x.

    `classes` follows the CF conventions (`flag_values`, `flag_meanings` with blanks as
    underscores) and has the names in `class_names` and the colours in `class_colors`;
    probabilities have an axis `class`. `rio.nodata`, the reference system and the transform are
    those of the files.
    """
    import xarray as xr

    found = {n: _variable(n, p, contract) for n, p in files.items() if p.suffix.startswith(".tif")}
    first = ("classes", *(name for name in found if name != "classes"))
    return xr.Dataset({name: found[name] for name in first})


def _opened(
    model: Mapper, scene: str | Path | xr.DataArray, sensor: Sensor | None, mask: MaskChoice
) -> Scene:
    if isinstance(scene, str | Path):
        return open_for(model, scene, sensor=sensor, mask=mask)
    contract = model.contract
    file_bands, own = None if sensor else contract.file_bands, sensor or contract.sensor
    with needed_by_model("a scene", own.name):
        found = scene_of(scene, own, contract.bands, file_bands=file_bands)
    return at_training_resolution(model, found)


def _variable(name: str, path: Path, contract: Contract) -> Any:
    """A raster as a DataArray."""
    import xarray as xr

    held = read(path)
    a, _, c, _, e, f = held.grid.transform
    y, x = (f + e * (np.arange(held.grid.height) + 0.5), c + a * (np.arange(held.grid.width) + 0.5))
    several = name == "probabilities"
    array = xr.DataArray(
        held.data if several else held.data[0],
        dims=("class", "y", "x") if several else ("y", "x"),
        coords={"y": y, "x": x} | ({"class": list(contract.classes)} if several else {}),
        name=name,
        attrs=_attributes(name, contract),
    )
    placed = array.rio.write_crs(held.grid.crs).rio.write_transform()
    return placed.rio.write_nodata(np.nan if held.data.dtype.kind == "f" else 255)


def _attributes(name: str, contract: Contract) -> dict[str, Any]:
    if name != "classes":
        return {"units": "percent"} if name in ("confidence", "entropy") else {}
    return {
        "class_names": list(contract.classes),
        "class_colors": list(contract.colours),
        "flag_values": list(range(len(contract.classes))),
        "flag_meanings": " ".join("_".join(name.split()) for name in contract.classes),
    }


def _silent(_: str) -> None:
    """Say nothing."""
