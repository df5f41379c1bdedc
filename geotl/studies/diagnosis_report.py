"""What a diagnosis found, as lines for the screen, JSON, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import Interval, wilson
from geotl.evaluation.next_steps import Step
from geotl.evaluation.overfitting import Verdict, shown
from geotl.evaluation.regularisers import Regulariser
from geotl.io.files import json_text, write_text
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
from geotl.reporting.templates import sentence
from geotl.studies.measurements import Measurements, OverfitCheck, RateSweep, Standing

JSON_NAME, PAGE_NAME = "diagnosis.json", "diagnosis.html"
STAND, NEXT = "Where do you stand", "What to try next"  # headings
MORE_LABELS, RECIPE = "What more labels bring", "The recipe, resolved"


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
        own = self.parts.own
        before = own.accuracy - own.validated.value
        return (
            f"stage 1, every regulariser off: training accuracy {own.accuracy:.3f} on "
            f"{own.tiles} tiles{_against(own.accuracy, self.verdict.target)}; gap "
            f"{100 * before:+.1f} points, {100 * self.verdict.gap.value:+.1f} with the recipe's "
            "regularisers"
        )


def lines(diagnosis: Diagnosis) -> list[str]:
    """The verdict and what it rests on, in a few printed lines."""
    on = [one.name for one in diagnosis.regularisers if one.state == "on"]
    text = [
        diagnosis.verdict.line(),
        f"  because {diagnosis.verdict.because}",
        capacity_line(diagnosis.parts.noise, "64 tiles of noise"),
        diagnosis.first_stage,
        f"regularisers on: {', '.join(on) or 'none'}",
        rate_line(diagnosis.parts.rates, diagnosis.lr),
        "next, the most promising first:",
    ]
    return text + [f"  {n}. {step.line()}" for n, step in enumerate(diagnosis.steps, 1)]


def capacity_line(part: OverfitCheck, what: str) -> str:
    """Whether all tiles were fitted, in a line."""
    if not part.steps:
        done = "are separated" if part.accuracy == 1 else "are not separated"
        return (
            f"capacity: {what} with random labels {done} by a free linear head on the frozen "
            f"features (accuracy {part.accuracy:.3f})"
        )
    text = f"accuracy {part.accuracy:.3f} in evaluation mode after {part.steps} steps"
    if part.accuracy == 1:
        word = "all fitted"
    else:
        word = "NOT all fitted: too few steps, or too little capacity"
    early = part.looked_perfect
    trap = f"; in training mode it looked perfect at step {early} already" if early else ""
    return f"capacity: {what} with random labels {word}, {text}{trap}"


def rate_line(part: RateSweep, own: float) -> str:
    """What the range test suggests, in a line."""
    rates = part.found
    if rates is None:
        return f"learning rate: {part.none}"
    if rates.steepest is None:
        return f"learning rate: the loss never fell: no suggestion; the recipe has {own:g}"
    return (
        f"learning rate: steepest descent at {rates.steepest:.1e}, a tenth of the minimum's "
        f"{rates.tenth:.1e}; the recipe has {own:g}"
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
        ("training tiles", diagnosis.verdict.train, True),
        ("test tiles", diagnosis.verdict.validation, False),
        ("all off: training tiles", _share(own.accuracy, own.tiles), True),
        ("all off: test tiles", own.validated, False),
    ]
    pictures = {
        "standing": Picture(
            standing_figure(rows, diagnosis.verdict.target),
            "Accuracies against the target",
            "The recipe as it is, and below it stage 1: every regulariser off.",
        ),
        "curves": _curves(standing, diagnosis.verdict),
    }
    fits = {
        "64 tiles of noise, random labels": diagnosis.parts.noise.to_dict(),
        "your training tiles": own.to_dict(),
    }
    if own.steps:
        pictures["capacity"] = Picture(
            capacity_figure(fits),
            "Tiles fitted on purpose",
            "Only evaluation mode counts: in training mode, batch normalisation standardises each "
            "batch by itself and flatters the network. The dashed line is read before each step, "
            "as a training log is.",
        )
    if diagnosis.parts.rates.found is not None:
        pictures["rates"] = Picture(
            rates_figure(diagnosis.parts.rates.to_dict(), diagnosis.lr),
            "Learning-rate range test",
            "One batch a rate, on a copy of the network.",
        )
    if diagnosis.curve:
        pictures["labels"] = Picture(
            diagnosis.curve[0],
            "Accuracy by labels a class",
            "All sizes of a draw are tested on the same tiles.",
        )
    return pictures


def _curves(standing: Standing, verdict: Verdict) -> Picture:
    """Learning curves: by epoch, or for a probe by how hard its head is pressed."""
    if standing.head is not None:
        return Picture(
            head_figure(standing.to_dict()["head"], verdict.target),
            "Accuracy by setting of the head",
            "A probe has no epochs. Its curve runs from a head that is pressed hard (underfits) to "
            "a free one (may overfit). The folds inside the labels choose, by least log-loss after "
            "temperature scaling, of which accuracy is a coarse picture; the test tiles only "
            "show.",
        )
    return Picture(
        epochs_figure(standing.history or [], standing.best_epoch, verdict),
        "Learning curves",
        "The training line is read while training: with augmentation and dropout on, and weights "
        "still changing, so it may lie below the held-out one. The diamonds are the finished "
        "network in evaluation mode; the verdict rests on these.",
    )


def page(diagnosis: Diagnosis, pictures: Mapping[str, Picture]) -> str:
    """The whole diagnosis as one self-contained page."""
    rates = rate_line(diagnosis.parts.rates, diagnosis.lr).removeprefix("learning rate: ")
    every = [
        Section("stand", STAND, (*stand_words(diagnosis.verdict), pictures["standing"])),
        Section("next", NEXT, (Steps(diagnosis.steps),)),
        Section("capacity", "Can it overfit at all?", _capacity(diagnosis, pictures)),
        Section("curves", "Learning curves", (pictures["curves"],)),
        Section("rates", "Learning rate", (sentence(rates), *_picture(pictures, "rates"))),
        Section(
            "regularisers",
            "Regularisers: what is on, what is off",
            (regularisers_table(diagnosis.regularisers),),
        ),
    ]
    if diagnosis.curve:
        sentences = [sentence(line) for line in diagnosis.curve[1][-2:]]
        every.append(Section("labels", MORE_LABELS, (pictures["labels"], *sentences)))
    return page_html(_top(diagnosis), [*every, *last_sections(diagnosis.facts, diagnosis.recipe)])


def last_sections(facts: Mapping[str, str], recipe: str) -> list[Section]:
    """What stands at the end of a diagnosis: facts and the recipe."""
    return [
        Section("facts", "How it was measured", (Facts(facts),)),
        Section("recipe", RECIPE, (Code(recipe, long=True),)),
    ]


def _picture(pictures: Mapping[str, Picture], name: str) -> tuple[Picture, ...]:
    """A picture, if there is one of that name."""
    return (pictures[name],) if name in pictures else ()


def _top(diagnosis: Diagnosis) -> ReportContent:
    verdict, own = diagnosis.verdict, diagnosis.parts.own
    target = "none stated" if verdict.target is None else f"{verdict.target:.3f}"
    return ReportContent(
        title=diagnosis.title,
        headline=verdict.headline,
        kind="diagnosis",
        loses=verdict.word in ("under", "over"),
        keys=(
            ("Training accuracy", f"{verdict.train.value:.3f}", ends(verdict.train)),
            ("Validation accuracy", f"{verdict.validation.value:.3f}", ends(verdict.validation)),
            ("Target", target, "evaluate.target"),
            ("Stage 1, all off", f"{own.accuracy:.3f}", "training accuracy"),
        ),
    )


def stand_words(verdict: Verdict) -> tuple[str, Note]:
    """What a verdict rests on, in words."""
    return sentence(verdict.because), Note(
        "Both accuracies are read in evaluation mode. An accuracy counts as on one "
        "side of the target only when its whole 95 % interval (Wilson) is. A recipe changed "
        "because of the test tiles has in part been fitted to them: keep some apart for the "
        "figure that you publish."
    )


def regularisers_table(regularisers: Sequence[Regulariser]) -> Table:
    """Regularisers with their state."""
    rows = tuple((one.name, one.kind, one.state, one.setting) for one in regularisers)
    return Table(
        ("Regulariser", "Kind", "State", "The recipe says"),
        rows,
        note="Explicit: meant to regularise. Implicit: meant for something else, and regularises "
        "on the side.",
    )


def _capacity(diagnosis: Diagnosis, pictures: Mapping[str, Picture]) -> tuple[Block, ...]:
    """Whether the network can learn its training tiles without any regulariser."""
    what = capacity_line(diagnosis.parts.noise, "64 tiles of noise").removeprefix("capacity: ")
    probe = (
        "The network is a frozen probe: the question is only whether a linear head on its "
        "features can separate the tiles. With more features than tiles it nearly always can, so "
        "a pass says little, and a failure much."
    )
    return (
        "First overfit, then regularise: a network that cannot learn its training tiles with "
        "every regulariser off will not learn them with regularisers on.",
        sentence(what),
        sentence(diagnosis.first_stage),
        *([probe] if diagnosis.strategy == "probe" else []),
        *_picture(pictures, "capacity"),
    )


def _share(accuracy: float, tiles: int) -> Interval:
    return wilson(round(accuracy * tiles), tiles)


def ends(accuracy: Interval) -> str:
    """The interval of an accuracy, as key figures show it."""
    return shown(accuracy).partition(" ")[2].strip("[]").replace(",", " to")


def _against(accuracy: float, target: float | None) -> str:
    if target is None:
        return ""
    return ", which reaches the target" if accuracy >= target else ", BELOW the target"
