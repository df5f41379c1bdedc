"""An exported ONNX file in a model's place: what it says of itself, and how it looks at windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geotl.arrays import Float32s, Int64s
from geotl.errors import DataError, ModelError
from geotl.inference.applicability import Applicability
from geotl.inference.engines import Runner, engine_for, is_exported, open_runner, version_of
from geotl.inference.onnx_file import PASSPORT_VERSION, read_passport
from geotl.inference.sliding_window import Mode, Said
from geotl.models.device import choose_device
from geotl.models.input_domain import Range
from geotl.models.model_file import Contract, ModelFile, contract_from, describe, load

BATCH = 128  # tiles times views that go through the network at once


@dataclass(frozen=True)
class ServedSweep:
    """How an exported file looks at windows: each by itself, as it was exported.

    Attributes:
        runner: of the file.
        px: side of a window in pixels.
        views: flips and quarter turns averaged inside the file.
        bands: how many it takes.
        classes: how many it tells apart.
        precision: number format of its network.
        engine: what runs it, with its version.
    """

    runner: Runner
    px: int
    views: int
    bands: int
    classes: int
    precision: str
    engine: str
    mode: Mode = "exact"
    area: Applicability | None = None
    device: str = "cpu"

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels: NaN, which the graph knows."""
        return np.full(self.bands, np.nan, np.float32)

    @property
    def batch(self) -> int:
        """Windows computed at once; the graph stacks their views."""
        return max(1, BATCH // self.views)

    def judged(self, tiles: Float32s) -> tuple[Float32s, Float32s]:
        """Probabilities and calibrated logits [N,K] of raw tiles [N,C,S,S], N in any number."""
        parts = [
            self.runner(np.ascontiguousarray(tiles[at : at + self.batch]))
            for at in range(0, len(tiles), self.batch)
        ]
        none = np.zeros((0, self.classes), np.float32)
        chances, logits = (np.concatenate([none, *(part[i] for part in parts)]) for i in (0, 1))
        return chances, logits

    def look(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Said:
        """What the file says of windows of a block [C,H,W]; see `sweeping.look`."""
        parts = [self.runner(windows)[0] for windows in self._windows(image, rows, cols)]
        shape = len(rows), len(cols)
        return Said(np.concatenate(parts).reshape(*shape, -1), np.zeros(shape, np.float32))

    def _windows(self, image: Float32s, rows: Int64s, cols: Int64s) -> Iterator[Float32s]:
        places = [(int(r), int(c)) for r in rows for c in cols]
        for start in range(0, len(places), self.batch):
            part = places[start : start + self.batch]
            yield np.stack([image[:, r : r + self.px, c : c + self.px] for r, c in part])


@dataclass(frozen=True)
class ServedModel:
    """An exported file, opened: its passport, and the sweep that runs it.

    Attributes:
        contract: what it is and what imagery it takes.
        resolution_m: side of a training pixel in metres, None where unknown.
        seen: mean and standard deviation of the example tiles' bands.
        ground: boxes of training tiles by reference system.
        notes: what is told of the model it was exported from.
        path: of the file.
        sweep: runs it.
    """

    contract: Contract
    resolution_m: float | None
    seen: Range
    ground: dict[str, list[list[float]]]
    notes: dict[str, Any]
    path: Path
    sweep: ServedSweep


Mapper = ModelFile | ServedModel


def open_predictor(path: Path, engine: str | None = None) -> Mapper:
    """Open a model file, its network on the best device at hand, or one exported to ONNX.

    Args:
        path: a .safetensors file, or a .onnx file, which is enough by itself.
        engine: what runs an exported file: onnxruntime (if None) or openvino.

    Raises:
        ModelError: not there, damaged, or not of geotl; an engine that is not installed, or one
            named for a model file.
    """
    if is_exported(path):
        return open_served(path, engine)
    engine_for(path, engine)
    return on_device(load(path))


def on_device(model: ModelFile) -> ModelFile:
    """A model file with its network on the best device at hand, in evaluation mode."""
    model.network.to(choose_device()).eval()
    return model


def open_served(path: Path, engine: str | None = None) -> ServedModel:
    """Open a file that `geotl export --format onnx` made.

    Args:
        path: of the file.
        engine: onnxruntime or openvino, None for onnxruntime.

    Raises:
        ModelError: damaged, foreign, or of another geotl; or an engine that is not there.
    """
    told = read_passport(path)
    if told.get("passport_version") != PASSPORT_VERSION:
        raise ModelError(
            f"{path}: passport of version {told.get('passport_version')}, this geotl reads "
            f"{PASSPORT_VERSION}; export the model anew, or install geotl {told.get('geotl')}"
        )
    if "deepness" in told:
        raise ModelError(
            f"{path}: made for QGIS's Deepness plugin, which feeds it scaled pixels; export the "
            "model with --format onnx to map or predict with it"
        )
    chosen = engine_for(path, engine)
    if chosen is None:
        raise ModelError(f"{path}: not an exported file; its name must end in .onnx")
    try:
        contract, precision = contract_from(told["contract"]), str(told["precision"])
        examples = told["examples"]
        seen = Range(np.array(examples["mean"]), np.array(examples["sd"]))
        resolution, ground, notes = told["resolution_m"], told["ground"], told["notes"]
    except KeyError as error:
        raise ModelError(
            f"{path}: its passport lacks {error}, which mapping needs; export the model anew"
        ) from error
    runner = open_runner(path, chosen, precision=precision, threads=torch.get_num_threads())
    sweep = ServedSweep(
        runner,
        contract.tile_px,
        contract.spec.views,
        len(contract.bands),
        len(contract.classes),
        precision,
        version_of(chosen),
    )
    return ServedModel(contract, resolution, seen, ground, notes, path, sweep)


def describe_exported(path: Path) -> str:
    """What an exported file says of itself, in a few lines for people; no engine is needed.

    Raises:
        ModelError: as `read_passport`.
    """
    told = read_passport(path)
    metrics = told.get("notes", {}).get("metrics", {})
    origin = {"source": "of the model exported", "sha256": told["model_sha256"]}
    header = {**told["contract"], "metrics": metrics, "weights": origin}
    return describe(f"{path} (ONNX, {told['precision']})", header)


def check_precision(model: ServedModel, wanted: str) -> None:
    """Make sure that an exported file computes in the number format wanted.

    Raises:
        DataError: it does not.
    """
    if wanted not in ("auto", model.sweep.precision):
        raise DataError(
            f"{model.path}: exported in {model.sweep.precision}, so it cannot compute in {wanted}; "
            "leave --precision away, or give the model.safetensors that it was exported from"
        )
