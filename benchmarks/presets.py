"""What pays at how many labels: the settings that `strategy: auto` takes were chosen by this.

    python benchmarks/presets.py [--draws 6] [--slow-draws 2] [--data ../shared/data]

Candidates differ in one step each. They are drawn and tested inside the half of each data set that
`halves.py` keeps for choosing; the other half, on which benchmarks/accuracy.py tests with
`--half test`, is never read. The sample tiles' target region is transferred to from a network
pretrained on the source region.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from halves import half_of

from geotl.experiments.recipe import load, resolve_root
from geotl.experiments.run import run

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
PLAIN = ["strategy=probe", "probe.views=1"]
LDA = ["strategy=probe", "probe.head=discriminant", "probe.views=4"]
ROOT = [*LDA, "model.pool=root_mean", "model.unit_length=true"]
INNER = [*ROOT, "model.inner_activations=true", "probe.shrinkages=0.1,0.2,0.4,0.6"]
RENDERED = [*INNER, "model.renderings=given,reversed,shifted,negative"]
TUNED = ["probe.head=discriminant", "probe.views=4", "model.pool=root_mean"]
# name -> (settings, number of input sizes, slow: fewer draws)
CANDIDATES = {
    "logistic, one view": (PLAIN, 1, False),
    "logistic, 4 views": ([*PLAIN[:1], "probe.views=4"], 1, True),
    "discriminant, 4 views": (LDA, 1, False),
    "+ root of the mean": ([*LDA, "model.pool=root_mean"], 1, False),
    "+ unit length": (ROOT, 1, False),
    "+ two sizes": (ROOT, 2, False),
    "+ three sizes": (ROOT, 3, False),
    "inner activations, two sizes": (INNER, 2, False),
    "inner activations, three sizes": (INNER, 3, False),
    "renderings, two sizes": (RENDERED, 2, False),
    "renderings, three sizes": (RENDERED, 3, False),
    "+ 8 views": ([*ROOT, "probe.views=8"], 2, False),
    "mean and sd, two sizes": ([*LDA, "model.pool=mean_sd", "model.unit_length=true"], 2, False),
    "probe, then fine-tuned": (["strategy=probe_then_finetune", *TUNED], 1, True),
    "fine-tuned": (["strategy=finetune", *TUNED], 1, True),
    "all layers trained": (["strategy=full", *TUNED], 1, True),
}
UNLABELLED = {
    "soft labels": ["probe.semi_supervised=soft_labels"],
    "pseudo-labels, 0.6": ["probe.semi_supervised=pseudo_labels", "probe.threshold=0.6"],
    "pseudo-labels, 0.9": ["probe.semi_supervised=pseudo_labels", "probe.threshold=0.9"],
    "consistency": ["probe.semi_supervised=consistency"],
    "propagation": ["probe.semi_supervised=propagation"],
}
SIZES = {
    "eurosat_rgb": ("64", "64,128", "64,128,192"),
    "ucmerced": ("128", "96,192", "64,128,192"),
    "sample": ("40", "40,80", "40,80,120"),
}
CASES = [("eurosat_rgb", 10), ("ucmerced", 4), ("sample", 10), ("eurosat_rgb", 40)]
QUICK = [
    "evaluate.baselines=false",
    "evaluate.random_weights=false",
    "evaluate.rgb_only=false",
    "evaluate.bootstrap_rounds=0",
]


def settings_of(name: str, data: Path, scratch: Path) -> list[str]:
    """Tiles, bands and weights of a data set, its choosing half linked into the scratch folder."""
    if name == "sample":
        source = scratch / "source"
        if not (source / "model.safetensors").exists():
            run(load("sample_source", QUICK), source, quiet=True, log=lambda _: None)
        weights, root = source / "model.safetensors", resolve_root("sample:target")
        kind = [
            "data.sensor=sentinel2_l2a_n0400",
            "data.bands=B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12",
        ]
    else:
        weights, root = data / WEIGHTS, data / name
        kind = ["model.normalise=weights"]
    half = scratch / f"half_{name}"
    if not half.exists():
        half_of(root, "choose", half)
    return [f"data.root={half}", f"model.weights={weights}", "model.truncate_after=layer3", *kind]


def accuracy(overrides: list[str], out: Path) -> tuple[dict[str, tuple[float, float]], float]:
    """Mean and sd of overall accuracy of each method in %, and median seconds a draw."""
    recipe = load(blank(out), overrides)
    found = run(recipe, out / "run", quiet=True, log=lambda _: None)
    scores = {
        name: (100 * scores["overall"]["mean"], 100 * (scores["overall"]["sd"] or 0.0))
        for name, scores in found["draws"].items()
    }
    return scores, float(np.median(found["fit_seconds"]))


def blank(out: Path) -> Path:
    """A recipe that states nothing."""
    out.mkdir(parents=True)
    path = out / "blank.yaml"
    path.write_text("{}\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--slow-draws", type=int, default=2, help="0: leave slow ones out")
    parser.add_argument("--only", default="", help="part of the candidates' names")
    parser.add_argument("--skip", nargs="*", default=[], help="cases such as 'eurosat_rgb, 10'")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        print(
            "| data, labels a class | candidate | accuracy, % | seconds a draw |\n|---|---|---|---|"
        )
        for name, shots in (case for case in CASES if f"{case[0]}, {case[1]}" not in args.skip):
            base = settings_of(name, args.data, scratch)
            for number, (candidate, (keys, sizes, slow)) in enumerate(CANDIDATES.items()):
                if args.only not in candidate:
                    continue
                draws = args.slow_draws if slow else args.draws
                if draws == 0:
                    continue
                report(
                    name,
                    shots,
                    candidate,
                    [
                        *base,
                        *keys,
                        f"model.input_px={SIZES[name][sizes - 1]}",
                        f"split.shots={shots}",
                        f"split.repeats={draws}",
                        *QUICK,
                    ],
                    scratch / f"{name}{shots}_{number}",
                )
            for rule, keys in UNLABELLED.items():
                if args.only not in rule:
                    continue
                report(
                    name,
                    shots,
                    f"{rule} (unlabelled)",
                    [
                        *base,
                        *ROOT,
                        *keys,
                        f"model.input_px={SIZES[name][1]}",
                        f"split.shots={shots}",
                        f"split.repeats={args.draws}",
                        *QUICK,
                    ],
                    scratch / f"{name}{shots}_{rule}".replace(" ", "_"),
                )


def report(name: str, shots: int, candidate: str, overrides: list[str], out: Path) -> None:
    """Run and print one row; of a run with unlabelled tiles, the head that saw them."""
    begun = time.perf_counter()
    scores, _ = accuracy(overrides, out)
    mean, sd = scores.get("network, with unlabelled tiles", scores["network"])
    draws = int(next(o for o in overrides if o.startswith("split.repeats=")).partition("=")[2])
    seconds = (time.perf_counter() - begun) / draws
    print(f"| {name}, {shots} | {candidate} | {mean:.1f} ± {sd:.1f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
