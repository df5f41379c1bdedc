"""An exported ONNX file in a model's place: opened, run by ONNX Runtime or OpenVINO, over windows.

The only place that imports openvino. Either engine is enough on a machine that serves.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from geotl.arrays import Float32s, Int64s
from geotl.errors import DataError, ModelError
from geotl.inference.applicability import Applicability
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_file import (
    INPUT,
    OUTPUTS,
    PASSPORT_VERSION,
    Runner,
    open_session,
    read_passport,
    session_faults,
)
from geotl.inference.onnx_pixels import ServedPixelModel, served_pixels
from geotl.inference.sliding_window import Mode, Predicted
from geotl.models.device import choose_device
from geotl.models.input_domain import Range
from geotl.models.model_file import Contract, ModelFile, contract_from, describe, load
from geotl.models.pixel_file import KIND, describe_pixels, is_pixel_model, load_pixel_model
from geotl.models.tensor_file import consistent

EngineName = Literal["onnxruntime", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
SUFFIX = ".onnx"
_EXTRA = {"onnxruntime": "geotl[onnx]", "openvino": "geotl[openvino]"}
BATCH = 128  # tiles times views in one batch


def is_exported(path: Path) -> bool:
    """Whether a path names an exported file rather than a model.

    >>> is_exported(Path("a/model.onnx")), is_exported(Path("model.safetensors"))
    (True, False)
    """
    return path.suffix.lower() == SUFFIX


def engine_for(path: Path, given: str | None) -> EngineName | None:
    """The engine for a file; None for a model file, which torch runs.

    Args:
        path: a model file, or one exported to ONNX.
        given: engine named by the user, None for onnxruntime.

    Raises:
        ModelError: an engine for a model file, one that is not known, or one not installed.
    """
    if not is_exported(path):
        if given is not None:
            raise ModelError(
                f"{path}: --engine {given} runs only exported files; leave it out, or give one "
                f"made with geotl export {path.name} --format onnx -o model{SUFFIX}"
            )
        return None
    wanted = next((name for name in ENGINES if name == (given or ENGINES[0])), None)
    if wanted is None:
        raise ModelError(f"engine {given!r}: allowed are {' and '.join(ENGINES)}")
    if not _installed(wanted):
        others = [name for name in ENGINES if _installed(name)]
        besides = f", or give --engine {others[0]}, which is installed" if others else ""
        raise ModelError(
            f"{path}: running it needs {wanted}; pip install '{_EXTRA[wanted]}'{besides}"
        )
    return wanted


def open_runner(path: Path, engine: EngineName, *, precision: str, threads: int) -> Runner:
    """A file ready to run on the CPU.

    Args:
        path: an ONNX file with a checked checksum.
        engine: installed engine.
        precision: number format of the file's network.
        threads: number of threads.

    Raises:
        ModelError: the engine cannot read the file.
    """
    if engine == "openvino":
        return _openvino(path, precision, threads)
    session, faults = open_session(path, threads), session_faults()

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        try:
            probabilities, logits = session.run(list(OUTPUTS), {INPUT: tiles})
        except faults as error:
            raise _stopped(path, "onnxruntime", error) from error
        return np.asarray(probabilities, np.float32), np.asarray(logits, np.float32)

    return run


def _openvino(path: Path, precision: str, threads: int) -> Runner:
    import openvino

    hints: dict[str, object] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    if precision == "float32":  # OpenVINO would take bfloat16 where the processor has it
        hints |= {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: openvino cannot read it ({reason})") from error

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        try:
            outputs = compiled({INPUT: tiles})
        except RuntimeError as error:
            raise _stopped(path, "openvino", error) from error
        probabilities, logits = (
            np.array(outputs[name], np.float32) for name in OUTPUTS
        )  # its memory
        return probabilities, logits

    return run


def _stopped(path: Path, engine: EngineName, error: Exception) -> ModelError:
    return ModelError(f"{path}: {engine} failed on a batch ({' '.join(str(error).split())})")


def version_of(engine: EngineName) -> str:
    """An engine with its version, such as `openvino 2025.1.0`."""
    return f"{engine} {importlib.metadata.version(engine)}"


def _installed(engine: EngineName) -> bool:
    return importlib.util.find_spec(engine) is not None


@dataclass(frozen=True)
class ServedSweep:
    """Prediction of windows with an exported file: window by window, as it was exported.

    Attributes:
        runner: runner of the file.
        px: side of a window in pixels.
        views: flips and quarter turns averaged inside the file.
        bands: number of bands.
        classes: number of classes.
        precision: number format of its network.
        engine: engine with its version.
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
    dense: None = None
    device: str = "cpu"

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels: NaN, which the graph knows."""
        return np.full(self.bands, np.nan, np.float32)

    @property
    def batch(self) -> int:
        """Windows per batch; the graph stacks their views."""
        return max(1, BATCH // self.views)

    def predict_tiles(self, tiles: Float32s) -> tuple[Float32s, Float32s]:
        """Probabilities and calibrated logits [N,K] of raw tiles [N,C,S,S], N in any number."""
        parts = [
            self.runner(np.ascontiguousarray(tiles[at : at + self.batch]))
            for at in range(0, len(tiles), self.batch)
        ]
        none = np.zeros((0, self.classes), np.float32)
        probabilities, logits = (
            np.concatenate([none, *(part[i] for part in parts)]) for i in (0, 1)
        )
        return probabilities, logits

    def predict_windows(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Predicted:
        """Predictions for windows of a block [C,H,W]; see `WindowPredictor.predict_windows`."""
        parts = [self.runner(windows)[0] for windows in self._windows(image, rows, cols)]
        shape = len(rows), len(cols)
        return Predicted(np.concatenate(parts).reshape(*shape, -1), np.zeros(shape, np.float32))

    def _windows(self, image: Float32s, rows: Int64s, cols: Int64s) -> Iterator[Float32s]:
        places = [(int(r), int(c)) for r in rows for c in cols]
        for start in range(0, len(places), self.batch):
            part = places[start : start + self.batch]
            yield np.stack([image[:, r : r + self.px, c : c + self.px] for r, c in part])


@dataclass(frozen=True)
class ServedModel:
    """An exported file, opened: its metadata, and the sweep that runs it.

    Attributes:
        contract: classes of the model and the imagery it needs.
        resolution_m: side of a training pixel in metres, None where unknown.
        seen: mean and standard deviation of the example tiles' bands.
        ground: boxes of training tiles by reference system.
        notes: the notes of the model it was exported from.
        path: path of the file.
        sweep: runs it.
    """

    contract: Contract
    resolution_m: float | None
    seen: Range
    ground: dict[str, list[list[float]]]
    notes: dict[str, Any]
    path: Path
    sweep: ServedSweep


def open_predictor(path: Path, engine: str | None = None) -> Mapper:
    """Open a model file, its network on the best device at hand, or one exported to ONNX.

    Args:
        path: a .safetensors file of a network or of a pixel model, or a .onnx file, which needs
            no other file.
        engine: engine of an exported file: onnxruntime (if None) or openvino.

    Raises:
        ModelError: not there, damaged, or not of geotl; an engine that is not installed, or one
            named for a model file.
    """
    if is_exported(path):
        return open_served(path, engine)
    if is_pixel_model(path):
        check_engine(path, engine)
        return load_pixel_model(path)
    engine_for(path, engine)
    return on_device(load(path))


def check_engine(path: Path, engine: str | None) -> None:
    """Make sure that no engine is named for a pixel model.

    Raises:
        ModelError: one is.
    """
    if engine is not None:
        raise ModelError(
            f"{path}: --engine {engine} runs only exported files, not a model of pixels; leave "
            "it out"
        )


def on_device(model: ModelFile) -> ModelFile:
    """A model file with its network on the best device at hand, in evaluation mode."""
    model.network.to(choose_device()).eval()
    return model


def open_served(path: Path, engine: str | None = None) -> ServedModel | ServedPixelModel:
    """Open a file that `geotl export --format onnx` made.

    Args:
        path: path of the file.
        engine: onnxruntime or openvino, None for onnxruntime.

    Raises:
        ModelError: damaged, foreign, or of another geotl; or an engine that is not there.
    """
    metadata = read_passport(path)
    if metadata.get("passport_version") != PASSPORT_VERSION:
        raise ModelError(
            f"{path}: metadata of version {metadata.get('passport_version')}, this geotl reads "
            f"{PASSPORT_VERSION}; export the model again, or install geotl {metadata.get('geotl')}"
        )
    if "deepness" in metadata:
        raise ModelError(
            f"{path}: made for QGIS's Deepness plugin, which feeds it scaled pixels; export the "
            "model with --format onnx to map or predict with it"
        )
    chosen = engine_for(path, engine)
    if chosen is None:
        raise ModelError(f"{path}: not an exported file; its name must end in .onnx")
    if metadata.get("kind") == KIND and chosen == "openvino":
        raise ModelError(
            f"{path}: --engine openvino cannot run a model of pixels, whose sums over "
            "windows need 64-bit integers, and which may contain forests; leave it out"
        )
    with consistent(path):
        threads, precision = torch.get_num_threads(), str(metadata["precision"])
        runner = open_runner(path, chosen, precision=precision, threads=threads)
        if metadata.get("kind") == KIND:
            return served_pixels(path, metadata, runner, version_of(chosen))
        return _served_tiles(path, metadata, runner, version_of(chosen))


def _served_tiles(
    path: Path, metadata: Mapping[str, Any], runner: Runner, engine: str
) -> ServedModel:
    """A model of tiles from its metadata.

    Raises:
        KeyError: the metadata lack something.
    """
    contract, precision = contract_from(metadata["contract"]), str(metadata["precision"])
    examples = metadata["examples"]
    seen = Range(np.array(examples["mean"]), np.array(examples["sd"]))
    resolution, ground, notes = metadata["resolution_m"], metadata["ground"], metadata["notes"]
    sweep = ServedSweep(
        runner,
        contract.tile_px,
        contract.spec.views,
        len(contract.bands),
        len(contract.classes),
        precision,
        engine,
    )
    return ServedModel(contract, resolution, seen, ground, notes, path, sweep)


def describe_exported(path: Path) -> str:
    """A description of an exported file, in a few lines; no engine is needed.

    Raises:
        ModelError: as `read_passport`.
    """
    metadata = read_passport(path)
    with consistent(path):
        if metadata.get("kind") == KIND:
            return describe_pixels(f"{path} (ONNX, of pixels)", metadata)
        metrics = metadata.get("notes", {}).get("metrics", {})
        origin = {"source": "of the model exported", "sha256": metadata["model_sha256"]}
        header = {**metadata["contract"], "metrics": metrics, "weights": origin}
        return describe(f"{path} (ONNX, {metadata['precision']})", header)


def check_precision(model: ServedModel | ServedPixelModel, wanted: str) -> None:
    """Make sure that an exported file computes in the number format wanted.

    Raises:
        DataError: it does not.
    """
    if wanted not in ("auto", model.sweep.precision):
        raise DataError(
            f"{model.path}: exported in {model.sweep.precision}, so it cannot compute in {wanted}; "
            "leave --precision away, or give the model.safetensors that it was exported from"
        )
