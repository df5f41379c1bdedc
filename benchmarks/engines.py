"""Rates of the three engines that run a model: torch, onnxruntime and OpenVINO.

    python benchmarks/engines.py [--model MODEL.safetensors] [--side 1024] [--rounds 3]

Each model is exported to ONNX, and all three compute in float32 with the same views, every window
by itself. `ready batches` is the engine alone on raw tiles that lie ready in memory, as many at
once as `geotl map` gives it; `geotl map` is the command on a scene made on the spot, from its first
import to its last file, at windows half a tile apart. Every measurement is a process of its own, so
that its peak memory is its own, and the engines take turns in each round. Figures are windows a
second, median and range over the rounds, and the largest peak. The models are the one given (such
as EuroSAT's, with a scene in its bands) and a ResNet-18 of random weights for 13 bands.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from map import make_model
from rasterio.transform import from_origin

from geotl.api import load
from geotl.cli.main import main as geotl
from geotl.export.exporter import export_graph
from geotl.inference.onnx_model import BATCH, ENGINES
from geotl.models.classifier import over_views
from geotl.models.model_file import ModelFile, read_header
from geotl.models.model_file import load as load_file

ENGINES_AND_TORCH = ("torch", *ENGINES)
SECONDS = 6.0  # of one measurement on ready batches


@dataclass
class Row:
    """Rates and peak memory of one engine, of each kind, round by round."""

    ready: list[float] = field(default_factory=list)
    mapped: list[float] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, rate: float, peak: float) -> None:
        """Keep one measurement."""
        getattr(self, kind).append(rate)
        self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)


def make_scene(path: Path, model: ModelFile, side: int) -> Path:
    """Fields of 24 px drawn from the model's example tiles' mean and spread, in its bands."""
    random, seen = np.random.default_rng(0), model.seen
    bands, cells = model.contract.bands, -(-side // 24)
    field_ = random.normal(0, 1, (len(bands), cells, cells)).repeat(24, 1).repeat(24, 2)
    noise = random.normal(0, 0.2, (len(bands), side, side))
    plane = seen.mean[:, None, None] + seen.sd[:, None, None] * (field_[:, :side, :side] + noise)
    dtype = model.training_samples.examples.dtype
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=len(bands),
        dtype=dtype.name,
        crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10),
        compress="deflate",
    ) as to:
        to.descriptions = bands
        to.write(plane.clip(1, np.iinfo(dtype).max if dtype.kind in "iu" else None).astype(dtype))
    return path


def apart(job: Callable[..., float], *given: Any) -> tuple[float, float]:
    """A job's result and peak memory in GB, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_with_peak, job, given).result()


def _with_peak(job: Callable[..., float], given: tuple[Any, ...]) -> tuple[float, float]:
    result = job(*given)
    # Not of getrusage, which for a child begins at its parent's peak.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return result, int(peak.split()[1]) / 1e6


def ready_rate(model: Path, exported: Path, engine: str) -> float:
    """Windows a second of an engine on raw tiles that lie ready in memory."""
    header = read_header(model)
    views, px, bands = header["spec"]["views"], header["tile_px"], len(header["bands"])
    each = BATCH // views if engine != "torch" else BATCH
    tiles = np.random.default_rng(0).uniform(1, 255, (each, bands, px, px)).astype(np.float32)
    if engine == "torch":
        network, image = load(model).network, torch.from_numpy(tiles)

        def run() -> None:
            with torch.inference_mode():
                over_views(network, image, views)
    else:
        sweep = load(exported, engine=engine).file.sweep

        def run() -> None:
            sweep.predict_tiles(tiles)

    run()
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        run()
        rounds += 1
    return each * rounds / (time.perf_counter() - begun)


def map_rate(model: Path, exported: Path, engine: str, scene: Path, out: Path) -> float:
    """Windows a second of a whole `geotl map`."""
    header = read_header(model)
    views, px = header["spec"]["views"], header["tile_px"]
    chosen = [str(exported), "--engine", engine]
    if engine == "torch":
        chosen = [str(model), "--mode", "exact", "--precision", "float32", "--views", str(views)]
    begun = time.perf_counter()
    code = geotl(
        ["map", *chosen, str(scene), "-o", str(out), "--overwrite", "--skip-value-check", "-q"]
    )
    took = time.perf_counter() - begun
    if code:
        raise SystemExit(f"geotl map ended with {code}")
    with rasterio.open(scene) as source:
        side = -(-(source.width - px) // (px // 2)) + 1
    return side * side / took


def alike(folder: Path) -> str:
    """How far the engines' maps lie from torch's: cells of another class, largest confidence."""
    found = []
    for engine in ENGINES:
        held = [
            [read(folder / f"{name}{kind}.tif") for kind in ("", "_confidence")]
            for name in ("torch", engine)
        ]
        other = int((held[0][0] != held[1][0]).sum())
        gap = float(np.nanmax(np.abs(held[0][1] - held[1][1])))
        found.append(f"{engine}: {other} cells of another class, confidence within {gap:g} %")
    return "; ".join(found)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read().astype(np.float64)


def written(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def measured(name: str, model: Path, folder: Path, args: argparse.Namespace) -> None:
    """All engines with one model, as rows of a table."""
    whole, exported = load_file(model), folder / f"{name}.onnx"
    export_graph(whole, "onnx", exported, log=lambda _: None)
    scene = make_scene(folder / f"{name}.tif", whole, args.side)
    spec, out = whole.contract.spec, folder / name
    out.mkdir()
    rows = {engine: Row() for engine in ENGINES_AND_TORCH}
    for _ in range(args.rounds):
        for engine, row in rows.items():
            row.add("ready", *apart(ready_rate, model, exported, engine))
            goal = out / f"{engine}.tif"
            row.add("mapped", *apart(map_rate, model, exported, engine, scene, goal))
    title = f"{name}: {len(whole.contract.bands)} bands, {whole.contract.tile_px} px, "
    print(
        f"\n| {title}{spec.views} views | ready batches, windows/s | peak GB "
        f"| geotl map, {args.side} px, windows/s | peak GB |\n|---|---|---|---|---|"
    )
    for engine, row in rows.items():
        print(
            f"| {engine} | {written(row.ready)} | {row.peaks['ready']:.2f} "
            f"| {written(row.mapped)} | {row.peaks['mapped']:.2f} |"
        )
    print(f"\nBeside torch's map: {alike(out)}.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a trained model, such as EuroSAT's")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, float32, {args.rounds} rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.model:
            measured("trained", args.model, folder, args)
        measured("made", make_model(folder / "made.safetensors"), folder, args)


if __name__ == "__main__":
    main()
