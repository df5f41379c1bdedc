"""The practical's two data sets: MNIST and Fashion-MNIST from the user's files, or sample tiles.

Nothing is downloaded. The folder is the one that torchvision keeps (`MNIST/raw` and
`FashionMNIST/raw` in it, or `MNIST` and `FashionMNIST` alone), files with or without `.gz`.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.data.splits import Split, by_group, stratified
from geotl.data.tile_array import read_tiles
from geotl.data.tiles import index_folder
from geotl.errors import DataError
from geotl.experiments.recipe import resolve_root
from geotl.imagery.sensors import get_sensor
from geotl.reporting.rendering import quicklook

FOLDER = "GEOTL_MNIST"  # the environment variable that names the folder
MOST_TRAINING = 1024  # images to learn from, where there are as many
TILE_PX = 28  # the middle of a tile, as large as MNIST's images
BANDS = ("B08", "B04", "B03")  # near infrared, red, green: vegetation is red
LIMITS = ((1000.0, 1000.0, 1000.0), (5500.0, 3000.0, 3000.0))  # DN shown as 0 and as 255
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat")
FASHION += ("sandal", "shirt", "sneaker", "bag", "ankle boot")
PLACES = {"MNIST": "MNIST", "Fashion-MNIST": "FashionMNIST"}


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures.

    Attributes:
        images: uint8 [N, C, S, S].
        labels: numbers of the classes, int64 [N].
        groups: the site of each tile; pictures of one site resemble each other. None without.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> Pictures:
        """Some of them."""
        groups = None if self.groups is None else tuple(self.groups[row] for row in rows)
        return Pictures(self.images[rows], self.labels[rows], groups)

    def split(self, share: float, *, seed: int = 0) -> tuple[Pictures, Pictures]:
        """The rest, and a share of every class held out; whole sites where there are sites."""
        if self.groups is None:
            parts: Split = stratified(self.labels, share, seed=seed)
        else:
            parts = by_group(self.groups, self.labels, share, seed=seed)
        return self.take(parts.train), self.take(parts.test)


@dataclass(frozen=True)
class DataSet:
    """Pictures for the training and pictures for the test."""

    name: str
    classes: tuple[str, ...]
    learn: Pictures
    test: Pictures


def load(folder: str | Path | None = None) -> tuple[DataSet, DataSet]:
    """The two data sets of the practical.

    Args:
        folder: of the user's MNIST and Fashion-MNIST files; None takes the one that the
            environment variable GEOTL_MNIST names, and the sample tiles where it names none.

    Raises:
        DataError: a file that is not there, or no IDX file.
    """
    folder = folder or os.environ.get(FOLDER)
    if not folder:
        return sample_tiles("source"), sample_tiles("target")
    digits = tuple("0123456789")
    return mnist(Path(folder), "MNIST", digits), mnist(Path(folder), "Fashion-MNIST", FASHION)


def mnist(folder: Path, name: str, classes: tuple[str, ...]) -> DataSet:
    """One of the MNIST-like sets: the first 1,024 training images, and all test images.

    The files are in a random order, so the first ones are as good as any.
    """
    parts = []
    for part, most in (("train", MOST_TRAINING), ("t10k", None)):
        images = read_idx(_found(folder, name, f"{part}-images-idx3-ubyte"))
        labels = read_idx(_found(folder, name, f"{part}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max() >= len(classes):
            raise DataError(
                f"{folder}: {name}, {part}: images of shape {images.shape} and labels of shape "
                f"{labels.shape} up to {labels.max()}; wanted are [N, S, S] and [N] below "
                f"{len(classes)}: get the four files of the set again"
            )
        parts.append(Pictures(images[:most, None], labels[:most].astype(np.int64)))
    return DataSet(name, classes, *parts)


def _found(folder: Path, name: str, file: str) -> Path:
    """The file of a set, wherever torchvision or a user's hand has put it."""
    inside = PLACES[name]
    for place in (folder / inside / "raw", folder / inside):
        for ending in ("", ".gz"):
            if (place / f"{file}{ending}").is_file():
                return place / f"{file}{ending}"
    raise DataError(
        f"{folder}: no {inside}/raw/{file}, nor with .gz; put the four files of {name} there, or "
        f"unset {FOLDER} to work on the sample tiles"
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes (LeCun's format), gzipped or not.

    Raises:
        DataError: no such file, damaged, or of another type than bytes.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); get it again") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an IDX file of bytes; get it again")
    start = 4 + 4 * raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4"))
    if len(raw) - start != math.prod(shape):
        raise DataError(
            f"{path}: {len(raw) - start} bytes of pixels where its header tells of "
            f"{math.prod(shape)}; it is truncated: get it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def sample_tiles(region: str) -> DataSet:
    """Sample tiles of a region as 8-bit false-colour pictures; a quarter of the sites for the test.

    Both regions are drawn with the same limits, so that a picture's bytes mean the same DN.
    """
    index = index_folder(resolve_root(f"sample:{region}"))
    paths, sensor = [tile.path for tile in index.tiles], get_sensor("sentinel2_l2a_n0400")
    pictures = [
        quicklook(image, valid, (0, 1, 2), LIMITS).transpose(2, 0, 1)
        for images, valids in read_tiles(paths, sensor, BANDS, None, TILE_PX)
        for image, valid in zip(images, valids, strict=True)
    ]
    groups = tuple(str(tile.group) for tile in index.tiles)
    whole = Pictures(np.stack(pictures), index.labels, groups)
    return DataSet(f"tuiles d'exemple, {region}", index.classes, *whole.split(0.25))
