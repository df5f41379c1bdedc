"""Accuracy of the shipped recipes on real tiles: 20 draws, judged on every tile not drawn.

    python benchmarks/accuracy.py [--draws 20] [--data ../shared/data]

Prints mean and sd of overall accuracy for the recipe, the recipe from random weights, and,
apart, with the undrawn tiles' pixels (no labels); and the median time to fit a draw once the
frozen features are cached. Peak memory is the process's.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from geotl.pipeline import run
from geotl.recipe import load

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
CASES = [("eurosat_rgb", 10), ("eurosat_rgb", 50),
         ("ucmerced", 5), ("ucmerced", 10)]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        print(f"{'data':12} {'labels':>6}  {'method':34} accuracy", flush=True)
        for name, shots in CASES:
            recipe = load(
                name,
                [f"data.root={args.data / name}", f"model.weights={args.data / WEIGHTS}",
                 f"split.shots={shots}", f"split.draws={args.draws}",
                 "probe.unlabelled=soft_labels"],
            )  # fmt: skip
            begun = time.perf_counter()
            found = run(recipe, Path(scratch) / f"{name}{shots}", quiet=True, say=lambda _: None)
            for method, told in found["draws"].items():
                mean, sd = told["overall"]["mean"], told["overall"]["sd"] or 0.0
                print(f"{name:12} {shots:6}  {method:34} {100 * mean:.1f} ± {100 * sd:.1f} %")
            print(
                f"{'':20} all draws and baselines: {time.perf_counter() - begun:.0f} s", flush=True
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
