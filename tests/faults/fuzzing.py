"""Damaged files by the thousand: a loader gives something, or an error of geotl in one line.

`python tests/faults/fuzzing.py --seconds 300 --seed 1` goes on for so long; the suite runs a part.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.map_fixtures import made_model
from helpers.pixel_models import made_pixel_model
from helpers.tiles import write_tile

from geotl.errors import GeoTLError
from geotl.inference.onnx_file import read_passport, seal
from geotl.io import images, yaml
from geotl.io.tables import Faults, read_table
from geotl.io.vector import read_features, write_features
from geotl.models import model_file
from geotl.models.pixel_file import load_pixel_model

BYTES = (0, 1, 0x7F, 0x80, 0xFF)
LONGEST_S = 20.0


@dataclass(frozen=True)
class Target:
    """A whole file and what reads it; `head` is how many bytes most of the damage goes to."""

    whole: Path
    load: Callable[[Path], Any]
    head: int = 4096


def damaged(content: bytes, draw: random.Random, head: int) -> bytes:
    """A copy with bits flipped, bytes replaced, a piece cut out, doubled or moved, or cut short."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if not made:
            break
        reach = min(len(made), head) if draw.random() < 0.8 else len(made)
        at, size = draw.randrange(reach), draw.choice((1, 2, 4, 8, 64))
        kind = draw.choice(("flip", "byte", "number", "cut", "end", "double", "splice"))
        if kind == "flip":
            made[at] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            made[at] = draw.choice(BYTES)
        elif kind == "number":
            made[at : at + size] = bytes([draw.choice(BYTES)]) * size
        elif kind == "cut":
            del made[at : at + size]
        elif kind == "end":
            del made[at:]
        elif kind == "double":
            made[at:at] = made[at : at + size]
        else:
            other = draw.randrange(len(made))
            made[at : at + size] = made[other : other + size]
    return bytes(made)


def _parsed(path: Path) -> None:
    yaml.parse(path.read_text(encoding="utf-8", errors="replace"))


def _table(path: Path) -> None:
    faults = Faults(path)
    read_table(path, faults)
    faults.check()


def _points(path: Path) -> None:
    read_features(path, fields=["label"], crs="EPSG:4326")


def _proto() -> Any:
    """A graph that gives back what it takes."""
    import onnx

    ends = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in ("image", "probabilities")]
    node = onnx.helper.make_node("Identity", ["image"], ["probabilities"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]))


def targets(folder: Path) -> Mapping[str, Target]:
    """Small whole files of every kind that geotl opens."""
    pixels = np.arange(4 * 32 * 32, dtype=np.uint16).reshape(4, 32, 32)
    tiff = write_tile(folder / "a.tif", pixels, compress="deflate")
    np.save(folder / "a.npy", pixels)
    (folder / "a.yaml").write_text("a: &x [1, 2]\nb: {c: *x, d: 1e-3}\n" * 3)
    (folder / "a.csv").write_text("path,label,x,y,crs\na.tif,one,1,2,EPSG:4326\nb.tif,two,,,\n")
    (folder / "b.csv").write_text("lon,lat,label\n1,2,a\n3,4,b\n")
    shapes = [shapely.Point(1, 2), shapely.box(0, 0, 1, 1)]
    write_features(folder / "a.gpkg", shapes, {"label": ["a", "b"]}, "EPSG:4326")
    feature = '{"type": "Feature", "properties": {"path": "a.tif", "label": "a"}, "geometry": '
    feature += '{"type": "Point", "coordinates": [1, 2]}}'
    text = f'{{"type": "FeatureCollection", "features": [{feature}, {feature}]}}'
    (folder / "a.geojson").write_text(text)
    model = made_model(folder / "model.safetensors")
    seal(_proto(), folder / "model.onnx", {"passport_version": 1, "contract": {}})
    return {
        "tiff": Target(tiff, lambda path: images.read(path, band_count=4), 1000),
        "npy": Target(folder / "a.npy", lambda path: images.read(path, band_count=4), 128),
        "yaml": Target(folder / "a.yaml", _parsed),
        "manifest": Target(folder / "a.csv", _table),
        "points": Target(folder / "b.csv", _points),
        "gpkg": Target(folder / "a.gpkg", _points, 100_000),
        "geojson": Target(folder / "a.geojson", _points),
        "geojson_table": Target(folder / "a.geojson", _table),
        "safetensors": Target(model, model_file.load),
        "pixels": Target(made_pixel_model(folder / "px.safetensors"), load_pixel_model),
        "onnx": Target(folder / "model.onnx", read_passport, 1 << 30),
    }


def fault_of(target: Target, content: bytes, folder: Path) -> str | None:
    """What a loader does wrong with a content, None if nothing."""
    path = folder / f"damaged{target.whole.suffix}"
    path.write_bytes(content)
    began = time.perf_counter()
    try:
        target.load(path)
    except GeoTLError as error:
        lines = str(error).splitlines()
        if any(str(path) not in line for line in lines):
            return f"a line without the file's name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    took_s = time.perf_counter() - began
    return f"{took_s:.0f} s" if took_s > LONGEST_S else None


def fuzzed(target: Target, folder: Path, draw: random.Random, rounds: int) -> list[str]:
    """Faults found with so many damaged copies."""
    whole, found = target.whole.read_bytes(), []
    for number in range(rounds):
        content = damaged(whole, draw, target.head)
        fault = fault_of(target, content, folder)
        if fault:
            found.append(f"round {number}: {fault}")
    return found


def main() -> int:
    """Go on until the time is over; every fault is printed, its file kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    end, draw, faults, count = time.monotonic() + args.seconds, random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = targets(folder)
        while time.monotonic() < end:
            for kind, target in every.items():
                content = damaged(target.whole.read_bytes(), draw, target.head)
                fault, count = fault_of(target, content, folder), count + 1
                if fault:
                    faults += 1
                    kept = Path(tempfile.gettempdir()) / f"fuzz_{count}{target.whole.suffix}"
                    kept.write_bytes(content)
                    print(f"{kind}: {fault[:300]} ({kept})")
    print(f"{count} files, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
