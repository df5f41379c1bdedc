"""Labels of whatever kind a file holds: points, polygons, coordinates or a class raster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geotl.data.classrasters import ClassRaster, raster_labels
from geotl.data.labels import Labels, read_labels

RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2")


def read_any(
    path: str | Path,
    *,
    field: str,
    crs_to: str | None,
    layer: str | None = None,
    id_field: str | None = None,
    mapping: Mapping[str, str | None] | None = None,
    crs: str | None = None,
) -> Labels | ClassRaster:
    """Read labels; what ends as a raster does is a class raster, else see `read_labels`.

    Raises:
        DataError: as `read_labels` and `raster_labels`.
    """
    if Path(path).suffix.lower() in RASTERS:
        return raster_labels(path, names=mapping)
    return read_labels(
        path, layer=layer, field=field, crs_to=crs_to, id_field=id_field, mapping=mapping, crs=crs
    )
