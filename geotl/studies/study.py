"""A study of a recipe: what each technique does on the user's own labels, and what to run.

Trials are judged on folds inside the labels of one draw. The tiles of its judged side are looked
at once, at the end, by the recipe as it is and by the one recommended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from geotl.console import Log, ProgressLine
from geotl.data.fingerprints import wanted_bands
from geotl.errors import DataError
from geotl.experiments.build import make_backbone, read_source, recipe_sensor, settle
from geotl.experiments.draws import make_draw
from geotl.experiments.recipe import Recipe, dump, resolve_root
from geotl.experiments.runfolder import holds_run, open_run
from geotl.io.cachefolder import cache_folder
from geotl.studies.study_effects import FEWEST
from geotl.studies.study_fits import Begin, Fits, TileGenerator, labelled_source, make_part
from geotl.studies.study_report import found_lines, plan_lines, write_study
from geotl.studies.study_techniques import (
    AS_IT_IS,
    TRAINED,
    Start,
    Trial,
    chosen,
    not_for_a_probe,
    probe_trials,
    trained_start,
    training_trials,
)
from geotl.studies.studyadvice import judged_once, recommend
from geotl.studies.studyfound import Found, Row
from geotl.studies.studyrace import Race, run_rows

SEEDS = 10


def study(
    recipe: Recipe,
    out: Path,
    *,
    only: Sequence[str] = (),
    seeds: int = SEEDS,
    budget: float | None = None,
    resume: bool = False,
    quiet: bool = False,
    say: Log = print,
    generator: Callable[[Begin], TileGenerator] | None = None,
) -> Found:
    """Try every technique on the labels of a recipe's first draw; write table, figure and advice.

    Args:
        recipe: whose data, labels and network are taken.
        out: folder for study.md, study.csv, study.json, study.png, recommended.yaml and trials/.
        only: techniques to try; empty for all.
        seeds: folds, each with a seed of its own, that a trial is fitted on at most.
        budget: minutes that the fits of trials may take; None for no bound.
        resume: go on with the study in that folder; fits that were made are not made again.
        quiet: no progress.
        say: told every line.
        generator: gives what makes synthetic tiles; without it generated tiles are not tried.

    Raises:
        GeoTLError: input that cannot be used.
    """
    if seeds < FEWEST:
        raise DataError(f"--seeds: given {seeds}; allowed: at least {FEWEST}")
    if recipe.data.synthetic is not None:
        raise DataError(
            "data.synthetic: given to geotl study, which makes its own of every fold's tiles; "
            "leave it out, and see what gan_tiles gives"
        )
    if not recipe.data.scenes:
        resolve_root(recipe.data.root)  # told before anything else
    holds_run(out, resume=resume)
    sensor = recipe_sensor(recipe)
    _, report = make_backbone(recipe, sensor, wanted_bands(sensor, recipe.data.bands))
    source = read_source(recipe, sensor, say, quiet=quiet)
    settled = settle(recipe, source, say)
    draw = make_draw(settled, source, 0)
    labelled = labelled_source(source, draw.split.train, cache_folder() / "packs")
    parts = [make_part(settled, labelled, number) for number in range(2 * seeds)]
    found = plan(
        recipe,
        settled,
        only,
        tile_px=source.pack.images.shape[-1],
        folded=report.folded_batchnorm,
    )
    if generator is None:
        found.without_generator()
    found.seeds, split = seeds, parts[0].draw.split
    found.tiles = (len(split.train), len(split.test), len(draw.split.train))
    open_run(out, dump(settled), resume=resume)
    for told in plan_lines(found, len(draw.split.test)):
        say(told)
    with ProgressLine(quiet=quiet) as line:
        learning = partial(line.counter, "training a fold's generator, steps")
        makes = generator(learning) if generator else None
        race = Race(Fits(labelled, out / "trials", makes), budget)
        run_rows(found, race, parts[:seeds], line.counter)
        recommend(found, race, parts[seeds:], line.counter("confirming, fits"))
        line.show("judging on the tiles that no trial saw", now=True)
        found.verdict = judged_once(found, source, draw, out, makes)
    found.fits, found.seconds, found.finished = race.fits.made, race.seconds, not race.over
    write_study(found, out)
    for told in found_lines(found, out):
        say(told)
    return found


def plan(
    recipe: Recipe, settled: Recipe, only: Sequence[str], *, tile_px: int, folded: bool
) -> Found:
    """The starting points and the trials of each.

    Args:
        recipe: as given; the trained start leaves what `strategy: auto` would settle.
        settled: the same with everything settled.
        only: techniques; empty for all.
        tile_px: side of the tiles in pixels.
        folded: whether the weights hold batch normalisation folded.

    Raises:
        RecipeError: `only` names a technique that is not tried.
    """
    given = recipe.model_copy(update={"split": settled.split})
    bases: dict[Start, Recipe] = {AS_IT_IS: settled, TRAINED: trained_start(given)}
    own: list[Trial] = []
    if settled.strategy == "probe":
        own = probe_trials(settled, tile_px, folded=folded)
    trained = training_trials(given, bases[TRAINED], folded=folded)
    kept = chosen([*own, *trained], only)
    rows = [Row(AS_IT_IS, trial) for trial in own if trial in kept]
    rows += [Row(TRAINED, trial) for trial in trained if trial in kept]
    return Found(settled, bases, rows=rows, not_for_probe=not_for_a_probe(settled))
