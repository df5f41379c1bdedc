"""`geotl diagnose`: where a recipe stands between under- and overfitting on its own tiles.

Each part (standing, noise, own tiles, learning rates) is kept in the folder as it is done, so that
a run cut short goes on from there. The target changes only what is said, so it is no part of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geotl.console import Log, ProgressLine
from geotl.data.fingerprints import wanted_bands
from geotl.errors import DataError
from geotl.evaluation.advising import next_steps
from geotl.evaluation.metrics import wilson
from geotl.evaluation.overfitting import diagnose as judged_as
from geotl.evaluation.regularisers import regularisers
from geotl.experiments.build import make_backbone, read_source, recipe_sensor, settle
from geotl.experiments.draws import Draw, Source, make_draw
from geotl.experiments.recipe import Recipe, dump, resolve_root
from geotl.experiments.runfolder import holds_run, open_run
from geotl.io.files import write_text
from geotl.models.device import choose_device, describe
from geotl.studies.diagnosis_report import Diagnosis, lines, write_diagnosis
from geotl.studies.diagnosisparts import (
    QUICK,
    Extent,
    Part,
    noise_by_heart,
    own_by_heart,
    rate_range,
    sampled,
    standing,
)
from geotl.studies.learning_curve import curve, curve_lines


@dataclass(frozen=True)
class _Setup:
    """What all parts are measured with."""

    recipe: Recipe
    source: Source
    draw: Draw
    all_judged: int
    extent: Extent
    out: Path
    quiet: bool


def diagnose(
    recipe: Recipe,
    out: Path,
    *,
    quick: bool = False,
    judged: int | None = None,
    with_curve: bool = False,
    quiet: bool = False,
    say: Log = print,
) -> Diagnosis:
    """Say where a recipe's network stands, and write figures, page and JSON.

    Args:
        recipe: with `evaluate.target`, or none.
        out: folder; a diagnosis cut short there goes on.
        quick: fewer tiles and steps.
        judged: judge on at most so many tiles; None for 1,000, or 300 when quick.
        with_curve: the label-count curve too.
        quiet: no progress.
        say: told every line.

    Raises:
        GeoTLError: input, weights or output that cannot be used.
    """
    if judged is not None and judged < 1:
        raise DataError(f"--judged: given {judged}; allowed: at least 1")
    setup, recipe = _prepared(recipe, out, quick=quick, judged=judged, quiet=quiet, say=say)
    with ProgressLine(quiet=quiet) as line:
        parts = {
            "standing": _kept(
                setup,
                "standing",
                lambda: standing(setup.recipe, setup.source, setup.draw, out / "fit", quiet=quiet),
            ),
            "noise": _kept(
                setup,
                "noise",
                lambda: noise_by_heart(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("learning noise by heart"),
                ),
            ),
            "own": _kept(
                setup,
                "own",
                lambda: own_by_heart(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("learning the training tiles by heart"),
                ),
            ),
            "rates": _kept(
                setup,
                "rates",
                lambda: rate_range(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("trying learning rates"),
                ),
            ),
        }
    shown = _curve(setup) if with_curve else None
    found = concluded(setup, recipe, parts, shown)
    written = write_diagnosis(out, found)
    for told in lines(found):
        say(told)
    say(f"page     {written[0]}")
    return found


def _prepared(
    recipe: Recipe, out: Path, *, quick: bool, judged: int | None, quiet: bool, say: Log
) -> tuple[_Setup, Recipe]:
    """Tiles read, the recipe settled, the folder opened; with the recipe that has the target."""
    if not recipe.data.scenes:
        resolve_root(recipe.data.root)
    sensor = recipe_sensor(recipe)
    holds_run(out, resume=True)
    make_backbone(recipe, sensor, wanted_bands(sensor, recipe.data.bands))  # weights told first
    source = read_source(recipe, sensor, say, quiet=quiet)
    recipe = settle(recipe, source, say)
    bare = _alone(recipe)
    open_run(out, dump(bare), resume=True)
    say(f"computing on {describe(choose_device(), recipe.train.precision)}")
    extent = QUICK if quick else Extent()
    whole = make_draw(recipe, source, 0)
    draw = sampled(whole, judged or extent.judged, recipe.seed)
    return _Setup(bare, source, draw, len(whole.split.test), extent, out, quiet), recipe


def _alone(recipe: Recipe) -> Recipe:
    """The recipe for a single draw with nothing beside it, and without a target."""
    evaluate = recipe.evaluate.model_copy(update={"target": None, "random_split": False})
    split = recipe.split
    if not split.kfold:  # folds are the draws
        split = split.model_copy(update={"draws": 1})
    probe = recipe.probe.model_copy(update={"unlabelled": "none"})
    return recipe.model_copy(update={"evaluate": evaluate, "split": split, "probe": probe})


def _kept(setup: _Setup, name: str, measure: Callable[[], Part]) -> Part:
    """A part as it was kept, or measured now and kept, if it was measured to the same extent."""
    path = setup.out / "parts" / f"{name}.json"
    key = [repr(setup.extent), len(setup.draw.split.test)]
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["key"] == key:
            kept: Part = held["found"]
            return kept
    found = measure()
    text = json.dumps({"key": key, "found": found})
    write_text(path, text)
    again: Part = json.loads(text)["found"]
    return again


def _curve(setup: _Setup) -> tuple[bytes, tuple[str, ...]]:
    """The label-count curve, measured by `geotl curve`'s own code or kept from before."""
    folder = setup.out / "curve"
    told: list[str] = []
    if not (folder / "curve.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what was cut short there has no end
        told = curve_lines(curve(setup.recipe, folder, quiet=setup.quiet, say=lambda _: None))
        write_text(folder / "lines.txt", "\n".join(told))
    told = (folder / "lines.txt").read_text(encoding="utf-8").splitlines()
    return (folder / "curve.png").read_bytes(), tuple(told)


def concluded(
    setup: _Setup, recipe: Recipe, parts: dict[str, Part], shown: Any = None
) -> Diagnosis:
    """Verdict and advice from what was measured."""
    held = parts["standing"]
    verdict = judged_as(wilson(*held["train"]), wilson(*held["validation"]), recipe.evaluate.target)
    found = regularisers(recipe.model_dump(), batchnorm=held["batchnorm"])
    judged = len(setup.draw.split.test)
    steps = next_steps(
        verdict,
        found,
        recipe.strategy,
        stage_one=parts["own"]["accuracy"],
        more_tiles=judged < setup.all_judged,
    )
    facts = {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        "Training tiles": f"{len(setup.draw.split.train):,}; accuracy read on {held['train'][1]:,}",
        "Validation tiles": f"{judged:,} of {setup.all_judged:,}, never learnt from",
        "Device": describe(choose_device(), recipe.train.precision),
        "Seed": str(recipe.seed),
    }
    return Diagnosis(
        title=recipe.title or recipe.name,
        strategy=recipe.strategy,
        verdict=verdict,
        steps=steps,
        regularisers=tuple(found),
        parts=parts,
        lr=recipe.train.lr,
        facts=facts,
        curve=shown,
        recipe=dump(recipe),
    )
