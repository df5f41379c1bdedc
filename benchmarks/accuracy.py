"""Accuracy of the shipped recipes on real tiles: 20 draws, tested on every tile not drawn.

    python benchmarks/accuracy.py [--draws 20] [--half both] [--backbone resnet18]
                                  [--only eurosat_rgb] [--data ../shared/data]

Prints mean and sd of overall accuracy for the recipe, the recipe from random weights, and,
apart, with the undrawn tiles' pixels (no labels); the median time to fit a draw and the size of
the model file. `--half test` keeps to the tiles on which no setting was chosen (halves.py).
Peak memory is the process's.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from halves import half_of

from geotl.experiments.recipe import load
from geotl.experiments.run import run

HERE = Path(__file__).resolve().parent.parent
NETWORKS = {
    "resnet18": ("weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth", "layer3"),
    "squeezenet1_1": ("weights/squeezenet1_1-imagenet1k.pth", "fire8_9"),
}
CASES = [("eurosat_rgb", 10), ("eurosat_rgb", 50), ("ucmerced", 5), ("ucmerced", 10)]
MOST_OF_A_HALF = {"eurosat_rgb": 40, "ucmerced": 5}


def cases(half: str, only: str) -> list[tuple[str, int]]:
    """Data sets and labels a class that leave enough test tiles."""
    return [
        (name, shots)
        for name, shots in CASES
        if only in name and (half == "both" or shots <= MOST_OF_A_HALF[name])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--half", choices=["both", "test"], default="both")
    parser.add_argument("--backbone", choices=sorted(NETWORKS), default="resnet18")
    parser.add_argument("--only", default="", help="part of a data set's name")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    weights, last = NETWORKS[args.backbone]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        print(f"{'data':12} {'labels':>6}  {'method':34} accuracy", flush=True)
        for name, shots in cases(args.half, args.only):
            root = half_of(args.data / name, args.half, Path(scratch) / f"half_{name}{shots}")
            recipe = load(
                name,
                [
                    f"data.root={root}",
                    f"model.backbone={args.backbone}",
                    f"model.weights={args.data / weights}",
                    f"model.truncate_after={last}",
                    f"split.shots={shots}",
                    f"split.repeats={args.draws}",
                    "probe.semi_supervised=soft_labels",
                ],
            )
            begun, out = time.perf_counter(), Path(scratch) / f"{name}{shots}"
            found = run(recipe, out, quiet=True, log=lambda _: None)
            for method, scores in found["draws"].items():
                mean, sd = scores["overall"]["mean"], scores["overall"]["sd"] or 0.0
                print(f"{name:12} {shots:6}  {method:34} {100 * mean:.1f} ± {100 * sd:.1f} %")
            size = (out / "model.safetensors").stat().st_size / 1e6
            print(
                f"{'':20} fitted in {np.median(found['fit_seconds']):.1f} s a draw (median), "
                f"model file {size:.1f} MB, all draws and baselines "
                f"{time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
