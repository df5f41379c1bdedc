"""Ways to bring dense features to exact mode's, tested on windows that had no part in them.

    python benchmarks/dense.py MODEL SCENE --sensor NAME [--step PX] [--views N] [--each N]

Windows of nine blocks are looked at both ways; each half of them is tested with what the other half
gave: the share named as exact mode names them, and how often each class is named.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import geotl
from geotl.imagery.sensors import get_sensor
from geotl.inference.dense_correction import KINDS, Correction, fitted
from geotl.inference.sliding_window import classes_of
from geotl.mapping import plan as mapplanning
from geotl.mapping.options import MapOptions
from geotl.mapping.plan import open_for
from geotl.mapping.task import Reading, Task, whole, window_grid


def least_squares(dense: Tensor, exact: Tensor) -> Correction:
    """Each feature's regression on its dense self."""
    before, after = (x.double().flatten(0, 1) for x in (dense, exact))
    centred = before - before.mean(dim=0)
    scale = (centred * after).mean(dim=0) / centred.square().mean(dim=0).clamp_min(1e-12)
    shift = after.mean(dim=0) - scale * before.mean(dim=0)
    return replace(fitted("shift", dense, exact), scale=scale.float(), shift=shift.float())


def corrected(how: str, dense: Tensor, exact: Tensor, fitted: Tensor, tested: Tensor) -> Tensor:
    """Features of the tested windows, corrected by what is fitted to the others."""
    if how == "none":
        return dense[tested]
    if how.endswith(", each view"):
        kind, views = how.removesuffix(", each view"), range(dense.shape[1])
        parts = [
            corrected(kind, dense[:, v : v + 1], exact[:, v : v + 1], fitted, tested) for v in views
        ]
        return torch.cat(parts, dim=1)
    make = least_squares if how == "least squares" else lambda d, e: fitted(how, d, e)
    return make(dense[fitted], exact[fitted]).applied(dense[tested])


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--sensor", required=True)
    parser.add_argument("--step", type=int)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--each", type=int, default=8, help="rows and columns of windows a block")
    args = parser.parse_args()
    model = geotl.load(args.model).file
    scene = open_for(model, args.scene, Reading(get_sensor(args.sensor)))
    options = MapOptions(step_px=args.step, views=args.views, mode="dense")
    grid = window_grid(scene, model.contract.tile_px, options)
    plan = mapplanning.exact_plan(Task(model, scene, grid, options, whole(grid)), print)
    mapplanning.EACH = args.each
    sample = mapplanning.sample_of(plan, scene)
    if sample is None:
        raise SystemExit("no window with enough valid pixels")
    wanted, count = classes_of(plan.sweep, sample.exact), len(model.contract.classes)
    print(
        f"{len(wanted)} windows, {args.views} views; exact mode: {np.bincount(wanted, None, count)}"
    )
    ways = ["none", *KINDS, "least squares"]
    for how in ways + ([f"{kind}, each view" for kind in KINDS] if args.views > 1 else []):
        named = np.empty_like(wanted)
        for half in (sample.half, ~sample.half):
            sides = torch.from_numpy(~half), torch.from_numpy(half)
            features = corrected(how, sample.dense, sample.exact, *sides)
            named[half] = classes_of(plan.sweep, features)
        share = 100 * (named == wanted).mean()
        print(f"{how:30} {share:5.1f} % alike, classes {np.bincount(named, None, count)}")


if __name__ == "__main__":
    main()
