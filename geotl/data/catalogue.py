"""Whatever may be said where tiles are asked for: folders, files, manifests, data sets by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from geotl.console import Log
from geotl.data.manifest import index_manifest, is_manifest, list_manifest
from geotl.data.tiles import DEFAULT_TABLE, TileIndex, index_folder, list_images
from geotl.data.torchgeo_datasets import PREFIX, copy_data_set
from geotl.imagery.sensors import Sensor


def index_tiles(
    root: str | Path,
    *,
    cache: Path,
    sensor: Sensor | None = None,
    table: str = DEFAULT_TABLE,
    class_depth: int = 1,
    say: Log = print,
) -> TileIndex:
    """The labelled tiles of a folder of class folders, a manifest, or a torchgeo data set.

    Args:
        root: a folder, a .csv or .geojson file, or `torchgeo:NAME:FOLDER`.
        cache: folder below which a torchgeo data set is copied.
        sensor: whose bands the names of files tell, for tiles in several files.
        table: of split and group in a folder: see `index_folder`.
        class_depth: levels of class folders: see `index_folder`.
        say: told of what takes long.

    Raises:
        DataError: tiles, a table or a data set that cannot be used.
    """
    if str(root).startswith(PREFIX):
        return index_manifest(copy_data_set(str(root), cache, say), sensor=sensor)
    if is_manifest(Path(root)):
        return index_manifest(root, sensor=sensor)
    return index_folder(root, table=table, sensor=sensor, class_depth=class_depth)


def list_tiles(paths: Iterable[str | Path], sensor: Sensor | None = None) -> list[Path]:
    """The tiles among files, folders (searched to any depth) and manifests, each once.

    Raises:
        DataError: a path that does not exist, a folder without images, a faulty manifest.
    """
    found: dict[Path, None] = {}
    for given in map(Path, paths):
        inside = (
            list_manifest(given, sensor) if is_manifest(given) else list_images([given], sensor)
        )
        found.update(dict.fromkeys(inside))
    return list(found)
