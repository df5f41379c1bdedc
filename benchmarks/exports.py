"""A model's exported files: size, rate, accuracy on labelled tiles, difference from the model.

python benchmarks/exports.py MODEL DATA prints a table. Every format is run by itself on one half
of the tiles; int8's ranges are measured on the other. The model file does not
say which tiles it was trained on: if some are among the tested ones, all accuracies are too high.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from geotl.arrays import Floats
from geotl.evaluation.metrics import wilson
from geotl.export.deployable import deployed
from geotl.export.exporter import KINDS, GraphFormat, Rounding, export_bare, export_graph
from geotl.export.graphs import Precision, Runner, running
from geotl.export.quantise import halves, raw_batches
from geotl.models.model_file import ModelFile, load

FILES: tuple[tuple[GraphFormat, Precision], ...] = (
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("onnx", "int8"),
    ("pt2", "float32"),
    ("torchscript", "float32"),
)
BATCH = 16
COLUMNS = (
    "format",
    "precision",
    "runtime",
    "MB",
    "tiles/s, median (range)",
    "accuracy",
    "named as the model",
    "largest difference of probabilities",
)


def written(
    model: ModelFile, data: Path, folder: Path
) -> dict[tuple[str, str, str], tuple[Path, Runner]]:
    """Every file, and what runs it."""
    bare = folder / "bare.safetensors"
    export_bare(model, bare)
    made = {("safetensors", "float32", "torch"): (bare, running(deployed(load(bare))))}
    for form, precision in FILES:
        path = folder / f"{precision}{KINDS[form].suffix}"
        rounding = Rounding(precision, data if precision == "int8" else None, 100.0)
        export_graph(model, form, path, rounding=rounding)
        made[form, precision, "onnxruntime" if form == "onnx" else "torch"] = (
            path,
            KINDS[form].run(path),
        )
        if form == "onnx" and (found := openvino_runner(path)):
            made[form, precision, "openvino"] = path, found
    return made


def openvino_runner(path: Path) -> Runner | None:
    """OpenVINO on the CPU in float32; None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(str(path), "CPU", hints)

    def run(tiles: Floats) -> tuple[Floats, Floats]:
        found = compiled(tiles)
        return found[0], found[1]

    return run


def rate(run: Runner, tiles: Floats, rounds: int) -> list[float]:
    """Tiles a second of each round, after one that does not count."""
    run(tiles)
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(tiles)
        found.append(len(tiles) / (time.perf_counter() - start))
    return sorted(found)


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    model = load(args.model)
    found = halves(model.contract, args.data)
    own = running(deployed(model))
    batches = list(raw_batches(model.contract, found.tested, BATCH))
    wanted = np.concatenate([own(tiles)[0] for tiles in batches])
    with tempfile.TemporaryDirectory() as folder:
        files = written(model, args.data, Path(folder))
        say(
            f"\n{len(found.truth)} test tiles; batches of {BATCH}, "
            f"{torch.get_num_threads()} threads, {args.rounds} rounds"
        )
        say("\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
        rows = {("model file", "float32", "torch"): (args.model, own), **files}
        for names, (path, run) in rows.items():
            chances = np.concatenate([run(tiles)[0] for tiles in batches])
            label = chances.argmax(axis=1)
            right = wilson(int((label == found.truth).sum()), len(label))
            alike = 100 * (label == wanted.argmax(axis=1)).mean()
            speed = rate(run, batches[0], args.rounds)
            say(
                f"| {' | '.join(names)} | {path.stat().st_size / 1e6:.1f} | "
                f"{statistics.median(speed):.0f} ({speed[0]:.0f}-{speed[-1]:.0f}) | {right} | "
                f"{alike:.2f} % | {np.abs(chances - wanted).max():.1e} |"
            )


if __name__ == "__main__":
    main()
