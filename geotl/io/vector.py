"""Points and polygons on disk, and positions brought from one reference system to another.

The only module that imports geopandas and pyogrio, inside functions: half a second, which maps
seldom need.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from geotl.arrays import Float64s
from geotl.errors import DataError, nearest
from geotl.io.drivers import OFFLINE, check_vector
from geotl.io.files import given_path, whole_file
from geotl.io.raster import known_crs
from geotl.io.tables import CSV_SUFFIXES, Faults, csv_rows, number
from geotl.language import msg

Geometries = NDArray[np.object_]

_CSV_PLACES = (("x", "y"), ("lon", "lat"), ("longitude", "latitude"))
_CLASS_KINDS = (("OFTString",), ("OFTInteger", "OFTInteger64"))
_DEGREES = "EPSG:4326"
_STATE_IT = "state it, such as labels.crs=EPSG:4326 in a recipe or --crs EPSG:4326"
_EARTH_M = 6.371e6  # radius


@dataclass(frozen=True)
class Features:
    """Content of a vector file.

    Attributes:
        path: the file.
        ids: one for each feature, as the file numbers them; a CSV's are its lines.
        columns: values of each requested field, None where there is none.
        geometries: shapely geometries in two dimensions, None where there is none, [N].
        crs: reference system of all of them, as `Grid.crs` gives it.
        notes: remarks for the user, one line each.
    """

    path: Path
    ids: tuple[str, ...]
    columns: Mapping[str, tuple[Any, ...]]
    geometries: Geometries
    crs: str
    notes: tuple[str, ...] = ()


def read_features(
    path: str | Path,
    *,
    layer: str | None = None,
    fields: Sequence[str] = (),
    crs: str | None = None,
) -> Features:
    """Read a layer of any format that pyogrio reads, or a CSV of coordinates.

    A CSV has columns x, y or lon, lat (then in EPSG:4326 unless `crs` is given), and perhaps crs.

    Args:
        path: the file.
        layer: name of the layer; not needed where there is one.
        fields: names of the fields wanted.
        crs: reference system of the positions, which replaces the file's.

    Raises:
        DataError: no such file, layer or field; several layers and none chosen; no reference
            system.
    """
    path = given_path(path)
    crs = known_crs(crs) if crs is not None else None
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if path.suffix.lower() in CSV_SUFFIXES:
        return _from_csv(path, fields, crs)
    return _from_layer(path, _layer_of(path, layer), fields, crs)


def field_names(path: str | Path, *, layer: str | None = None) -> tuple[str, ...]:
    """The fields of a layer, or of a CSV of coordinates.

    Raises:
        DataError: no such file or layer; several layers and none chosen.
    """
    path = given_path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if path.suffix.lower() in CSV_SUFFIXES:
        return tuple(csv_rows(_csv_text(path), path)[0])
    import pyogrio

    chosen = _layer_of(path, layer)
    with _readable(path):
        fields = pyogrio.read_info(path, layer=chosen)["fields"]
    return tuple(str(name) for name in fields)


@dataclass(frozen=True)
class LabelLayer:
    """A layer of points, lines or areas, as far as it may hold labels.

    Attributes:
        name: its name, None for a CSV.
        fields: names of the fields that may hold a class: texts first, then whole numbers.
    """

    name: str | None
    fields: tuple[str, ...]


def label_layers(path: str | Path) -> tuple[LabelLayer, ...]:
    """The layers with geometries of a file, or a CSV of coordinates.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    path = given_path(path)
    if path.suffix.lower() in CSV_SUFFIXES:
        names = field_names(path)
        places = {*_place_columns(path, names), "crs"}
        return (LabelLayer(None, tuple(name for name in names if name not in places)),)
    import pyogrio

    _check(path)
    with _readable(path):
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        infos = [(name, pyogrio.read_info(path, layer=name)) for name in layers]
    return tuple(LabelLayer(name, _class_fields(info)) for name, info in infos)


def _class_fields(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields of texts, then those of whole numbers, of what pyogrio says of a layer."""
    kinds = [*zip(info["fields"], info["ogr_types"], strict=True)]
    return tuple(str(name) for some in _CLASS_KINDS for name, kind in kinds if kind in some)


def transformed(geometries: Geometries, source: str, target: str) -> Geometries:
    """Geometries [N] in another reference system (x and y in this order).

    What is straight in the source is curved in the target: edges get vertices until their
    middles are off by a centimetre at most. None stays None, and comes where a position cannot
    be expressed in the target.

    >>> there = transformed(np.array([shapely.Point(15, 0)]), "EPSG:4326", "EPSG:32633")
    >>> round(there[0].x), round(there[0].y)
    (500000, 0)
    """
    if source == target:
        return geometries
    dense = shapely.segmentize(geometries, _spacing(geometries, source, target))
    moved = shapely.transform(dense, lambda xy: positions(xy, source, target))
    coordinates, owner = shapely.get_coordinates(moved, return_index=True)
    lost = np.unique(owner[~np.isfinite(coordinates).all(axis=1)])
    moved[lost] = None
    return np.asarray(moved, dtype=object)


def positions(xy: Float64s, source: str, target: str) -> Float64s:
    """Positions [N,2] as x, y in another reference system; infinite where there is none.

    >>> positions(np.array([[15.0, 0.0]]), "EPSG:4326", "EPSG:32633").round(3).tolist()
    [[500000.0, 0.0]]
    """
    if source == target or not len(xy):
        return xy
    x, y = _transformer(source, target).transform(xy[:, 0], xy[:, 1])
    return np.column_stack([x, y])


def write_features(
    path: str | Path,
    geometries: Sequence[shapely.Geometry | None] | Geometries,
    columns: Mapping[str, Sequence[Any]],
    crs: str,
    *,
    layer: str | None = None,
    date: str | None = None,
) -> None:
    """Write a complete GeoPackage with one layer (named after the file), or none.

    Args:
        path: the file.
        geometries: geometries of the features, None for one without.
        columns: values of the fields, by name.
        crs: reference system.
        layer: name of the layer, None for the file's.
        date: kept in the file as that of its last change, such as 2024-05-01T10:00:00Z; None
            for now. With it, the same features give the same bytes.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    content = geopackage(geometries, columns, crs, layer=layer or path.stem, date=date)
    with whole_file(path) as part:
        part.write_bytes(content)


def geopackage(
    geometries: Sequence[shapely.Geometry | None] | Geometries,
    columns: Mapping[str, Sequence[Any]],
    crs: str,
    *,
    layer: str,
    date: str | None = None,
) -> memoryview:
    """The bytes that `write_features` writes, from the same arguments."""
    import geopandas
    import pyogrio

    shapes = np.empty(len(geometries), dtype=object)
    shapes[:] = list(geometries)
    table = geopandas.GeoDataFrame(dict(columns), geometry=shapes, crs=crs)
    memory = io.BytesIO()  # on a full disk GDAL omits the index without an error
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": date})
    try:
        pyogrio.write_dataframe(
            table, memory, driver="GPKG", layer=layer, geometry_type=_kind(shapes)
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    return memory.getbuffer()


def _kind(shapes: Geometries) -> str:
    kinds = {shape.geom_type for shape in shapes if shape is not None}
    return kinds.pop() if len(kinds) == 1 else "Unknown"


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    try:
        return pyproj.Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise DataError(
            f"positions in {source} cannot be brought to {target} ({error}); transform the labels "
            "with a GIS first"
        ) from error


def _spacing(geometries: Geometries, source: str, target: str) -> Float64s:
    """Longest edge [N] each geometry may have: an arc's height falls with its length squared."""
    tolerance = _centimetre(target)
    spacing = np.full(len(geometries), np.inf)
    for i, shape in enumerate(geometries):
        xy = shapely.get_coordinates(shape)
        if len(xy) < 2:
            continue
        length = np.hypot(*np.diff(xy, axis=0).T)
        middle = (xy[:-1] + xy[1:]) / 2
        ends, there = positions(xy, source, target), positions(middle, source, target)
        off = np.hypot(*((ends[:-1] + ends[1:]) / 2 - there).T)
        off = off[np.isfinite(off)]
        worst = off.max(initial=0.0)
        if worst > tolerance:
            spacing[i] = length.max() / np.ceil(np.sqrt(worst / tolerance))
    return spacing


def _centimetre(crs: str) -> float:
    """A centimetre in a system's units."""
    system = pyproj.CRS.from_user_input(crs)
    per_unit = system.axis_info[0].unit_conversion_factor  # metres or radians
    return 0.01 / per_unit / (_EARTH_M if system.is_geographic else 1.0)


def _layer_of(path: Path, wanted: str | None) -> str:
    import pyogrio

    _check(path)
    with _readable(path):
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    if wanted is not None:
        if wanted not in layers:
            raise DataError(
                f"{path}: no layer {wanted!r}; "
                + nearest(wanted, layers, "set labels.layer, or null where there is only one layer")
            )
        return wanted
    if len(layers) != 1:
        raise DataError(
            f"{path}: has {len(layers)} layers ({', '.join(layers)}); choose one with labels.layer "
            "in a recipe, or --layer of a command"
        )
    return layers[0]


def _check(path: Path) -> None:
    """Make sure that a file may be opened, and that nothing is fetched for it."""
    import pyogrio

    check_vector(path)
    pyogrio.set_gdal_config_options(dict(OFFLINE))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of a file that GDAL cannot read, or with invalid geometries, into one line.

    Raises:
        DataError: in place of whatever pyogrio, shapely and PROJ raised.
    """
    import pyogrio

    gdal_errors = pyogrio.errors
    faults: list[type[Exception]] = [
        gdal_errors.DataSourceError,
        gdal_errors.DataLayerError,
        gdal_errors.FeatureError,
    ]
    faults += [
        gdal_errors.FieldError,
        gdal_errors.CRSError,
        gdal_errors.GeometryError,
        shapely.errors.ShapelyError,
    ]
    faults += [ProjError, ValueError, OverflowError, RuntimeError]
    try:
        yield
    except tuple(faults) as error:
        if isinstance(error, DataError):
            raise
        if path.is_dir():
            raise DataError(
                f"{path}: a folder, which holds no layer of points or polygons; give a file such "
                "as labels.gpkg"
            ) from error
        reason = " ".join(str(error).replace(str(path), "the file").split())
        raise DataError(
            f"{path}: cannot be read as points or polygons ({reason[:300]}); it is damaged or of "
            "another format: save it as a GeoPackage"
        ) from error


def _from_layer(path: Path, layer: str, fields: Sequence[str], crs: str | None) -> Features:
    import pyogrio

    with _readable(path):
        available = [str(name) for name in pyogrio.read_info(path, layer=layer)["fields"]]
    _check_fields(path, fields, available)
    with (
        _readable(path),
        warnings.catch_warnings(record=True) as gdal_warnings,
    ):  # GDAL's, handed on
        warnings.simplefilter("always")
        table = pyogrio.read_dataframe(
            path, layer=layer, columns=list(dict.fromkeys(fields)), fid_as_index=True, force_2d=True
        )
    notes = [f"{path}: {' '.join(str(w.message).split())}" for w in gdal_warnings]
    file_crs = getattr(table, "crs", None)
    file_crs = None if file_crs is None else known_crs(file_crs.to_string())
    if crs is None and file_crs is None:
        raise DataError(f"{path}: does not state its reference system; {_STATE_IT}")
    if crs is not None and file_crs is not None and crs != file_crs:
        notes.append(
            msg(
                "{path}: read as {crs}, as requested, although the file states {stated}",
                path=path,
                crs=crs,
                stated=file_crs,
            )
        )
    shapes = np.full(len(table), None, dtype=object)
    if "geometry" in table:
        shapes[:] = table.geometry.array
    columns = {name: tuple(map(_plain, table[name])) for name in fields}
    ids = tuple(str(number) for number in table.index)
    return Features(path, ids, columns, shapes, str(crs or file_crs), tuple(dict.fromkeys(notes)))


def _plain(value: Any) -> Any:
    """None for missing values of pandas; an integer where pandas made one a float.

    >>> _plain(3.0), _plain(float("nan")), _plain("a")
    (3, None, 'a')
    """
    if isinstance(value, float):
        return None if np.isnan(value) else int(value) if value.is_integer() else value
    return None if str(value) in ("<NA>", "NaT", "None") else value


def _check_fields(path: Path, wanted: Sequence[str], available: Sequence[str]) -> None:
    for name in wanted:
        if name not in available:
            hint = nearest(name, available)
            listed = "" if hint.startswith("allowed") else f" allowed: {', '.join(available)}"
            raise DataError(f"{path}: no field {name!r}; {hint}{listed}")


def _from_csv(path: Path, fields: Sequence[str], crs: str | None) -> Features:
    columns, cells = csv_rows(_csv_text(path), path)
    _check_fields(path, fields, columns)
    x, y = _place_columns(path, columns)
    rows = list(cells)
    points = [_point(row[x], row[y]) for _, row in rows]
    default_crs = None if x.lower() == "x" else _DEGREES
    faults = Faults(path)
    systems = [crs or _crs_of(line, row, faults) or default_crs for line, row in rows]
    for (line, row), point, system in zip(rows, points, systems, strict=True):
        if point is not None and system is None and not row.get("crs"):
            words = f"does not state its reference system; add a column crs, or {_STATE_IT}"
            faults.add(line, words)
    faults.check()
    common = next((system for system in systems if system), _DEGREES)
    ids = tuple(str(line) for line, _ in rows)
    field_values = {name: tuple(row[name] or None for _, row in rows) for name in fields}
    return Features(path, ids, field_values, _in_one_system(points, systems, common), common)


def _csv_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it in UTF-8") from error


def _place_columns(path: Path, columns: Sequence[str]) -> tuple[str, str]:
    by_case = {name.lower(): name for name in columns}
    for x, y in _CSV_PLACES:
        if x in by_case and y in by_case:
            return by_case[x], by_case[y]
    raise DataError(
        f"{path}: no columns x and y, or lon and lat, among {list(columns)}; name them in the "
        "first line"
    )


def _crs_of(line: int, row: Mapping[str, str], faults: Faults) -> str | None:
    try:
        return known_crs(row["crs"]) if row.get("crs") else None
    except DataError as error:
        faults.add(line, f"gives {error}")
        return None


def _point(x: str, y: str) -> shapely.Point | None:
    there = number(x), number(y)
    return None if None in there else shapely.Point(there)


def _in_one_system(
    points: Sequence[shapely.Point | None], systems: Sequence[str | None], target: str
) -> Geometries:
    shapes = np.full(len(points), None, dtype=object)
    shapes[:] = points
    for source in {system for system in systems if system} - {target}:
        rows = [i for i, system in enumerate(systems) if system == source]
        shapes[rows] = transformed(shapes[rows], source, target)
    return shapes
