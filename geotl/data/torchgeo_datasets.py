"""Data sets that torchgeo knows by name, copied once into tiles and a manifest.

The only module that imports torchgeo's data sets; torchgeo is an optional extra. Nothing is
downloaded: the data set must lie on disk in the layout that torchgeo expects.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.console import Log
from geotl.errors import DataError, nearest
from geotl.io.cache_entries import kept
from geotl.io.files import given_path, write_text
from geotl.io.raster import Grid, write
from geotl.io.tables import TableWriter

PREFIX = "torchgeo:"
MANIFEST = "tiles.csv"
_COPY_FORMAT = 1
_SPLITS = ("train", "val", "test")
_NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def parse(root: str) -> tuple[str, Path]:
    """Name and folder of `torchgeo:NAME:FOLDER`.

    Raises:
        DataError: a part is missing.

    >>> parse("torchgeo:EuroSAT:/data")[0]
    'EuroSAT'
    """
    name, _, folder = root.removeprefix(PREFIX).partition(":")
    if not (name and folder):
        raise DataError(f"{root}: incomplete; allowed: torchgeo:NAME:FOLDER")
    return name, given_path(folder).absolute()


def copy_data_set(root: str, cache: Path, log: Log = print) -> Path:
    """Write a torchgeo data set's samples as tiles below `cache`, once; return their manifest.

    The tiles carry the band names that the data set states. torchgeo hands out float32: whole
    numbers are stored in the smallest integer type that fits a tile. Its splits become the
    manifest's column `split`.

    Raises:
        DataError: torchgeo is not installed or knows no such data set, it is not where it should
            be, or it does not hold one class a tile.
        OutputError: the cache cannot be written.
    """
    name, folder = parse(root)
    kind = _kind(root, name)
    if not folder.is_dir():
        raise DataError(
            f"{root}: no such folder {folder}; give the data set's own: {PREFIX}NAME:FOLDER"
        )
    copied = cache / f"{name}-{_signature(name, folder)[:32]}"

    def make(part: Path) -> None:
        log(f"copying torchgeo's {name} from {folder}, once")
        _copy(root, kind, folder, part)

    return kept(copied, make, log=log) / MANIFEST


def band_names(data_set: object, count: int) -> tuple[str, ...]:
    """The names a data set states for its channels; () if it states none for so many.

    >>> class Held:
    ...     bands = ("B04", "B03")
    >>> band_names(Held(), 2), band_names(Held(), 3)
    (('B04', 'B03'), ())
    """
    for attribute in ("bands", "all_band_names", "all_bands"):
        names = getattr(data_set, attribute, None)
        if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == count:
            return tuple(str(name) for name in names)
    return ()


def smallest(image: NDArray[Any]) -> NDArray[Any]:
    """An image in the smallest integer type that stores it exactly; unchanged if there is none.

    >>> smallest(np.array([0.0, 4000.0], np.float32)).dtype, smallest(np.array([0.5])).dtype
    (dtype('uint16'), dtype('float64'))
    """
    if not np.isfinite(image).all() or (image != np.rint(image)).any():
        return image
    for kind in (np.uint8, np.uint16, np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= image.min() and image.max() <= limits.max:
            return image.astype(kind)
    return image


def _kind(root: str, name: str) -> Any:
    try:
        import torchgeo.datasets as known
    except ImportError as error:
        raise DataError(
            f"{root}: needs torchgeo, which is not installed ({error}); run "
            "pip install 'geotl[torchgeo]'"
        ) from error
    names = [n for n in known.__all__ if _plain(getattr(known, n), known.NonGeoDataset)]
    if name not in names:
        raise DataError(
            f"{root}: torchgeo has no data set of tiles {name!r}; {nearest(name, names)}"
        )
    return getattr(known, name)


def _plain(kind: object, base: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, base) and not inspect.isabstract(kind)


def _signature(name: str, folder: Path) -> str:
    """A hash of the state of a data set's folder: sizes and times of its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [
        (path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
        for path in files
        for stat in [path.stat()]
    ]
    return hashlib.sha256(
        json.dumps([_COPY_FORMAT, name, str(folder), states]).encode()
    ).hexdigest()


def _copy(root: str, kind: Any, folder: Path, part: Path) -> None:
    """Write every split's samples and their manifest into an empty folder."""
    rows = io.StringIO()
    table = TableWriter(rows)
    table.writerow(["path", "label", "split"])
    for split in _splits(kind):
        for path, label in _write_split(_opened(root, kind, folder, split), split, part, root):
            table.writerow([path, label, split or ""])
    write_text(part / MANIFEST, rows.getvalue())


def _splits(kind: Any) -> tuple[str | None, ...]:
    """The splits a data set names; (None,) if it has none."""
    wanted = inspect.signature(kind).parameters.get("split")
    if wanted is None:
        return (None,)
    stated = getattr(kind, "splits", None)
    if stated and all(isinstance(word, str) for word in stated):
        return tuple(stated)
    hints = typing.get_args(typing.get_type_hints(kind.__init__).get("split"))
    return tuple(word for word in hints if isinstance(word, str)) or _SPLITS


def _opened(root: str, kind: Any, folder: Path, split: str | None) -> Any:
    options: dict[str, Any] = {"root": str(folder), "download": False}
    if split is not None:
        options["split"] = split
    parameters = inspect.signature(kind).parameters
    try:
        return kind(**{key: value for key, value in options.items() if key in parameters})
    except (OSError, ValueError, RuntimeError, AssertionError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{root}: torchgeo cannot open its {split or 'tiles'} ({reason}); nothing is "
            "downloaded: "
            "arrange the files as in torchgeo's documentation of the data set"
        ) from error


def _write_split(
    data_set: Any, split: str | None, part: Path, root: str
) -> Iterator[tuple[str, str]]:
    """Write one split's samples; yield path below the folder and class name of each."""
    classes = getattr(data_set, "classes", None)
    sources = getattr(data_set, "imgs", None)
    for number in range(len(data_set)):
        image, label = _sample(data_set, number, root)
        if not classes or not 0 <= label < len(classes):
            raise DataError(f"{root}: label {label} has no name; only sets with `classes` are read")
        stem = f"_{Path(sources[number][0]).stem}" if sources else ""
        path = f"{split or 'tiles'}/{number:06d}{stem}.tif"
        grid = Grid(None, _NOWHERE, image.shape[1], image.shape[2])
        write(part / path, smallest(image), grid, band_names(data_set, len(image)))
        yield path, str(classes[label])


def _sample(data_set: Any, number: int, root: str) -> tuple[NDArray[Any], int]:
    """Pixels [C,H,W] and class of one sample."""
    sample = data_set[number]
    image, label = sample.get("image"), sample.get("label")
    if image is None or image.ndim != 3:
        raise DataError(f"{root}: sample {number} has no image [C,H,W]; use another data set")
    if label is None or np.asarray(label).size != 1:
        raise DataError(f"{root}: sample {number} needs just one class; use a classification set")
    return np.asarray(image), int(np.asarray(label).reshape(-1)[0])
