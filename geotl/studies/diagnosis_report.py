"""What a diagnosis found, as lines for the screen, JSON, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import Interval, wilson
from geotl.evaluation.next_steps import Step
from geotl.evaluation.overfitting import Verdict
from geotl.evaluation.regularisers import STATES, Regulariser
from geotl.io.files import json_text, write_text
from geotl.language import msg, numeral, sentence, stored
from geotl.reporting.curve_figures import (
    capacity_figure,
    epochs_figure,
    head_figure,
    rates_figure,
    standing_figure,
)
from geotl.reporting.figures import write_png
from geotl.reporting.html import (
    Block,
    Code,
    Facts,
    Note,
    Picture,
    ReportContent,
    Section,
    Steps,
    Table,
    page_html,
)
from geotl.studies.measurements import Measurements, OverfitCheck, RateSweep, Standing

JSON_NAME, PAGE_NAME = "diagnosis.json", "diagnosis.html"
STAND, NEXT = msg("Where do you stand"), msg("What to try next")  # headings
MORE_LABELS, RECIPE = msg("What more labels bring"), msg("The recipe, resolved")


@dataclass(frozen=True)
class Diagnosis:
    """Everything a diagnosis found.

    Attributes:
        title: of the recipe.
        strategy: what is trained.
        verdict: where the network stands.
        steps: what to try next.
        regularisers: which are on and off.
        parts: what was measured.
        lr: the recipe's learning rate.
        facts: how much was looked at.
        curve: figure of the label-count curve and its lines, if it was asked for.
        recipe: resolved, as YAML.
    """

    title: str
    strategy: str
    verdict: Verdict
    steps: tuple[Step, ...]
    regularisers: tuple[Regulariser, ...]
    parts: Measurements
    lr: float
    facts: Mapping[str, str] = field(default_factory=dict)
    curve: tuple[bytes, tuple[str, ...]] | None = None
    recipe: str = ""

    @property
    def first_stage(self) -> str:
        """Stage one of the lecture, and the gap before and after regularising, in a sentence."""
        own, target = self.parts.own, self.verdict.target
        values = {
            "accuracy": own.accuracy,
            "tiles": own.tiles,
            "before": 100 * (own.accuracy - own.validated.value),
            "gap": 100 * self.verdict.gap.value,
        }
        if target is None:
            return msg(
                "stage 1, every regulariser off: training accuracy {accuracy:.3f} on {tiles} "
                "tiles; "
                "gap {before:+.1f} points, {gap:+.1f} with the recipe's regularisers",
                **values,
            )
        if own.accuracy >= target:
            return msg(
                "stage 1, every regulariser off: training accuracy {accuracy:.3f} on {tiles} "
                "tiles, "
                "which reaches the target; gap {before:+.1f} points, {gap:+.1f} with the recipe's "
                "regularisers",
                **values,
            )
        return msg(
            "stage 1, every regulariser off: training accuracy {accuracy:.3f} on {tiles} tiles, "
            "BELOW "
            "the target; gap {before:+.1f} points, {gap:+.1f} with the recipe's regularisers",
            **values,
        )


def lines(diagnosis: Diagnosis) -> list[str]:
    """The verdict and what it rests on, in a few printed lines."""
    on = [one.name for one in diagnosis.regularisers if one.state == "on"]
    text = [
        diagnosis.verdict.line(),
        f"  because {diagnosis.verdict.because}",
        f"capacity: {capacity_words(diagnosis.parts.noise)}",
        diagnosis.first_stage,
        f"regularisers on: {', '.join(on) or 'none'}",
        f"learning rate: {rate_words(diagnosis.parts.rates, diagnosis.lr)}",
        "next, the most promising first:",
    ]
    return text + [f"  {n}. {step.line()}" for n, step in enumerate(diagnosis.steps, 1)]


def capacity_words(part: OverfitCheck) -> str:
    """Whether all tiles of noise were fitted."""
    if not part.steps:
        return _separated_words(part.accuracy)
    values = {"accuracy": part.accuracy, "steps": part.steps}
    words = msg(
        "64 tiles of noise with random labels NOT all fitted: too few steps, or too little "
        "capacity, accuracy {accuracy:.3f} in evaluation mode after {steps} steps",
        **values,
    )
    if part.accuracy == 1:
        words = msg(
            "64 tiles of noise with random labels all fitted, accuracy {accuracy:.3f} in "
            "evaluation mode after {steps} steps",
            **values,
        )
    early = part.looked_perfect
    if not early:
        return words
    return msg(
        "{words}; in training mode it looked perfect at step {early} already",
        words=words,
        early=early,
    )


def _separated_words(accuracy: float) -> str:
    """Whether a linear head separates noise."""
    if accuracy == 1:
        return msg(
            "64 tiles of noise with random labels are separated by a free linear head on the "
            "frozen features (accuracy {accuracy:.3f})",
            accuracy=accuracy,
        )
    return msg(
        "64 tiles of noise with random labels are not separated by a free linear head on the "
        "frozen features (accuracy {accuracy:.3f})",
        accuracy=accuracy,
    )


def rate_words(part: RateSweep, own: float) -> str:
    """What the range test suggests."""
    rates = part.found
    if rates is None:
        return stored(part.none)
    if rates.steepest is None:
        return msg("the loss never fell: no suggestion; the recipe has {own:g}", own=own)
    return msg(
        "steepest descent at {steepest:.1e}, a tenth of the minimum's {tenth:.1e}; the recipe has "
        "{own:g}",
        steepest=rates.steepest,
        tenth=rates.tenth,
        own=own,
    )


def write_diagnosis(folder: Path, diagnosis: Diagnosis) -> list[Path]:
    """Write figures, page and (last) JSON; the paths of page and JSON."""
    pictures = _pictures(diagnosis)
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture.png)
    write_text(folder / PAGE_NAME, page(diagnosis, pictures))
    write_text(folder / JSON_NAME, as_json(diagnosis))
    return [folder / PAGE_NAME, folder / JSON_NAME]


def as_json(diagnosis: Diagnosis) -> str:
    """Everything found, as JSON."""
    record = {
        "verdict": diagnosis.verdict.to_dict(),
        "strategy": diagnosis.strategy,
        "next": [asdict(step) for step in diagnosis.steps],
        "regularisers": [
            {"name": r.name, "kind": r.kind, "state": r.state, "setting": r.setting}
            for r in diagnosis.regularisers
        ],
        "facts": dict(diagnosis.facts),
        "parts": diagnosis.parts.to_dict(),
        "curve": list(diagnosis.curve[1]) if diagnosis.curve else None,
    }
    return json_text(plain(record))


def _pictures(diagnosis: Diagnosis) -> dict[str, Picture]:
    """The figures, by the section they stand in."""
    own, standing = diagnosis.parts.own, diagnosis.parts.standing
    rows = [
        (msg("training tiles"), diagnosis.verdict.train, True),
        (msg("test tiles"), diagnosis.verdict.validation, False),
        (msg("all off: training tiles"), _share(own.accuracy, own.tiles), True),
        (msg("all off: test tiles"), own.validated, False),
    ]
    pictures = {
        "standing": Picture(
            standing_figure(rows, diagnosis.verdict.target),
            msg("Accuracies against the target"),
            msg("The recipe as it is, and below it stage 1: every regulariser off."),
        ),
        "curves": _curves(standing, diagnosis.verdict),
    }
    fits = {
        msg("64 tiles of noise, random labels"): diagnosis.parts.noise.to_dict(),
        msg("your training tiles"): own.to_dict(),
    }
    if own.steps:
        pictures["capacity"] = Picture(
            capacity_figure(fits),
            msg("Tiles fitted on purpose"),
            msg(
                "Only evaluation mode counts: in training mode, batch normalisation "
                "standardises each batch by itself and flatters the network. The dashed line is"
                " read before each step, as a training log is."
            ),
        )
    if diagnosis.parts.rates.found is not None:
        pictures["rates"] = Picture(
            rates_figure(diagnosis.parts.rates.to_dict(), diagnosis.lr),
            msg("Learning-rate range test"),
            msg("One batch a rate, on a copy of the network."),
        )
    if diagnosis.curve:
        pictures["labels"] = Picture(
            diagnosis.curve[0],
            msg("Accuracy by labels a class"),
            msg("All sizes of a draw are tested on the same tiles."),
        )
    return pictures


def _curves(standing: Standing, verdict: Verdict) -> Picture:
    """Learning curves: by epoch, or for a probe by how hard its head is pressed."""
    if standing.head is not None:
        return Picture(
            head_figure(standing.to_dict()["head"], verdict.target),
            msg("Accuracy by setting of the head"),
            msg(
                "A probe has no epochs. Its curve runs from a head that is pressed hard "
                "(underfits) to a free one (may overfit). The folds inside the labels choose, "
                "by least log-loss after temperature scaling, of which accuracy is a coarse "
                "picture; the test tiles only show."
            ),
        )
    return Picture(
        epochs_figure(standing.history or [], standing.best_epoch, verdict),
        msg("Learning curves"),
        msg(
            "The training line is read while training: with augmentation and dropout on, "
            "and weights still changing, so it may lie below the held-out one. The diamonds"
            " are the finished network in evaluation mode; the verdict rests on these."
        ),
    )


def page(diagnosis: Diagnosis, pictures: Mapping[str, Picture]) -> str:
    """The whole diagnosis as one self-contained page."""
    rates = rate_words(diagnosis.parts.rates, diagnosis.lr)
    every = [
        Section("stand", STAND, (*stand_words(diagnosis.verdict), pictures["standing"])),
        Section("next", NEXT, (Steps(diagnosis.steps),)),
        Section("capacity", msg("Can it overfit at all?"), _capacity(diagnosis, pictures)),
        Section("curves", msg("Learning curves"), (pictures["curves"],)),
        Section("rates", msg("Learning rate"), (sentence(rates), *_picture(pictures, "rates"))),
        Section(
            "regularisers",
            msg("Regularisers: what is on, what is off"),
            (regularisers_table(diagnosis.regularisers),),
        ),
    ]
    if diagnosis.curve:
        last = [line.strip() for line in diagnosis.curve[1][-2:]]
        sentences = [sentence(stored(line)) for line in last if not line[0].isdigit()]
        every.append(Section("labels", MORE_LABELS, (pictures["labels"], *sentences)))
    return page_html(_top(diagnosis), [*every, *last_sections(diagnosis.facts, diagnosis.recipe)])


def last_sections(facts: Mapping[str, str], recipe: str) -> list[Section]:
    """What stands at the end of a diagnosis: facts and the recipe."""
    return [
        Section("facts", msg("How it was measured"), (Facts(facts),)),
        Section("recipe", RECIPE, (Code(recipe, long=True),)),
    ]


def _picture(pictures: Mapping[str, Picture], name: str) -> tuple[Picture, ...]:
    """A picture, if there is one of that name."""
    return (pictures[name],) if name in pictures else ()


def _top(diagnosis: Diagnosis) -> ReportContent:
    verdict, own = diagnosis.verdict, diagnosis.parts.own
    target = msg("none stated") if verdict.target is None else numeral(verdict.target, ".3f")
    return ReportContent(
        title=diagnosis.title,
        headline=verdict.headline,
        kind=msg("diagnosis"),
        loses=verdict.word in ("under", "over"),
        keys=(
            (msg("Training accuracy"), numeral(verdict.train.value, ".3f"), ends(verdict.train)),
            (
                msg("Validation accuracy"),
                numeral(verdict.validation.value, ".3f"),
                ends(verdict.validation),
            ),
            (msg("Target"), target, "evaluate.target"),
            (msg("Stage 1, all off"), numeral(own.accuracy, ".3f"), msg("training accuracy")),
        ),
    )


def stand_words(verdict: Verdict) -> tuple[str, Note]:
    """What a verdict rests on, in words."""
    return sentence(verdict.because), Note(
        msg(
            "Both accuracies are read in evaluation mode. An accuracy counts as on one side"
            " of the target only when its whole 95 % interval (Wilson) is. A recipe changed"
            " because of the test tiles has in part been fitted to them: keep some apart "
            "for the figure that you publish."
        )
    )


def regularisers_table(regularisers: Sequence[Regulariser]) -> Table:
    """Regularisers with their state."""
    rows = tuple(
        (one.name, STATES[one.kind], STATES[one.state], one.setting) for one in regularisers
    )
    return Table(
        (msg("Regulariser"), msg("Kind"), msg("State"), msg("The recipe says")),
        rows,
        note=msg(
            "Explicit: meant to regularise. Implicit: meant for something else, and "
            "regularises on the side."
        ),
    )


def _capacity(diagnosis: Diagnosis, pictures: Mapping[str, Picture]) -> tuple[Block, ...]:
    """Whether the network can learn its training tiles without any regulariser."""
    what = capacity_words(diagnosis.parts.noise)
    probe = msg(
        "The network is a frozen probe: the question is only whether a linear head on "
        "its features can separate the tiles. With more features than tiles it nearly "
        "always can, so a pass says little, and a failure much."
    )
    return (
        msg(
            "First overfit, then regularise: a network that cannot learn its training tiles"
            " with every regulariser off will not learn them with regularisers on."
        ),
        sentence(what),
        sentence(diagnosis.first_stage),
        *([probe] if diagnosis.strategy == "probe" else []),
        *_picture(pictures, "capacity"),
    )


def _share(accuracy: float, tiles: int) -> Interval:
    return wilson(round(accuracy * tiles), tiles)


def ends(accuracy: Interval) -> str:
    """The interval of an accuracy, as key figures show it."""
    if accuracy.low == accuracy.high:
        return ""
    return msg("{low:.3f} to {high:.3f}", low=accuracy.low, high=accuracy.high)
