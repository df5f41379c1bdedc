"""The Python interface of geotl: load a model, classify tiles and map scenes."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Pixels
from geotl.console import Log, silent
from geotl.data.manifest import list_tiles
from geotl.data.tile_array import to_batch
from geotl.errors import BandError, DataError, ModelError
from geotl.evaluation.evaluate import Evaluation, evaluate, softmax
from geotl.evaluation.prediction_sets import in_sets, stored_limits
from geotl.imagery.measurable import measurable
from geotl.imagery.scene import MaskChoice
from geotl.imagery.sensors import Sensor
from geotl.inference.labelled_tiles import (
    check_tiles,
    labelled_tiles,
    marked,
    test_rows,
    tile_blocks,
)
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_model import (
    ServedModel,
    check_precision,
    on_device,
    open_predictor,
)
from geotl.models.classifier import TileClassifier, view_logits
from geotl.models.device import Precision, autocast, choose_device
from geotl.models.model_file import ModelFile, not_of_tiles

if TYPE_CHECKING:
    import xarray as xr

    from geotl.mapping.options import MapOptions

_Tiles = tuple[NDArray[Any], Bools | None]  # [N,C,S,S] and its valid pixels


_P = ParamSpec("_P")
_R = TypeVar("_R")
_OLD_ARGUMENTS = {"say": "log", "force": "skip_value_check", "learnt": "include_training"}


def _with_old_arguments(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a method take arguments under the names of earlier versions, with a warning."""

    @functools.wraps(method)
    def renamed(*args: _P.args, **given: _P.kwargs) -> _R:
        for old in given.keys() & _OLD_ARGUMENTS.keys():
            _warn_of(f"{old}=", f"{_OLD_ARGUMENTS[old]}=")
            given[_OLD_ARGUMENTS[old]] = given.pop(old)
        return method(*args, **given)

    return renamed


def _warn_of(old: str, new: str) -> None:
    text = f"{old} is now {new}; the old name works until the next release"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


class SceneReading(TypedDict, total=False):
    """Options of `Model.map` to read a scene and to select a part of it; all are optional.

    Attributes:
        sensor: the scene's, None for the model's.
        mask: mask of clouds, for a scene on disk; "auto" unless given, see `scene.open_scene`.
        aoi: a file of polygons: the part to map.
        bbox: left, bottom, right, top of the part to map, in the scene's reference system.
        extra: rasters with bands that a model of pixels needs in addition to the scene's.
    """

    sensor: Sensor | None
    mask: MaskChoice
    aoi: str | Path | None
    bbox: Sequence[float] | None
    extra: Sequence[str | Path]


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for N tiles.

    Attributes:
        classes: names, in the order of the columns.
        logits: float64 [N, K], before temperature scaling; after it from an exported file.
        probabilities: calibrated, [N, K].
        paths: the tiles' files, () for an array.
    """

    classes: tuple[str, ...]
    logits: Float64s
    probabilities: Float64s
    paths: tuple[Path, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each tile."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    @property
    def confidence(self) -> Float64s:
        """Probability of that class, [N]."""
        best: Float64s = self.probabilities.max(axis=1)
        return best

    @property
    def counts(self) -> dict[str, int]:
        """Number of tiles of each class, the most frequent first, without empty classes."""
        return dict(Counter(self.labels).most_common())

    def in_sets(self, limits: Float64s) -> Bools:
        """Possible classes of each tile [N, K], by the thresholds of `Model.set_limits`."""
        return in_sets(self.probabilities, limits)

    def __str__(self) -> str:
        """Tiles by class in a line.

        >>> chances = np.array([[0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
        >>> print(Predictions(("field", "wood"), np.log(chances), chances))
        3 tiles: wood 2, field 1
        """
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        number = len(self.probabilities)
        return f"{number} tile{'' if number == 1 else 's'}" + (f": {counts}" if counts else "")

    def __repr__(self) -> str:
        """The text of `str`, without the arrays."""
        return f"<Predictions of {self}>"


class Model:
    """A trained model, or one exported to ONNX, ready to predict and to map; of pixels, to map."""

    def __init__(self, file: Mapper) -> None:
        """Put the network on the best available device; an exported file is run on the CPU."""
        self.file, self.device = file, choose_device()
        if isinstance(file, ModelFile):
            on_device(file)

    @property
    def model_file(self) -> ModelFile:
        """The model file, with its network and what goes with it.

        Raises:
            ModelError: an exported file or a model of pixels, which have neither.
        """
        if isinstance(self._of_tiles, ModelFile):
            return self._of_tiles
        raise ModelError(
            f"{self.file.path}: an exported file does not show its network; this needs the "
            "model.safetensors that it was exported from"
        )

    @property
    def whole(self) -> ModelFile:
        """The name of `model_file` in earlier versions, which warns."""
        _warn_of("Model.whole", "Model.model_file")
        return self.model_file

    @property
    def _of_tiles(self) -> ModelFile | ServedModel:
        """The file, which takes tiles.

        Raises:
            ModelError: a model of pixels.
        """
        if isinstance(self.file, ModelFile | ServedModel):
            return self.file
        raise not_of_tiles(self.file.path, "pixels")

    @property
    def network(self) -> TileClassifier:
        """The network, on its device; see `model_file`."""
        return self.model_file.network

    @property
    def temperature(self) -> float:
        """Divisor of the logits of `predict`: 1 for an exported file, which has applied it."""
        file = self.file
        return float(file.network.temperature) if isinstance(file, ModelFile) else 1.0

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.file.contract.classes

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the input bands, in order."""
        return self.file.contract.bands

    @_with_old_arguments
    def predict(
        self,
        tiles: NDArray[Any] | str | Path | Sequence[str | Path],
        *,
        sensor: Sensor | None = None,
        precision: Precision = "auto",
        skip_value_check: bool = False,
        log: Log = silent,
    ) -> Predictions:
        """Classify tiles.

        Args:
            tiles: an array [N, C, S, S] or [C, S, S] of raw DN in the model's bands and sensor
                (NaN and the sensor's nodata are not seen), or image files, folders, folders of
                band files, or manifests.
            sensor: the files' sensor, if another one than the model's: bands are matched by
                name and DN are brought to the model's scale and offset.
            precision: number format of the network.
            skip_value_check: accept values outside the training range, too.
            log: called with a line on values impossible for the sensor, where there are some.

        Raises:
            DataError: a file that cannot be read, tiles of a wrong shape, or files with values
                outside the training range.
            BandError: bands missing.
        """
        file = self._of_tiles
        if isinstance(tiles, np.ndarray):
            return self._predictions(self._array_blocks(tiles), (), precision)
        given = [tiles] if isinstance(tiles, str | Path) else list(tiles)
        paths = list_tiles(given, sensor or file.contract.sensor)
        blocks = self._file_blocks(paths, sensor, skip_value_check=skip_value_check, log=log)
        return self._predictions(blocks, tuple(paths), precision)

    @_with_old_arguments
    def evaluate(
        self,
        data: str | Path,
        *,
        sensor: Sensor | None = None,
        skip_value_check: bool = False,
        include_training: bool = False,
        log: Log = silent,
    ) -> Evaluation:
        """Evaluate the model on labelled tiles: class folders, a manifest, or a torchgeo data set.

        Classes are matched by name; every one must be one of the model's classes. Class folders
        nest as deep as the model's class names do. Training tiles of the model, recognised by
        their pixels, are left out.

        Args:
            data: the tiles.
            sensor: sensor of the tiles, None for the model's.
            skip_value_check: accept values outside the training range, too.
            include_training: use the model's training tiles, too.
            log: called with the number of training tiles among them, or that it is not known.

        Raises:
            DataError: a class the model does not know, tiles that cannot be read, values outside
                the training range, or only training tiles.
        """
        index, truth = labelled_tiles(self._of_tiles.contract, data, sensor)
        paths, marks = [tile.path for tile in index.tiles], list[str]()
        blocks = self._file_blocks(paths, sensor, skip_value_check=skip_value_check, log=log)
        logits = self._predictions(marked(blocks, marks), tuple(paths), "auto").logits
        rows = test_rows(self.file.notes, marks, include_training=include_training, log=log)
        return evaluate(logits[rows], truth[rows], self.classes, temperature=self.temperature)

    def set_limits(self, coverage: float = 0.9) -> Float64s:
        """Probability from which each class belongs to a prediction set [K].

        Args:
            coverage: probability that a set holds the true class, of samples like the labels.

        Raises:
            ModelError: the file has no held-out probabilities: it was exported, or made by an
                earlier geotl.
            DataError: the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise DataError(f"coverage {coverage:g}: allowed is between 0 and 1")
        return stored_limits(self.file.notes, len(self.classes), coverage, self.file.path)

    def map(
        self,
        scene: str | Path | xr.DataArray,
        out: str | Path | None = None,
        *,
        options: MapOptions | None = None,
        quiet: bool = True,
        **reading: Unpack[SceneReading],
    ) -> xr.Dataset:
        """Map a scene, as `geotl map` does.

        Args:
            scene: a file or folder, or a DataArray with axes bands, y and x and a position for
                rioxarray.
            out: the class map to write, ending in .tif, with its other files next to it; None to
                write no files.
            options: options of the map.
            quiet: no progress, and nothing printed.
            **reading: how the scene is read and which part of it is mapped: `sensor`, `mask`,
                `aoi`, `bbox` and `extra`; see `SceneReading`.

        Returns:
            Variables `classes` (value 255 is no data; names, colours and values in its attributes,
            see `run.read_map`), `confidence` in percent, and other layers of the options. Needs
                xarray and rioxarray (extra `xarray`).

        Raises:
            DataError: a scene that the model cannot map, or no xarray.
            OutputError: an output that exists, or cannot be written.
        """
        from geotl.mapping.run import mapped_dataset
        from geotl.mapping.task import Reading

        how = Reading(**reading)
        return mapped_dataset(self.file, scene, out, options, reading=how, quiet=quiet)

    def _file_blocks(
        self, paths: Sequence[Path], sensor: Sensor | None, *, skip_value_check: bool, log: Log
    ) -> Iterator[Pixels]:
        file = self._of_tiles
        if not skip_value_check:
            check_tiles(file.contract, file.seen, paths, sensor)
        return tile_blocks(file.contract, paths, sensor, log=log)

    def _array_blocks(self, tiles: NDArray[Any]) -> Iterator[_Tiles]:
        stack = tiles[None] if tiles.ndim == 3 else tiles
        if stack.ndim != 4 or stack.shape[1] != len(self.bands):
            raise BandError(
                f"array of shape {tiles.shape}: give [N, {len(self.bands)}, S, S] with the bands "
                f"{', '.join(self.bands)}"
            )
        if stack.shape[2] != stack.shape[3]:
            raise DataError(f"array of shape {tiles.shape}: tiles must be square; crop or pad them")
        for start in range(0, len(stack), 128):
            part = stack[start : start + 128]
            yield part, self._known(part)

    def _known(self, part: NDArray[Any]) -> Bools:
        """The pixels of tiles [N,C,S,S] that are measurements."""
        of = measurable(self.file.contract.sensor, self.bands)
        return np.stack([of.possible(tile, np.isfinite(tile)) for tile in part])

    def _predictions(
        self, blocks: Iterator[_Tiles], paths: tuple[Path, ...], precision: Precision
    ) -> Predictions:
        if isinstance(self.file, ServedModel):
            check_precision(self.file, precision)
            parts = [self._served_logits(self.file, *tiles) for tiles in blocks]
        else:
            with torch.inference_mode(), autocast(self.device, precision):
                parts = [self._network_logits(*tiles) for tiles in blocks]
        logits = np.concatenate(parts) if parts else np.zeros((0, len(self.classes)))
        return Predictions(self.classes, logits, softmax(logits, self.temperature), paths)

    def _network_logits(self, images: NDArray[Any], valid: Bools | None) -> Float64s:
        fill = self.network.normalise.fill.cpu().numpy().astype(np.float64)
        image = to_batch(images, valid, fill=fill, device=self.device)["image"]
        logits: Float64s = view_logits(self.network, image).double().cpu().numpy()
        return logits

    def _served_logits(
        self, file: ServedModel, images: NDArray[Any], valid: Bools | None
    ) -> Float64s:
        fill = file.sweep.fill.astype(np.float64)
        image = to_batch(images, valid, fill=fill)["image"].numpy()
        return file.sweep.predict_tiles(image)[1].astype(np.float64)


def load(path: str | Path, *, engine: str | None = None) -> Model:
    """Load a model file, or one that was exported to ONNX.

    Args:
        path: a .safetensors file; or a .onnx file, which needs no other file.
        engine: engine of an exported file: onnxruntime (if None) or openvino.

    Raises:
        ModelError: not there, damaged, or not of geotl; an engine that is not installed, or one
            named for a model file.
    """
    return Model(open_predictor(Path(path), engine))
