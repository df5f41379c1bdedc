"""ONNX, torch.export and TorchScript files written, run, and compared with their model."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geotl.arrays import Float32s
from geotl.errors import ModelError
from geotl.export.deployable import Deployed
from geotl.inference.onnx_file import INPUT, IR_VERSION, OPSET, OUTPUTS, Runner, seal
from geotl.inference.onnx_model import open_runner
from geotl.models.model_file import ModelFile

METADATA_FILE = "geotl.json"
_WRITTEN_BY_ITSELF = ("version", ".data/version", ".data/serialization_id")
Precision = Literal["float32", "float16", "int8"]
BATCHES = (1, 7)
MAP_LIMIT = 1e-4  # of probabilities of pixels
ROUNDINGS = 4 * float(np.finfo(np.float32).eps)  # of the largest logit, which no runtime avoids


def exported(module: Deployed, tiles: Tensor) -> torch.export.ExportedProgram:
    """torch.export's graph for any batch size, of tiles [N,C,S,S] with N >= 2."""
    batch = torch.export.Dim("batch", min=1)
    return program_of(module, tiles, {0: batch})


def program_of(
    module: nn.Module, image: Tensor, free: Mapping[int, Any]
) -> torch.export.ExportedProgram:
    """torch.export's graph of a module with one input, some of whose axes are free."""
    with torch.no_grad():
        graph = torch.export.export(module, (image,), dynamic_shapes=(dict(free),))
    for part in graph.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:  # the folder of the code is private
                node.meta.pop("stack_trace", None)
    return graph


def write_pt2(module: Deployed, tiles: Tensor, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write torch.export's format; `geotl.json` inside it describes the model."""
    save_program(exported(module, tiles), path, metadata)


def save_program(
    program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, Any]
) -> None:
    """Save a graph of torch.export's with its metadata."""
    extra = {METADATA_FILE: json.dumps(metadata)}
    buffer = io.BytesIO()  # a path would give its name, a temporary one, to the archive's root
    torch.export.save(program, buffer, extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def write_torchscript(
    module: Deployed, tiles: Tensor, path: Path, metadata: Mapping[str, Any]
) -> None:
    """Write TorchScript, for those who still deploy it in C++."""
    with warnings.catch_warnings():
        # TorchScript is deprecated, as the documentation states; what the tracer
        # warns of are sizes that are fixed on purpose: all but the batch's.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        with torch.no_grad():
            traced = torch.jit.trace(module, (tiles,), check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files={METADATA_FILE: json.dumps(metadata)})
    path.write_bytes(_without_debugging(buffer))


def _without_debugging(archive: io.BytesIO) -> bytes:
    """TorchScript's archive without the places of the source on the machine it was made on."""
    archive.seek(0)
    reader, cleaned = torch._C.PyTorchFileReader(archive), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(cleaned)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in _WRITTEN_BY_ITSELF:
            content = reader.get_record(name)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return cleaned.getvalue()


def write_onnx(module: Deployed, tiles: Tensor, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write one ONNX file for any batch size, with its metadata and its checksum."""
    seal(onnx_of(exported(module, tiles), OUTPUTS), path, metadata)


def onnx_of(graph: torch.export.ExportedProgram, outputs: Sequence[str]) -> Any:
    """An onnx.ModelProto that onnxruntime 1.17 still reads, of a graph with one input."""
    program = torch.onnx.export(
        graph,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(outputs),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    for node in proto.graph.node:  # where in PyTorch's graph it came from
        del node.metadata_props[:]
    return proto


def run_pt2(path: Path) -> Runner:
    """Run a file of torch.export."""
    module = torch.export.load(path).module()
    return running(module)


def run_torchscript(path: Path) -> Runner:
    """Run a file of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in write_torchscript
        return running(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]


def run_onnx(path: Path) -> Runner:
    """Run an ONNX file in onnxruntime on the CPU."""
    return open_runner(path, "onnxruntime", precision="float32", threads=torch.get_num_threads())


def running(module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Runner:
    """Run a module of PyTorch's, a deployed network or one that was loaded."""

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        with torch.no_grad():
            probabilities, logits = module(torch.from_numpy(tiles))
        return probabilities.numpy(), logits.numpy()

    return run


@dataclass(frozen=True)
class Limits:
    """How far a file may be from its model.

    Attributes:
        logits: largest difference of calibrated logits.
        probabilities: largest difference of probabilities.
        agreement: minimum share of tiles with the same class.
    """

    logits: float = math.inf
    probabilities: float = 1.0
    agreement: float = 0.0


# float32: the order of sums differs between runtimes. float16: probabilities differed by 0.005
# on EuroSAT's tiles (docs/BENCHMARKS.md). int8: by 0.27 on a tile near a tie, and 1 tile in 60 got
# another class; there the limits only catch what is broken, and labelled tiles test the accuracy.
LIMITS: dict[Precision, Limits] = {
    "float32": Limits(logits=1e-4),
    "float16": Limits(probabilities=0.03, agreement=0.95),
    "int8": Limits(probabilities=0.5, agreement=0.8),
}


@dataclass(frozen=True)
class Parity:
    """Largest differences from the model over tiles, and how often both name the same class.

    Attributes:
        tiles: how many were compared, over all batch sizes.
        logits: largest difference of calibrated logits.
        probabilities: largest difference of probabilities.
        agreement: share of tiles with the same class.
        largest: the model's largest logit, sign aside; over 200 their rounding exceeds 1e-4.
    """

    tiles: int
    logits: float
    probabilities: float
    agreement: float
    largest: float = 0.0

    def fault(self, limits: Limits) -> str | None:
        """What is beyond the limits, in words; None where nothing is. NaN is beyond all."""
        allowed = max(limits.logits, ROUNDINGS * self.largest)
        if not self.logits <= allowed:
            return f"logits {self.logits:.2g} from the model's, more than {allowed:.2g}"
        if not self.probabilities <= limits.probabilities:
            return (
                f"probabilities {self.probabilities:.2g} from the model's, more than "
                f"{limits.probabilities:g}"
            )
        if not self.agreement >= limits.agreement:
            return (
                f"only {100 * self.agreement:.3g} % of its example tiles get the model's class, "
                f"fewer than {100 * limits.agreement:g} %"
            )
        return None

    def __str__(self) -> str:
        """In one line."""
        return (
            f"parity on {self.tiles} tiles at batches of {' and '.join(map(str, BATCHES))}: logits "
            f"within {self.logits:.1e}, probabilities within {self.probabilities:.1e}, "
            f"{100 * self.agreement:.4g} % with the same class"
        )


@dataclass(frozen=True)
class MapParity:
    """How a file's predictions for every pixel compare with those of `geotl map`.

    Attributes:
        where: the pixels that were compared, in words.
        probabilities: largest difference.
        agreement: share of pixels classified alike, "no data" being a class.
    """

    where: str
    probabilities: float
    agreement: float

    def __str__(self) -> str:
        """In one line."""
        return (
            f"parity with geotl map on {self.where}: probabilities within "
            f"{self.probabilities:.1e}, {100 * self.agreement:.4g} % of pixels with the same class"
        )

    def check(self, path: Path) -> None:
        """Reject a file with other predictions than its model.

        Raises:
            ModelError: a difference is beyond `MAP_LIMIT`, or not a number.
        """
        if not self.probabilities <= MAP_LIMIT:
            raise ModelError(
                f"{path}: probabilities {self.probabilities:.2g} from the model's, more than "
                f"{MAP_LIMIT:.0e}; nothing was kept"
            )


def map_parity(
    where: str, pairs: Sequence[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]]
) -> MapParity:
    """Compare probabilities [K,h,w] of a file with those of `geotl map`, pair by pair."""
    gaps = [np.abs(exported_map - reference).max() for exported_map, reference in pairs]
    alike = [
        (exported_map.argmax(0) == reference.argmax(0)).ravel() for exported_map, reference in pairs
    ]
    return MapParity(where, float(np.max(gaps)), float(np.concatenate(alike).mean()))


def example_tiles(model: ModelFile) -> Float32s:
    """A model's example tiles [n,C,S,S], raw float32, their invalid pixels NaN."""
    training_samples = model.training_samples
    raw = training_samples.examples.astype(np.float32)
    return np.where(training_samples.example_valid, raw, np.float32(np.nan))


def compare(module: Deployed, runner: Runner, tiles: Float32s) -> Parity:
    """Run a file on tiles [n,C,S,S] in every batch size, the last batch short, and compare."""
    reference = _in_batches(running(module), tiles, max(BATCHES))
    apart = np.zeros(2)
    alike = []
    for size in BATCHES:
        outputs = _in_batches(runner, tiles, size)
        gaps = [
            np.abs(f.astype(np.float64) - w).max() for f, w in zip(outputs, reference, strict=True)
        ]
        apart = np.maximum(apart, gaps)  # NaN stays NaN
        alike.append(outputs[0].argmax(axis=1) == reference[0].argmax(axis=1))
    return Parity(
        len(tiles) * len(BATCHES),
        float(apart[1]),
        float(apart[0]),
        float(np.mean(alike)),
        float(np.abs(reference[1]).max()),
    )


def _in_batches(runner: Runner, tiles: Float32s, size: int) -> tuple[Float32s, Float32s]:
    """Probabilities and logits of all tiles, `size` at a time."""
    parts = [runner(tiles[at : at + size]) for at in range(0, len(tiles), size)]
    probabilities, logits = zip(*parts, strict=True)
    return np.concatenate(probabilities), np.concatenate(logits)
