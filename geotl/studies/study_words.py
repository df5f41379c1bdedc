"""What a study says: its plan, its table, and what it recommends, as messages of any language."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from geotl.console import aligned, duration
from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import shown
from geotl.experiments.spellings import written_name, written_value
from geotl.language import joined, msg, nmsg, numeral, translated
from geotl.studies.study_effects import FEWEST, Errors
from geotl.studies.study_fits import Candidate, FinalTest, Found, TrialRow
from geotl.studies.study_techniques import AS_IT_IS, TRAINED, Start

TITLES: dict[Start, str] = {
    AS_IT_IS: msg("the recipe as it is"),
    TRAINED: msg("its fine-tuned variant, every regulariser off"),
}
CAPACITY = 0.05  # training error up to which a network has shown that it can overfit
RULE = msg(
    "No visible effect: the 95 % interval of the paired difference in validation error includes 0 "
    "(Student's t over folds, widened because folds share tiles: Nadeau & Bengio 2003)."
)
COLUMNS = msg(
    "Changes are on minus off, in points of per cent: mean ± sd over folds [95 % interval]. "
    "Clauses of a regulariser: validation error goes down / training error does not. Time: of a "
    "fit, on over off."
)
HEADER = (
    msg("technique"),
    msg("validation error"),
    msg("training error"),
    msg("clauses"),
    msg("folds"),
    msg("time"),
    msg("verdict"),
)
WORDS = {  # of a row, as they stand in study.json, and as messages
    word: word
    for word in (
        msg("a regulariser here"),
        msg("fits better"),
        msg("no visible effect"),
        msg("hurts here"),
        msg("too few folds yet"),
        msg("could not be run"),
        msg("not reached"),
    )
}


def plan_lines(study: Found, unseen: int) -> Iterator[str]:
    """What is about to be tried, on what."""
    fit, held_out, labels = study.tiles
    yield msg(
        "{labels} labels: {fit} for training and {held_out} held out in a fold, up to {seeds} "
        "folds, each with a seed of its own; {unseen} test tiles are left alone until the end",
        labels=labels,
        fit=fit,
        held_out=held_out,
        seeds=study.seeds,
        unseen=unseen,
    )
    for start in study.bases:
        count = sum(row.start == start for row in study.rows)
        yield nmsg(
            "{n} trial on {start}", "{n} trials on {start}", count, start=title(study, start)
        )


def title(study: Found, start: Start) -> str:
    """A starting point in words."""
    if start == TRAINED and study.bases[start].strategy == "scratch":
        return msg("its variant trained from random weights, every regulariser off")
    return TITLES[start]


def found_lines(study: Found, out: Path) -> Iterator[str]:
    """All that is printed when a study is done, in the page's language."""
    for start in study.bases:
        yield from ("", *start_lines(study, start))
    yield ""
    yield from map(translated, (COLUMNS, RULE, chance_line(study)))
    yield ""
    yield from map(translated, (*advice_lines(study), *_end_lines(study, out)))


def _end_lines(study: Found, out: Path) -> Iterator[str]:
    """Whether the study is complete, how long it took, and where its files are."""
    if not study.finished:
        yield msg("the time budget is spent; --resume with a larger --budget goes on from there")
    yield msg("{fits} fits made in {time}", fits=study.fits, time=_time(study.seconds))
    yield msg("table    {path}", path=out / "study.md")
    yield msg("figure   {path}", path=out / "study.png")
    yield msg("recipe   {path}", path=out / "recommended.yaml")


def start_lines(study: Found, start: Start) -> Iterator[str]:
    """A starting point and what each trial did to it, as aligned text in the page's language."""
    yield translated(base_line(study, start))
    table = [[*map(translated, row)] for row in (HEADER, *map(cells, study.ranked(start)))]
    if len(table) > 1:
        yield from (f"  {line}" for line in aligned(table, left=range(len(HEADER))))
    if start == AS_IT_IS and study.not_for_probe:
        yield f"  {translated(not_for_probe_line(study))}"


def not_for_probe_line(study: Found) -> str:
    """Techniques that a probe has no use for."""
    return msg("does not apply to a probe: {names}", names=", ".join(study.not_for_probe))


def base_line(study: Found, start: Start) -> str:
    """Errors of a starting point and the gap between them; of the trained one, its capacity."""
    errors, name = study.base_errors.get(start), title(study, start)
    if errors is None:
        return msg("{name}: not reached", name=name)
    words = errors_words(errors)
    if start == AS_IT_IS:
        return msg("{name}: {errors}", name=name, errors=words)
    if errors.training <= CAPACITY:
        return msg("{name}: {errors}; stage 1 is reached: it can overfit", name=name, errors=words)
    return msg(
        "{name}: {errors}; stage 1 is NOT reached: it does not overfit yet, so that regularisers "
        "are compared on a network that underfits; raise train.epochs or train.lr",
        name=name,
        errors=words,
    )


def errors_words(errors: Errors) -> str:
    """Both errors and their gap.

    >>> errors_words(Errors(0.0, 0.25, 80, 20, 2.0))
    'training error 0.0 %, validation error 25.0 %, gap 25.0 points, 2.0 s a fit'
    >>> "gap 0.0 points" in errors_words(Errors(0.2503, 0.25, 80, 20, 2.0))
    True
    """
    return msg(
        "training error {training:.1f} %, validation error {validation:.1f} %, gap {gap:.1f} "
        "points, {time} a fit",
        training=100 * errors.training,
        validation=100 * errors.validation,
        gap=round(100 * (errors.validation - errors.training), 1) + 0.0,  # no -0.0
        time=_time(errors.seconds),
    )


def _time(seconds: float) -> str:
    """A length of time, its number as the page's readers write it."""
    number, unit = duration(seconds).split()
    return joined([numeral(number), unit], " ")


def cells(row: TrialRow) -> tuple[str, ...]:
    """A row of the table, differences in points of per cent."""
    effect, word = row.effect, WORDS[row.word]
    if row.refused:
        word = msg("{verdict}: {found}", verdict=word, found=row.refused)
    if effect is None:
        return (row.name, "", "", "", "", "", word)
    known = effect.parts >= FEWEST
    ratio = effect.on.seconds / max(effect.off.seconds, 1e-3)
    return (
        row.name,
        points(effect.validation, effect.sd, ends=known),
        points(effect.training, effect.training_sd, ends=known),
        joined([_yes(effect.falls), _yes(effect.training_stays)], "/") if known else "",
        str(effect.parts),
        joined(["x", numeral(ratio, ".1f")], ""),
        word,
    )


def _yes(reached: bool) -> str:
    return msg("yes") if reached else msg("no")


def points(difference: Interval, sd: float, *, ends: bool = True) -> str:
    """A difference of shares in points, its sd over folds and, of folds enough, its interval.

    >>> points(Interval(-0.05, -0.08, -0.02), 0.031)
    '-5.0 ± 3.1 [-8.0, -2.0]'
    >>> points(Interval(-1e-9, -0.08, 0.08), 0.1)
    '+0.0 ± 10.0 [-8.0, +8.0]'
    """
    value, low, high = (round(100 * part, 1) + 0.0 for part in difference)  # no minus before 0
    if not ends or math.isnan(low):
        return numeral(value, "+.1f")
    return msg(
        "{value:+.1f} ± {sd:.1f} [{low:+.1f}, {high:+.1f}]",
        value=value,
        sd=100 * sd,
        low=low,
        high=high,
    )


def chance_line(study: Found) -> str:
    """How many of the intervals exclude 0 by chance alone."""
    count = sum(row.effect is not None for row in study.rows)
    return msg(
        "Of {count} such intervals {expected:.1f} exclude 0 by chance in the mean, so what helped "
        "is tried once more on folds that chose nothing.",
        count=count,
        expected=0.05 * count,
    )


def advice_lines(study: Found) -> Iterator[str]:
    """The candidates, the recommendation, and what both recipes gave on unseen tiles."""
    for one in study.candidates:
        yield msg("candidate: {words}", words=candidate_words(one))
    best = study.recommended
    if best is not None and best.against:
        yield msg("recommended: {name}", name=best.name)
    elif best is not None:
        yield msg("recommended: {name} (no candidate is better beyond doubt)", name=best.name)
    if study.verdict is not None:
        yield verdict_words(study.verdict)


def candidate_words(one: Candidate) -> str:
    """A candidate and its error on the folds that chose nothing."""
    changes = [f"{written_name(key)}={shown_key(one.recipe, key)}" for key in one.changes]
    name = one.name
    if changes:
        name = msg("{name} ({changes})", name=name, changes=", ".join(changes))
    if one.errors is None:
        return msg("{name}: not confirmed", name=name)
    if one.against is None:
        return msg("{name}: {errors}", name=name, errors=errors_words(one.errors))
    return msg(
        "{name}: {errors}; validation error {change} against the recipe as it is",
        name=name,
        errors=errors_words(one.errors),
        change=points(one.against.validation, one.against.sd),
    )


def verdict_words(verdict: FinalTest) -> str:
    """What both recipes gave on tiles that no trial saw.

    >>> same = Interval(0.8, 0.7, 0.9)
    >>> verdict_words(FinalTest(same, same, Interval(0.0, 0.0, 0.0), 40))
    'on 40 tiles that no trial saw: 0.800 [0.700, 0.900], the recipe as it is'
    """
    words = msg(
        "on {tiles} tiles that no trial saw: {default}, the recipe as it is",
        tiles=verdict.tiles,
        default=verdict.default,
    )
    if verdict.recommended == verdict.default and verdict.difference == (0.0, 0.0, 0.0):
        return words
    value, low, high = verdict.difference
    word = msg("at least as accurate, within the interval")
    if high < 0:
        word = msg("less accurate")
    return msg(
        "{words}; {recommended}, the one recommended; difference {value:+.3f} [{low:+.3f}, "
        "{high:+.3f}]: {word}",
        words=words,
        recommended=verdict.recommended,
        value=value,
        low=low,
        high=high,
        word=word,
    )


def shown_key(recipe: Recipe, key: str) -> str:
    """What a recipe says for a key, as on the command line; of a section, what differs."""
    section, _, name = key.rpartition(".")
    values = recipe.model_dump(mode="json", exclude_defaults=not section)
    value = values[section][name] if section else values.get(name, "default")
    return shown(written_value(tuple(key.split(".")), value))
