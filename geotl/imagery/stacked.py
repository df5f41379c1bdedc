"""Extra rasters laid on a scene's grid: elevation, radar, embeddings as further bands.

Their values are measurements in units of their own and have no wavelength. They are interpolated
bilinearly between valid pixels, and averaged where they are finer than the scene, as `resampling`
does it for scenes; a pixel has the same value in whatever window it is read. An extra band is valid
where its raster is and where a band of the scene is: beyond the scene's data and under its clouds
an extra raster gives no information.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geotl.arrays import Pixels
from geotl.errors import DataError
from geotl.imagery.cloud_masks import Span
from geotl.imagery.measurable import anything
from geotl.imagery.resampling import meets, resampled
from geotl.imagery.scene import BandLayer, PixelSource, Scene, check_grid
from geotl.imagery.sensor_table import listed
from geotl.imagery.sensors import Sensor, known_band
from geotl.imagery.windows import Imagery
from geotl.io.images import WindowReader, check_numbers
from geotl.io.raster import RasterInfo


def open_extras(paths: Sequence[str | Path], sensor: Sensor) -> tuple[Scene, ...]:
    """Open extra rasters, each on its own grid.

    A band is called by its description, or FILE_1, FILE_2, ... where a band of the file has none
    or the sensor has a band of that name.

    Args:
        paths: paths of the rasters.
        sensor: sensor of the scenes they will be laid on.

    Raises:
        DataError: a file that cannot be read, has no reference system or a rotated grid; or two
            bands of one name.
    """
    extras = tuple(_open(Path(path), sensor) for path in paths)
    names = Counter(band for extra in extras for band in extra.bands)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        there = listed([str(extra.path) for extra in extras if {*twice} & {*extra.bands}])
        raise DataError(
            f"{there}: more than one extra band is called {twice[0]}; give each raster once, and "
            "bands descriptions of their own"
        )
    return extras


def stacked(scene: Scene, extras: Sequence[Scene]) -> Scene:
    """A scene with the bands of extra rasters behind its own, on its grid.

    Its pixels are float32, or the scene's own type where float32 does not hold that.

    Args:
        scene: scene with the grid and clouds of the result, and its place in the run.
        extras: result of `open_extras`.

    Raises:
        DataError: a raster that does not meet the scene, or is more than 64 times as fine.
    """
    if not extras:
        return scene
    return replace(
        scene,
        bands=(*scene.bands, *(band for extra in extras for band in extra.bands)),
        dtype=np.result_type(scene.dtype, np.float32),
        source=_Layers(scene, tuple(_laid(extra, scene) for extra in extras), tuple(extras)),
        parts=(*(scene.parts or (scene.path,)), *(extra.path for extra in extras)),
    )


def extra_sources(scene: Imagery) -> tuple[Path, ...]:
    """The file of each band of extra rasters that a scene was stacked with."""
    source = scene.source if isinstance(scene, Scene) else None
    files = source.files if isinstance(source, _Layers) else ()
    return tuple(one.path for one in files for _ in one.bands)


def own_bands(scene: Imagery) -> tuple[str, ...]:
    """The bands of a scene without those of extra rasters, which its sensor does not know."""
    return tuple(band for band in scene.bands if known_band(scene.sensor, band) is not None)


@dataclass(frozen=True)
class _Measured:
    """A raster's bands as float32 in the units that the file declares."""

    layer: BandLayer
    info: RasterInfo

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Values and validity [C,h,w] of rows and columns inside the grid."""
        return self._values(self.layer.read(rows, columns), self.layer.positions)

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Selected bands of rows and columns in fewer pixels, by nearest neighbour."""
        return self._values(self.layer.coarse(rows, columns, bands, shape), bands)

    def _values(self, pixels: Pixels, bands: Sequence[int]) -> Pixels:
        data, valid = pixels
        scales = np.array([self.info.scaling[band] for band in bands], np.float64)
        values = data * scales[:, :1, None] + scales[:, 1:, None]
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        good = valid & np.isfinite(single)
        return np.where(good, single, np.float32(0)), good

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self.layer.close()


@dataclass(frozen=True)
class _Layers:
    """The pixels of a scene, and of rasters laid on its grid behind them.

    Attributes:
        scene: the scene without the extra bands.
        laid: the rasters on the scene's grid.
        files: the same on their own grids.
    """

    scene: Scene
    laid: tuple[Scene, ...]
    files: tuple[Scene, ...]

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        scene_pixels, seen = self.scene.source.read(rows, columns)
        more = [one.source.read(rows, columns) for one in self.laid]
        there = seen.any(axis=0)
        return (
            np.concatenate([scene_pixels, *(data for data, _ in more)]),
            np.concatenate([seen, *(valid & there for _, valid in more)]),
        )

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Selected bands of rows and columns in fewer pixels, by nearest neighbour."""
        places: list[tuple[PixelSource, int]] = [
            (one.source, i) for one in (self.scene, *self.laid) for i in range(len(one.bands))
        ]
        several = [places[band] for band in bands]
        read = [source.coarse(rows, columns, [band], shape) for source, band in several]
        return np.concatenate([d for d, _ in read]), np.concatenate([v for _, v in read])

    def close(self) -> None:
        """Close all files; reading again opens them again."""
        for one in (self.scene, *self.files):
            one.source.close()


def _open(path: Path, sensor: Sensor) -> Scene:
    """One extra raster."""
    reader = WindowReader(path)
    info = reader.info
    check_grid(path, info.grid)
    check_numbers(path, info.dtype)
    count = len(info.band_names)
    source = _Measured(BandLayer(reader, tuple(range(count)), anything(count)), info)
    bands = _band_names(info, sensor)
    dtype = np.dtype(np.float32)
    return Scene(path.stem, path, info.grid, bands, sensor, dtype, None, source)


def _band_names(info: RasterInfo, sensor: Sensor) -> tuple[str, ...]:
    described = info.band_names if info.names_from == "descriptions" else ()
    free = [name for name in described if name and known_band(sensor, name) is None]
    if described and len(free) == len(info.band_names) == len({*free}):
        return tuple(free)
    return tuple(f"{info.path.stem}_{i + 1}" for i in range(len(info.band_names)))


def _laid(extra: Scene, scene: Scene) -> Scene:
    """An extra raster on a scene's grid."""
    if extra.grid == scene.grid:
        return extra
    if not meets(extra, scene.grid):
        raise DataError(
            f"{extra.path}: does not meet the scene {scene.path}; give a raster that covers it "
            "(gdalbuildvrt joins several)"
        )
    return resampled(extra, scene.grid)
