"""Scenes given as DataArrays of xarray, with the position from rioxarray (extra `xarray`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Pixels
from geotl.errors import DataError
from geotl.imagery import products
from geotl.imagery.band_files import band_positions
from geotl.imagery.cloud_masks import Span
from geotl.imagery.measurable import Measurable, measurable
from geotl.imagery.scene import Scene, check_grid
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import axis
from geotl.io.images import check_numbers
from geotl.io.raster import Grid, RasterInfo

if TYPE_CHECKING:
    import xarray as xr

_UNEVEN = 1e-3  # of a pixel: what the decimals of coordinates leave open


def scene_of(
    dataarray: xr.DataArray,
    sensor: Sensor,
    bands: Sequence[str] | None = None,
    *,
    file_bands: Sequence[str] | None = None,
    name: str = "array",
) -> Scene:
    """A DataArray as a scene; what it loads lazily is loaded window by window.

    Its axes are bands (named by the coordinate, or by `long_name` as rioxarray does), y and x in
    any order and direction. NaN and the nodata value that rioxarray knows are not valid.

    Args:
        dataarray: array with the axes bands, y, x, or only y and x for one band.
        sensor: sensor of its digital numbers.
        bands: names of the bands wanted, in order; None for all of the sensor's.
        file_bands: the bands in the array's order, where it does not name them.
        name: unique among the scenes.

    Raises:
        DataError: rioxarray is not installed, no reference system, rows or columns that are not
            evenly spaced, more axes than three, pixels that are not plain numbers, or a scale
            and offset that are not the sensor's.
        BandError: a band that is missing, or there twice.
    """
    array = _three_axes(dataarray, name)
    wanted = sensor.canonical(bands or sensor.names)
    path = Path(str(array.encoding.get("source") or name))
    check_numbers(path, array.dtype)
    grid = _grid(array, path)
    check_grid(path, grid)
    names = _band_names(array)
    info = RasterInfo(
        path,
        "DataArray",
        array.dtype,
        grid,
        names,
        "descriptions" if any(names) else "none",
        (None,) * len(names),
        None,
    )
    positions = band_positions(info, sensor, wanted, file_bands)
    _check_decoded(array, path, sensor)
    products.check_scaling(path, [_scaling(array)] * len(wanted), sensor, wanted)
    nodata = tuple(v for v in (array.rio.nodata, sensor.nodata) if v is not None)
    return Scene(
        name,
        path,
        grid,
        wanted,
        sensor,
        array.dtype,
        products.date_in([path.stem, name]),
        _ArraySource(array, positions, tuple(float(v) for v in nodata), measurable(sensor, wanted)),
    )


@dataclass(frozen=True)
class _ArraySource:
    """Windows of a DataArray [bands, y, x] that runs south and east."""

    array: Any
    positions: tuple[int, ...]
    nodata: tuple[float, ...]
    measurable: Measurable

    def read(self, rows: Span, columns: Span) -> Pixels:
        cut = self.array[list(self.positions), slice(*rows), slice(*columns)]
        data: NDArray[Any] = np.asarray(cut.values)
        valid = np.isfinite(data) if data.dtype.kind == "f" else np.ones(data.shape, dtype=bool)
        for value in self.nodata:
            if not math.isnan(value):
                valid &= data != value
        return self.measurable.measured(data, valid)

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        data, valid = self.read(rows, columns)
        near = [
            axis(n, few, n / few, 0.0).nearest for n, few in zip(data.shape[1:], shape, strict=True)
        ]
        place = np.ix_(np.asarray(bands), *near)
        return data[place], valid[place]

    def close(self) -> None:
        """Nothing to close: the array belongs to the caller."""


def need_rioxarray(name: str) -> None:
    """Have rioxarray's accessor .rio at hand for what is called `name`.

    Raises:
        DataError: it is not installed.
    """
    try:
        import rioxarray.exceptions  # noqa: F401 - with it comes the accessor
    except ImportError as error:
        raise DataError(
            f"{name}: needs rioxarray, which is not installed ({error}); run "
            "pip install 'geotl[xarray]'"
        ) from error


def _three_axes(dataarray: Any, name: str) -> Any:
    """The array as [bands, y, x], y running south and x east, with rioxarray at hand."""
    need_rioxarray(name)
    from rioxarray.exceptions import RioXarrayError

    try:
        y, x = dataarray.rio.y_dim, dataarray.rio.x_dim
    except RioXarrayError as error:
        raise DataError(
            f"{name}: axes {', '.join(map(str, dataarray.dims))}, none of them known as y and x; "
            "name them with array.rio.set_spatial_dims"
        ) from error
    others = [dim for dim in dataarray.dims if dim not in {y, x}]
    if len(others) > 1:
        raise DataError(
            f"{name}: axes {', '.join(map(str, dataarray.dims))}; allowed: bands, {y} and {x}: "
            "choose one entry of the others, as with array.isel(time=0)"
        )
    array = dataarray.transpose(*others, y, x) if others else dataarray.expand_dims("band")
    backwards = {
        dim: slice(None, None, -1) for dim, wrong in ((y, 1), (x, -1)) if _runs(array, dim) == wrong
    }
    return array.isel(backwards)


def _runs(array: Any, dim: str) -> int:
    """Sign of the steps of a coordinate; 0 where there are none."""
    if dim not in array.coords or array.sizes[dim] < 2:
        return 0
    values = array[dim].values
    return int(np.sign(values[-1] - values[0]))


def _grid(array: Any, path: Path) -> Grid:
    crs = array.rio.crs
    for dim in array.dims[1:]:
        if dim in array.coords and array.sizes[dim] > 2:
            steps = np.diff(array[dim].values.astype(np.float64))
            if np.ptp(steps) > _UNEVEN * abs(steps.mean()):
                raise DataError(
                    f"{path}: {dim} is not evenly spaced; resample it to a regular grid"
                )
    place = tuple(float(v) for v in array.rio.transform(recalc=True)[:6])
    height, width = array.shape[1:]
    return Grid(crs.to_string() if crs else None, place, height, width)  # type: ignore[arg-type]


def _band_names(array: Any) -> tuple[str | None, ...]:
    """Names from the coordinate of the bands' axis if it is text, else from `long_name`."""
    axis, count = array.dims[0], array.shape[0]
    if axis in array.coords and all(isinstance(v, str) for v in array[axis].values.tolist()):
        return tuple(array[axis].values.tolist())
    long_names = array.attrs.get("long_name")
    long_names = (long_names,) if isinstance(long_names, str) else tuple(long_names or ())
    return tuple(map(str, long_names)) if len(long_names) == count else (None,) * count


def _scaling(array: Any) -> tuple[float, float]:
    """(scale, offset) declared and not yet applied; (1, 0) if none is."""
    attributes = array.attrs
    return float(attributes.get("scale_factor", 1.0)), float(attributes.get("add_offset", 0.0))


def _check_decoded(array: Any, path: Path, sensor: Sensor) -> None:
    """Numbers that xarray scaled on opening are no digital numbers any more."""
    applied = tuple(
        float(array.encoding.get(key, none))
        for key, none in (("scale_factor", 1), ("add_offset", 0))
    )
    if applied != (1.0, 0.0) and (sensor.scale, sensor.offset) != (1.0, 0.0):
        raise DataError(
            f"{path}: its numbers were scaled on opening (by {applied[0]:g}, plus {applied[1]:g}), "
            f"sensor {sensor.name} scales them again; open it without mask_and_scale, or give a "
            "custom sensor of scale 1 and offset 0"
        )
