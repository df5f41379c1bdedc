"""Mapping a large scene: time, peak memory, and the rate beside torchgeo's grid sampler.

    python benchmarks/map.py [--side 6000] [--peer-side 3072] [--rounds 3] [--skip-peer]

A scene of side x side x 13 uint16 is made on the spot, and a ResNet-18 of random weights (speed
does not depend on them) maps it at 64-px windows and a 32-px step. Each map is a process of its
own, so that its peak memory is its own. Rates are windows a second, median and range over the
rounds; the peer is torchgeo's RasterDataset with a GridGeoSampler, its default collation and the
same network in float32; the bare rate is that of the network alone on batches that lie ready in
memory.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from own_process import used_by
from rasterio.transform import from_origin

from geotl.imagery.sensors import get_sensor
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.device import autocast
from geotl.models.model_file import Contract, ModelFile, TrainingSamples, load, save
from geotl.models.registry import build_backbone

PX, STEP, CLASSES = 64, 32, 10
SENSOR = get_sensor("sentinel2_l1c")


def make_scene(path: Path, side: int) -> Path:
    """Smooth fields with noise, 13 named bands, tiled and compressed as products are."""
    random = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "width": side,
        "height": side,
        "count": 13,
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": from_origin(5e5, 5e6, 10, 10),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 2,
        "nodata": 0,
    }
    with rasterio.open(path, "w", **profile) as to:
        to.descriptions = SENSOR.names
        for row in range(0, side, 512):
            high = min(512, side - row)
            field = random.integers(500, 3000, (13, high // 16 + 1, side // 16 + 1))
            part = field.repeat(16, axis=1).repeat(16, axis=2)[:, :high, :side]
            part = part + random.integers(0, 60, part.shape)
            to.write(part.astype(np.uint16), window=((row, row + high), (0, side)))
    return path


def make_model(path: Path) -> Path:
    """A ResNet-18 for 13 bands with a head at random, as a model file."""
    bands = SENSOR.names
    backbone, _ = build_backbone("resnet18", bands, SENSOR.wavelengths(bands), cut_after="layer4")
    spec = FeatureSpec(("layer4",), views=1)
    network = TileClassifier(backbone, Normalise([1800.0] * 13, [700.0] * 13), spec, CLASSES)
    examples = np.random.default_rng(1).normal(1800, 700, (4, 13, PX, PX)).clip(1).astype(np.uint16)
    contract = Contract(
        "resnet18",
        "layer4",
        None,
        bands,
        SENSOR.wavelengths(bands),
        SENSOR,
        None,
        PX,
        "pad_or_crop",
        tuple(f"class {i}" for i in range(CLASSES)),
        tuple(f"#{i:02x}{2 * i:02x}{3 * i:02x}" for i in range(CLASSES)),
        spec,
    )
    companions = TrainingSamples(
        examples,
        np.ones(examples.shape, bool),
        np.zeros((4, CLASSES), np.float32),
        np.zeros((4, 512), np.float32),
        np.zeros(4, np.int64),
        np.arange(4),
        np.full((4, 4), np.nan),
    )
    save(path, ModelFile(network.eval(), contract, companions, {"metrics": {}, "recipe": ""}))
    return path


def mapped(model: Path, scene: Path, folder: Path, mode: str) -> tuple[float, float, int]:
    """Seconds, peak memory in GiB and windows of one `geotl map` in a process of its own."""
    out = folder / f"{mode}.tif"
    command = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(out),
        "--stride-px",
        str(STEP),
        "--mode",
        mode,
        "--overwrite",
        "-q",
    ]
    used = used_by(command)
    with rasterio.open(scene) as source:
        count = ((source.height - PX) // STEP + 1) * ((source.width - PX) // STEP + 1)
    return used.seconds, used.peak_gb, count


def repeated(scene: Path, side: int, large: int) -> Path:
    """A scene repeated over a larger one, as a VRT that takes no space."""
    across = -(-large // side)
    parts = [(r * side, c * side) for r in range(across) for c in range(across)]
    with rasterio.open(scene) as source:
        names = source.descriptions
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}"><Description>{name}</Description>'
        "<NoDataValue>0</NoDataValue>"
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="0">{scene}</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{side}" '
            f'ySize="{side}"/><DstRect xOff="{col}" yOff="{row}" xSize="{side}" ySize="{side}"/>'
            "</SimpleSource>"
            for row, col in parts
        )
        + "</VRTRasterBand>"
        for band, name in enumerate(names, start=1)
    )
    path = scene.with_name("large.vrt")
    path.write_text(
        f'<VRTDataset rasterXSize="{large}" rasterYSize="{large}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def peak_of_a_while(model: Path, scene: Path, folder: Path, mode: str, seconds: float) -> float:
    """Peak memory in GB of `geotl map` within its first seconds, after which it is ended."""
    command = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(folder / "large.tif"),
        "--stride-px",
        str(STEP),
        "--mode",
        mode,
        "--overwrite",
        "-q",
    ]
    with subprocess.Popen([sys.executable, "-m", "geotl", *command]) as process:
        begun, peak = time.perf_counter(), 0
        while process.poll() is None and time.perf_counter() - begun < seconds:
            time.sleep(1)
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max(peak, *(int(x.split()[1]) for x in lines if x.startswith("VmHWM")))
        if process.poll() is not None:
            raise SystemExit(f"geotl map ended with {process.returncode}")
        process.kill()
    return peak / 1e6


def torchgeo_loop(model: Path, scene: Path, side: int) -> float:
    """Windows a second of torchgeo's own way over a corner of the scene."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    class Scene(RasterDataset):
        """All bands of one file."""

        filename_glob = scene.name
        is_image = True
        separate_files = False

    network = load(model).network
    data = Scene(scene.parent)
    with rasterio.open(scene) as source:
        left, top = source.bounds.left, source.bounds.top
    import shapely

    corner = shapely.box(left, top - 10 * side, left + 10 * side, top)
    sampler = GridGeoSampler(data, size=PX, stride=STEP, roi=corner)
    loader = DataLoader(data, sampler=sampler, batch_size=64, collate_fn=stack_samples)
    begun, seen = time.perf_counter(), 0
    with torch.inference_mode():
        for batch in loader:
            seen += len(network(batch["image"].float()).argmax(1))
    return seen / (time.perf_counter() - begun)


def bare_rate(model: Path) -> float:
    """Windows a second of the network alone, as `geotl map` runs it, on ready batches."""
    network = load(model).network
    image = torch.randn(128, 13, PX, PX).mul(700).add(1800)
    with torch.inference_mode(), autocast(torch.device("cpu"), "auto"):
        network(image)
        begun, rounds = time.perf_counter(), 0
        while time.perf_counter() - begun < 8:
            network(image)
            rounds += 1
        return 128 * rounds / (time.perf_counter() - begun)


def written(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):8.0f} ({min(values):.0f}-{max(values):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--peer-side", type=int, default=3072)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--large", type=int, help="side of a scene begun for a minute, its memory")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scene").mkdir()
        scene = make_scene(folder / "scene" / "scene.tif", args.side)
        small = scene
        if args.side != args.peer_side:
            (folder / "small").mkdir()
            small = make_scene(folder / "small" / "small.tif", args.peer_side)
        model = make_model(folder / "model.safetensors")
        for mode in ("exact", "dense"):
            seconds, peak, windows = mapped(model, scene, folder, mode)
            print(
                f"{args.side} x {args.side} x 13, {mode}: {seconds:.1f} s, "
                f"{windows / seconds:.0f} windows/s, peak memory {peak:.2f} GB",
                flush=True,
            )
            if args.large:
                large = repeated(scene, args.side, args.large)
                peak = peak_of_a_while(model, large, folder, mode, 60)
                print(
                    f"{args.large} x {args.large} x 13, {mode}, its first minute: peak memory "
                    f"{peak:.2f} GB",
                    flush=True,
                )
        rates: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            rates.setdefault("bare network", []).append(bare_rate(model))
            for mode in ("exact", "dense"):
                seconds, _, windows = mapped(model, small, folder, mode)
                rates.setdefault(f"geotl map, {mode}", []).append(windows / seconds)
            if not args.skip_peer:
                rates.setdefault("torchgeo GridGeoSampler", []).append(
                    torchgeo_loop(model, small, args.peer_side)
                )
        base = rates.get("torchgeo GridGeoSampler")
        print(f"{'':26} windows/s: median (range)   / torchgeo   / bare network")
        for method, values in rates.items():
            beside = ratio(values, base) if base else "not run"
            print(
                f"{method:26} {written(values):24} {beside:>10} "
                f"{ratio(values, rates['bare network']):>12}"
            )


def ratio(values: list[float], base: list[float]) -> str:
    """Median of the ratios, round by round."""
    return f"{statistics.median(v / b for v, b in zip(values, base, strict=True)):.2f}"


if __name__ == "__main__":
    main()
