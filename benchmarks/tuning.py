"""Fine-tuning beside the probe it begins from: accuracy, paired over draws, and seconds for a fit.

    python benchmarks/tuning.py [--draws 5] [--first 0] [--case eurosat_rgb:50 ...] [--half test]
                                [--method probe fine-tuned ...] [--set train.lr=3e-4 ...]
                                [--data ../shared/data]

Every setting of `strategy: probe_then_finetune` was chosen with `--half choose`, inside the half of
the tiles that halves.py keeps for it. The default, `--half test`, tests on tiles of the other half
alone: training tiles come from the choosing half, and only where a class has too few of them from
the other, at least six tiles of each class being tested. Printed are mean and sd of overall
accuracy; the paired difference to the probe of the same features with its 95 % interval over the
draws; which share of the fine-tuning the folds kept in each draw; and seconds for a fit.
`auto` is the probe of `strategy: auto`, with its own input sizes and inner activations.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from halves import dealt, half_of

from geotl.arrays import Bools, Int64s
from geotl.console import silent
from geotl.data.splits import Split, folds
from geotl.evaluation.learning_curve import gain
from geotl.experiments.build import open_experiment
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.draws import Draw, make_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import load

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
CASES = ["eurosat_rgb:50", "eurosat_rgb:100", "ucmerced:10"]
INPUT_PX = {"eurosat_rgb": 64, "ucmerced": 96}
MIN_TESTED = 6  # tiles of a class
PROBE = ["probe.head=discriminant", "probe.views=4", "model.pool=root_mean"]
METHODS = {
    "auto": ["model.fuse_statistics=false"],
    "probe": ["strategy=probe", *PROBE, "model.unit_length=true"],
    "fine-tuned": ["strategy=probe_then_finetune"],
}


def opened(name: str, method: str, root: Path, args: argparse.Namespace, out: Path) -> Experiment:
    """A method on the tiles of a data set."""
    seen_at = [] if method == "auto" else [f"model.input_px={INPUT_PX[name]}"]
    blank = out.parent / "blank.yaml"
    blank.write_text("{}\n")
    settings = [
        f"data.root={root}",
        f"model.weights={args.data / WEIGHTS}",
        "model.truncate_after=layer3",
        "model.normalise=weights",
        *seen_at,
        f"split.repeats={args.draws}",
        *METHODS[method],
        *(args.set if method != "auto" else ()),
    ]
    recipe = load(blank, [*settings, "split.shots=5"])
    return open_experiment(recipe, out, log=silent, quiet=True)


def drawn(experiment: Experiment, number: int, shots: int, choosing: Bools | None) -> Draw:
    """A draw of the choosing half, or one whose test tiles lie in the other half alone.

    Args:
        experiment: whose tiles are drawn.
        number: of the draw.
        shots: labels a class.
        choosing: which tiles are of the choosing half [n]; None where all are.
    """
    samples, seed = experiment.samples, experiment.recipe.seed + number
    if choosing is None:
        split = experiment.recipe.split.model_copy(update={"shots": shots})
        return make_draw(experiment.recipe.model_copy(update={"split": split}), samples, number)
    train: list[int] = []
    for value in range(len(samples.classes)):
        random = np.random.default_rng([seed, value])
        first = random.permutation(np.flatnonzero((samples.labels == value) & choosing))
        other = random.permutation(np.flatnonzero((samples.labels == value) & ~choosing))
        train += [*first, *other[:-MIN_TESTED]][:shots]
    rows = np.sort(np.array(train, dtype=np.int64))
    test = np.setdiff1d(np.flatnonzero(~choosing), rows)
    split = Split(rows, test, np.setdiff1d(np.arange(len(samples.labels)), [*rows, *test]))
    return Draw(number, split, folds(samples.labels[rows], 5, seed=seed))


def choosing_half(experiment: Experiment, root: Path) -> Bools:
    """Which tiles are of the choosing half [n]."""
    chosen: set[str] = set()
    for folder in (p for p in root.iterdir() if p.is_dir()):
        chosen |= {f"{folder.name}/{p.name}" for p in dealt(folder.iterdir())[::2]}
    names = ("/".join(Path(path).parts[-2:]) for path in experiment.samples.paths)
    return np.array([name in chosen for name in names])


def fitted(experiment: Experiment, draw: Draw) -> tuple[float, float, float | None]:
    """Accuracy on a draw's test tiles, seconds for the fit, and the share that was kept."""
    begun = time.perf_counter()
    made = fit_draw(experiment, draw)
    seconds = time.perf_counter() - begun
    test: Int64s = draw.split.test
    right = logits_of_test(experiment, made).argmax(axis=1) == experiment.samples.labels[test]
    tuning = made.fitted.tuning
    return float(np.mean(right)), seconds, None if tuning is None else tuning.share


def row(case: str, method: str, found: Sequence[tuple[float, ...]], base: Sequence[float]) -> str:
    """A line of the table."""
    accuracy = np.array([one[0] for one in found])
    sd = accuracy.std(ddof=1) if len(accuracy) > 1 else 0.0
    step, word = gain(base, accuracy) if len(base) > 1 else (None, "")
    paired = ""
    if step is not None and method != "probe":
        ends = f"[{100 * step.low:+.1f}, {100 * step.high:+.1f}]"
        paired = f"{100 * step.value:+.1f} {ends}, {word}"
    shares = " ".join(f"{one[2]:g}" for one in found if one[2] is not None)
    return (
        f"| {case} | {method} | {100 * accuracy.mean():.1f} ± {100 * sd:.1f} | {paired} | {shares} "
        f"| {np.median([one[1] for one in found]):.0f} |"
    )


def measured(case: str, args: argparse.Namespace, scratch: Path) -> None:
    """Print the rows of one data set and number of labels; a line for each draw comes first."""
    name, shots = case.split(":")
    root = half_of(args.data / name, "choose" if args.half == "choose" else "both", scratch / case)
    results: dict[str, list[tuple[float, float, float | None]]] = {m: [] for m in args.method}
    places = {m: scratch / f"{case}_{m.replace(' ', '_')}" for m in args.method}
    fits = {m: opened(name, m, root, args, place) for m, place in places.items()}
    half = None if args.half == "choose" else choosing_half(next(iter(fits.values())), root)
    for number in range(args.first, args.first + args.draws):
        for method, experiment in fits.items():
            draw = drawn(experiment, number, int(shots), half)
            results[method].append(fitted(experiment, draw))
        last = ", ".join(
            f"{m} {100 * one[-1][0]:.2f} ({one[-1][1]:.0f} s)" for m, one in results.items()
        )
        print(f"{case}, draw {number}, {len(draw.split.test)} tiles tested: {last}", flush=True)
    base = [one[0] for one in results.get("probe", [])]
    for method, found in results.items():
        print(row(case, method, found, base), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--case", nargs="*", default=CASES, help="data set:labels a class")
    parser.add_argument("--method", nargs="*", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--half", choices=["choose", "test"], default="test")
    parser.add_argument("--set", nargs="*", default=[], help="keys of the recipe, key=value")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GEOTL_CACHE"] = f"{folder}/cache"
        print("| data, labels | method | accuracy, % | to the probe | share kept | seconds a fit |")
        print("|---|---|---|---|---|---|")
        for case in args.case:
            measured(case, args, Path(folder))


if __name__ == "__main__":
    main()
