"""Scenes: opened from files, folders and products, and read by windows with clouds apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from geotl.arrays import Bools, Pixels
from geotl.errors import DataError
from geotl.imagery import products
from geotl.imagery.band_files import band_files, band_positions, check_band, finest_of
from geotl.imagery.cloud_masks import Span, find_mask, open_mask, rule_of
from geotl.imagery.measurable import Measurable, measurable
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import Axis, Window, align, resample
from geotl.io.images import NOWHERE, WindowReader, check_numbers
from geotl.io.raster import Grid, gdal_settings

MaskChoice = Literal["auto"] | Path | str | None
_DRIFT = 1e-3  # of a pixel, over the whole image: rounding of a transform's decimals


@dataclass(frozen=True)
class BandLayer:
    """Bands of a file, and their places on the scene's grid if it is another."""

    reader: WindowReader
    positions: tuple[int, ...]
    measurable: Measurable
    places: tuple[Axis, Axis] | None = None

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        if self.places is None:
            return self._stored(rows, columns)
        needed_rows, down = self.places[0].part(*rows)
        needed_columns, across = self.places[1].part(*columns)
        data, valid = self._stored(needed_rows, needed_columns)
        planes = [resample(d, v, down, across) for d, v in zip(data, valid, strict=True)]
        return np.stack([d for d, _ in planes]), np.stack([v for _, v in planes])

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Selected bands of rows and columns in fewer pixels, by nearest neighbour."""
        if self.places is not None:  # within a coarse pixel the same area
            rows, columns = self.places[0].part(*rows)[0], self.places[1].part(*columns)[0]
        bands_here = [self.positions[band] for band in bands]
        data, valid = self.reader.read(rows, columns, bands_here, shape)
        return data, self.measurable.possible(data, valid, bands)

    def _stored(self, rows: Span, columns: Span) -> Pixels:
        return self.measurable.measured(*self.reader.read(rows, columns, self.positions))

    def close(self) -> None:
        """Close open files; reading opens them again."""
        self.reader.close()


@dataclass(frozen=True)
class Stack:
    """Layers of one band each."""

    layers: tuple[BandLayer, ...]

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        with gdal_settings():
            read = [layer.read(rows, columns) for layer in self.layers]
        return np.concatenate([d for d, _ in read]), np.concatenate([v for _, v in read])

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Selected bands of rows and columns in fewer pixels, by nearest neighbour."""
        with gdal_settings():
            read = [self.layers[band].coarse(rows, columns, [0], shape) for band in bands]
        return np.concatenate([d for d, _ in read]), np.concatenate([v for _, v in read])

    def close(self) -> None:
        """Close open files; reading opens them again."""
        for layer in self.layers:
            layer.close()


class PixelSource(Protocol):
    """Where a scene's pixels come from."""

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        ...

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Selected bands inside the grid in fewer pixels, by nearest neighbour."""
        ...

    def close(self) -> None:
        """Close open files; reading opens them again."""
        ...


class Mask(Protocol):
    """Where a scene's clouds are known from."""

    @property
    def path(self) -> Path | None:
        """The mask's file, None where it is in none."""
        ...

    def read(self, rows: Span, columns: Span) -> tuple[Bools, Bools]:
        """Cloudy pixels and fill pixels, both [h,w], in rows and columns inside the grid."""
        ...

    def close(self) -> None:
        """Close open files; reading opens them again."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene that is read window by window, by any number of threads: see `windows.Imagery`."""

    name: str
    path: Path
    grid: Grid
    bands: tuple[str, ...]
    sensor: Sensor
    dtype: np.dtype[Any]
    acquired: str | None
    source: PixelSource
    mask: Mask | None = None
    parts: tuple[Path, ...] = ()  # files it lies in, where `path` does not lead to them

    def read(self, window: Window) -> Pixels:
        """Pixels in their native type and their validity, both [C,h,w].

        Not valid is what lies beyond the scene, nodata (the file's and the sensor's), NaN, and
        what the mask calls cloudy or fill.

        Raises:
            DataError: a file is damaged or gone.
        """
        shape = (len(self.bands), window.height, window.width)
        data, valid = np.zeros(shape, dtype=self.dtype), np.zeros(shape, dtype=bool)
        rows, columns = _inside(window, self.grid)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            place = (slice(None), *_placed(window, rows, columns))
            data[place], valid[place] = self.source.read(rows, columns)
            if self.mask is not None:
                valid[place] &= ~np.logical_or(*self.mask.read(rows, columns))
        return data, valid

    def coarse(self, window: Window, bands: Sequence[int], shape: tuple[int, int]) -> Pixels:
        """A window inside the grid in fewer pixels, for display: not resampled, not masked.

        Args:
            window: inside the grid.
            bands: positions of the bands wanted.
            shape: rows and columns wanted.

        Raises:
            DataError: a file is damaged or gone.
        """
        rows = window.row, window.row + window.height
        return self.source.coarse(rows, (window.col, window.col + window.width), bands, shape)

    def cloudy(self, window: Window) -> Bools:
        """Pixels [h,w] of cloud, shadow or the like in the mask; not its fill.

        Raises:
            DataError: a file is damaged or gone.
        """
        cloudy = np.zeros((window.height, window.width), dtype=bool)
        rows, columns = _inside(window, self.grid)
        if self.mask is not None and rows[0] < rows[1] and columns[0] < columns[1]:
            cloudy[_placed(window, rows, columns)] = self.mask.read(rows, columns)[0]
        return cloudy

    def close(self) -> None:
        """Close the scene's files; this also happens with the last reference to it."""
        self.source.close()
        if self.mask is not None:
            self.mask.close()


@dataclass(frozen=True)
class BandSet:
    """The files of a scene that has one for each band.

    Attributes:
        path: path of the scene: a folder, or a file that lists its images.
        files: by the sensor's names of the bands.
        images: these, and others of the scene among which a mask may be.
        claim: the product by its metadata or file names.
        acquired: date of acquisition as YYYY-MM-DD, if known.
    """

    path: Path
    files: Mapping[str, Path]
    images: tuple[Path, ...]
    claim: products.Claim | None = None
    acquired: str | None = None


def open_scene(
    path: str | Path,
    sensor: Sensor,
    bands: Sequence[str] | None = None,
    *,
    file_bands: Sequence[str] | None = None,
    mask: MaskChoice = "auto",
    name: str | None = None,
) -> Scene:
    """Open a scene; its headers are read, its pixels only window by window.

    Args:
        path: an image file of several bands (GeoTIFF, JPEG 2000, VRT), or a folder with one file
            for each band: loose, a Sentinel-2 SAFE, or a Landsat Collection 2 product.
        sensor: sensor of its digital numbers. A product of another sensor is rejected.
        bands: names of the bands wanted, in order; None for all of the sensor's.
        file_bands: the bands in file order, for a file that names none.
        mask: `auto` takes an SCL (Sentinel-2 L2A), QA_PIXEL (Landsat) or cloud_mask that is
            among the band files, next to the file under its name, or in it as a band. A path
            names any file of one band in which values other than 0 are not valid (or an SCL or
            QA_PIXEL, by its name). None for no mask.
        name: None for the file's or folder's.

    Raises:
        DataError: a file that cannot be read, no reference system, a rotated grid, bands that
            cover different areas, a mask that does not cover the scene, or a product that
            contradicts the sensor.
        BandError: a band that is missing, or there twice.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    wanted = sensor.canonical(bands or sensor.names)
    if path.is_dir():
        return _of_folder(path, sensor, wanted, mask, name)
    return _of_file(path, sensor, wanted, file_bands, mask, name)


def open_bands(
    of: BandSet,
    sensor: Sensor,
    bands: Sequence[str],
    *,
    mask: MaskChoice = "auto",
    name: str | None = None,
) -> Scene:
    """Open a scene of one file for each band, wherever these lie.

    Args:
        of: the files.
        sensor: sensor of the digital numbers.
        bands: the sensor's names of those wanted, in order.
        mask: as in `open_scene`; `auto` searches the files.
        name: None for the file's or folder's.

    Raises:
        DataError: as `open_scene`.
        BandError: a file with several bands, or with another one.
    """
    readers = [WindowReader(of.files[band], band_count=1) for band in bands]
    infos = [reader.info for reader in readers]
    for band, info in zip(bands, infos, strict=True):
        check_grid(info.path, info.grid)
        check_band(info, sensor, band)
        check_numbers(info.path, info.dtype)
        products.check_scaling(info.path, info.scaling, sensor, [band])
    dtype = np.result_type(*(i.dtype for i in infos))
    grid = finest_of(of.path, infos).grid
    products.check_claim(of.path, of.claim, sensor, dtype)
    layers = tuple(
        BandLayer(
            r,
            (0,),
            measurable(sensor, [band]),
            None if r.info.grid == grid else align(grid, r.info.grid),
        )
        for r, band in zip(readers, bands, strict=True)
    )
    return Scene(
        name or _short(of.path),
        of.path,
        grid,
        tuple(bands),
        sensor,
        dtype,
        of.acquired,
        Stack(layers),
        _mask(mask, of.images, grid),
        () if of.path.is_dir() else of.images,
    )


def open_scenes(
    paths: Sequence[str | Path],
    sensor: Sensor,
    bands: Sequence[str] | None = None,
    *,
    file_bands: Sequence[str] | None = None,
    mask: MaskChoice = "auto",
) -> list[Scene]:
    """Open several scenes as `open_scene` does, each under a name of its own.

    Raises:
        DataError: no paths, one that is there twice, and what `open_scene` raises.
        BandError: as `open_scene`.
    """
    if not paths:
        raise DataError("no scenes to open; give some")
    twice = [p for p, n in Counter(Path(p).resolve() for p in paths).items() if n > 1]
    if twice:
        raise DataError(f"{twice[0]}: given more than once; give each scene once")
    return [
        open_scene(path, sensor, bands, file_bands=file_bands, mask=mask, name=name)
        for path, name in zip(paths, scene_names(paths), strict=True)
    ]


def scene_names(paths: Sequence[str | Path]) -> list[str]:
    """A short name for each scene: its file's or folder's, where needed with the folder's above.

    >>> scene_names(["a/x.tif", "b/x.tif", "y.SAFE"])
    ['a_x', 'b_x', 'y']
    """
    names = [_short(Path(path)) for path in paths]
    shared = {name for name, count in Counter(names).items() if count > 1}
    longer = [
        f"{Path(path).absolute().parent.name}_{name}" if name in shared else name
        for path, name in zip(paths, names, strict=True)
    ]
    used: Counter[str] = Counter()
    for place, name in enumerate(longer):
        while used[longer[place]]:
            used[name] += 1
            longer[place] = f"{name}-{used[name]}"
        used[longer[place]] += 1
    return longer


def check_grid(path: Path, grid: Grid) -> None:
    """Make sure that a grid lies somewhere, north up.

    Raises:
        DataError: no reference system, no position, or rows and columns that do not run south
            and east.
    """
    if grid.crs is None:
        raise DataError(
            f"{path}: states no coordinate reference system, so nothing can be laid on it; set it "
            "(gdal_edit.py -a_srs EPSG:CODE FILE)"
        )
    a, b, _, d, e, _ = grid.transform
    turned = max(abs(b) * grid.height, abs(d) * grid.width) > _DRIFT * max(abs(a), abs(e))
    if turned or a <= 0 or e >= 0:
        nowhere = grid.transform == NOWHERE
        fault = "states no position" if nowhere else "is rotated, sheared or mirrored"
        numbers = ", ".join(f"{value:.10g}" for value in grid.transform)
        raise DataError(
            f"{path}: its grid {fault} (geotransform {numbers}); warp it north-up first "
            "(gdalwarp -r near IN OUT)"
        )


def _of_file(  # noqa: PLR0917 - what open_scene was given
    path: Path,
    sensor: Sensor,
    bands: tuple[str, ...],
    file_bands: Sequence[str] | None,
    mask: MaskChoice,
    name: str | None,
) -> Scene:
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path}: an archive; unpack it and give the folder in it")
    reader = WindowReader(path, band_count=len(file_bands or sensor.file_order) or None)
    info = reader.info
    check_grid(path, info.grid)
    check_numbers(path, info.dtype)
    positions = band_positions(info, sensor, bands, file_bands)
    products.check_claim(path, products.claim_of([path.stem]), sensor, info.dtype)
    products.check_scaling(path, [info.scaling[p] for p in positions], sensor, bands)
    inside = next((band for band in info.band_names if band and rule_of(band)), None)
    if mask == "auto" and inside is not None:
        laid: Mask | None = open_mask(path, info.grid, band=inside)
    else:
        laid = _mask(mask, products.sibling_images(path), info.grid)
    return Scene(
        name or _short(path),
        path,
        info.grid,
        bands,
        sensor,
        info.dtype,
        info.acquired or products.date_in([path.stem]),
        BandLayer(reader, positions, measurable(sensor, bands)),
        laid,
    )


def _of_folder(
    path: Path, sensor: Sensor, bands: tuple[str, ...], mask: MaskChoice, name: str | None
) -> Scene:
    folder, images = products.scene_folder(path)
    files = band_files(folder, images, sensor, bands)
    claim = products.claim(folder, list(files.values()))
    of = BandSet(path, files, tuple(images), claim, _acquired(folder, files))
    return open_bands(of, sensor, bands, mask=mask, name=name)


def _acquired(folder: Path, files: dict[str, Path]) -> str | None:
    """The date in the names of the bands' files, else in the folder's.

    Raises:
        DataError: the files are of different dates.
    """
    dates = {path: products.date_in([path.stem]) for path in files.values()}
    path_by_date = {date: path for path, date in dates.items() if date}
    if len(path_by_date) > 1:
        listed = ", ".join(f"{path.name} ({date})" for date, path in sorted(path_by_date.items()))
        raise DataError(f"{folder}: bands of several dates: {listed}; give each date a folder")
    return next(iter(path_by_date), None) or products.date_in([folder.absolute().name])


def _mask(mask: MaskChoice, images: Sequence[Path], grid: Grid) -> Mask | None:
    mask_found = find_mask(images) if mask == "auto" else mask
    return None if mask_found is None else open_mask(Path(mask_found), grid)


def _short(path: Path) -> str:
    """A file's stem; a folder keeps its points, but for a product's ending."""
    name = path.absolute().name
    return re.sub(r"\.SAFE$", "", name) if path.is_dir() or name.endswith(".SAFE") else path.stem


def _inside(window: Window, grid: Grid) -> tuple[Span, Span]:
    """The window's rows and columns that lie on the grid; none where from is not before to."""
    return (
        (max(window.row, 0), min(window.row + window.height, grid.height)),
        (max(window.col, 0), min(window.col + window.width, grid.width)),
    )


def _placed(window: Window, rows: Span, columns: Span) -> tuple[slice, slice]:
    """Where rows and columns of the grid lie in the window."""
    return (
        slice(rows[0] - window.row, rows[1] - window.row),
        slice(columns[0] - window.col, columns[1] - window.col),
    )
