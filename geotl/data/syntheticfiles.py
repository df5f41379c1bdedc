"""Synthetic tiles on disk: marked GeoTIFFs, a manifest, and the hashes of what they came from."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geotl.arrays import Int64s
from geotl.data.manifest import index_manifest
from geotl.data.tiles import DEFAULT_TABLE, SYNTHETIC, Tile
from geotl.errors import DataError, nearest
from geotl.imagery.sensors import Sensor
from geotl.io import raster
from geotl.io.files import write_text
from geotl.io.raster import Grid

SOURCES, SOURCES_TAG = "sources.txt", "GEOTL_SOURCES"
HEADER = ("path", "label", "split", "synthetic", "sources")
DIGITS = 16  # of each source's hash, in a tile's own tags


def digest_of(sources: Sequence[str]) -> str:
    """One SHA-256 for the contents a generator learnt from, whatever their order.

    >>> digest_of(["b", "a"]) == digest_of(["a", "b"])
    True
    """
    return hashlib.sha256("\n".join(sorted(set(sources))).encode()).hexdigest()


def write_synthetic(
    folder: Path,
    images: NDArray[Any],
    labels: Int64s,
    *,
    classes: Sequence[str],
    bands: Sequence[str],
    sources: Sequence[str],
) -> list[Path]:
    """Write tiles into class folders, each marked, and tell of them in tiles.csv and sources.txt.

    A tile's tags hold the mark and the first 16 digits of each source's hash; sources.txt holds
    them whole, and the manifest its SHA-256.

    Args:
        folder: into which they go.
        images: [M, C, S, S] in their native type.
        labels: class of each [M].
        classes: names.
        bands: names, in the order of the channels.
        sources: contents of the tiles that the generator learnt from.

    Raises:
        OutputError: the folder cannot be written.
    """
    whole = sorted(set(sources))
    tags = {SYNTHETIC: "generator", SOURCES_TAG: " ".join(one[:DIGITS] for one in whole)}
    grid = Grid(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), *images.shape[2:])
    paths, counts = [], [0] * len(classes)
    for image, label in zip(images, labels.tolist(), strict=True):
        name = classes[label]
        path = Path(name) / f"synthetic_{counts[label]:04d}.tif"
        raster.write(folder / path, image, grid, bands, tags=tags)
        paths.append(path)
        counts[label] += 1
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(HEADER)
    for path, label in zip(paths, labels.tolist(), strict=True):
        table.writerow([path.as_posix(), classes[label], "train", "true", digest_of(whole)])
    write_text(folder / SOURCES, "".join(f"{one}\n" for one in whole))
    write_text(folder / DEFAULT_TABLE, stream.getvalue())
    return [folder / path for path in paths]


def read_synthetic(folder: str | Path, classes: Sequence[str], sensor: Sensor) -> list[Tile]:
    """The tiles that `write_synthetic` left in a folder, with what their generator learnt from.

    Args:
        folder: as given to `geotl generate --out`.
        classes: of the tiles they are learnt with; theirs are among these.
        sensor: whose bands they hold.

    Raises:
        DataError: no such folder, a class that is none of these, or sources that are not theirs.
    """
    folder = Path(folder).expanduser().absolute()
    manifest, listed = folder / DEFAULT_TABLE, folder / SOURCES
    if not (manifest.is_file() and listed.is_file()):
        raise DataError(
            f"{folder}: no {DEFAULT_TABLE} with {SOURCES} in it; data.synthetic names a folder "
            "that geotl generate wrote"
        )
    index = index_manifest(manifest, sensor=sensor, synthetic=True)
    sources = frozenset(listed.read_text(encoding="utf-8").split())
    _check_sources(manifest, listed, digest_of(sorted(sources)))
    for name in index.classes:
        if name not in classes:
            raise DataError(f"{manifest}: label {name!r}: {nearest(name, classes)}")
    known = [classes.index(name) for name in index.classes]
    return [
        replace(tile, label=known[tile.label], split=None, sources=sources)
        for tile in index.tiles
        if tile.label is not None
    ]


def _check_sources(manifest: Path, listed: Path, digest: str) -> None:
    """Hold every row of a manifest against the list of sources.

    Raises:
        DataError: they differ.
    """
    with manifest.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row.get("sources") != digest:
                raise DataError(
                    f"{manifest}: {row.get('path')} names other sources than {listed} holds; "
                    "generate the tiles anew"
                )
