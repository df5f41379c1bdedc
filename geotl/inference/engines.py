"""What runs an exported ONNX file: onnxruntime or OpenVINO, each only where it is asked for.

The only place that imports openvino. Either engine is enough on a machine that serves.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from geotl.arrays import Float32s
from geotl.errors import ModelError
from geotl.inference.onnx_file import INPUT, OUTPUTS, open_session, session_faults

EngineName = Literal["onnxruntime", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
SUFFIX = ".onnx"
Runner = Callable[
    [Float32s], tuple[Float32s, Float32s]
]  # tiles [N,C,S,S] to probabilities and logits
_EXTRA = {"onnxruntime": "geotl[onnx]", "openvino": "geotl[openvino]"}


def is_exported(path: Path) -> bool:
    """Whether a path names an exported file rather than a model.

    >>> is_exported(Path("a/model.onnx")), is_exported(Path("model.safetensors"))
    (True, False)
    """
    return path.suffix.lower() == SUFFIX


def engine_for(path: Path, given: str | None) -> EngineName | None:
    """Which engine runs a file; None for a model file, which torch runs.

    Args:
        path: a model file, or one exported to ONNX.
        given: what the user named, None for onnxruntime.

    Raises:
        ModelError: an engine for a model file, one that is not known, or one not installed.
    """
    if not is_exported(path):
        if given is not None:
            raise ModelError(
                f"{path}: --engine {given} runs exported files alone; leave it away, or give one "
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
        path: an ONNX file whose seal was checked.
        engine: what runs it, installed.
        precision: number format of the file's network.
        threads: how many compute at once.

    Raises:
        ModelError: the engine cannot read the file.
    """
    if engine == "openvino":
        return _openvino(path, precision, threads)
    session, faults = open_session(path, threads), session_faults()

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        try:
            chances, logits = session.run(list(OUTPUTS), {INPUT: tiles})
        except faults as error:
            raise _stopped(path, "onnxruntime", error) from error
        return np.asarray(chances, np.float32), np.asarray(logits, np.float32)

    return run


def _openvino(path: Path, precision: str, threads: int) -> Runner:
    import openvino

    hints: dict[str, object] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    if precision == "float32":  # OpenVINO would take bfloat16 where the processor has it
        hints |= {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise ModelError(f"{path}: openvino cannot read it ({told})") from error

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        try:
            found = compiled({INPUT: tiles})
        except RuntimeError as error:
            raise _stopped(path, "openvino", error) from error
        chances, logits = (np.array(found[name], np.float32) for name in OUTPUTS)  # its memory
        return chances, logits

    return run


def _stopped(path: Path, engine: EngineName, error: Exception) -> ModelError:
    return ModelError(f"{path}: {engine} failed on a batch ({' '.join(str(error).split())})")


def version_of(engine: EngineName) -> str:
    """An engine with its version, such as `openvino 2025.1.0`."""
    return f"{engine} {importlib.metadata.version(engine)}"


def _installed(engine: EngineName) -> bool:
    return importlib.util.find_spec(engine) is not None
