"""What a diagnosis found, as lines for the screen, JSON, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
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
    Picture,
    ReportContent,
    Table,
    figure_html,
    page_html,
    section_html,
    steps_html,
    table_html,
    top_html,
)
from geotl.studies.measurements import Measurements, OverfitCheck, RateSweep, Standing

JSON_NAME, PAGE_NAME = "diagnosis.json", "diagnosis.html"


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


def lines(found: Diagnosis) -> list[str]:
    """The verdict and what it rests on, in a few printed lines."""
    on = [one.name for one in found.regularisers if one.state == "on"]
    said = [
        found.verdict.line(),
        f"  because {found.verdict.because}",
        capacity_line(found.parts.noise, "64 tiles of noise"),
        found.first_stage,
        f"regularisers on: {', '.join(on) or 'none'}",
        rate_line(found.parts.rates, found.lr),
        "next, the most promising first:",
    ]
    return said + [f"  {n}. {step.line()}" for n, step in enumerate(found.steps, 1)]


def capacity_line(part: OverfitCheck, what: str) -> str:
    """Whether tiles were learnt by heart, in a line."""
    if not part.steps:
        done = "are separated" if part.accuracy == 1 else "are not separated"
        return (
            f"capacity: {what} with random labels {done} by a free linear head on the frozen "
            f"features (accuracy {part.accuracy:.3f})"
        )
    told = f"accuracy {part.accuracy:.3f} in evaluation mode after {part.steps} steps"
    if part.accuracy == 1:
        word = "learnt by heart"
    else:
        word = "NOT learnt by heart: too few steps, or too little capacity"
    early = part.looked_perfect
    trap = f"; in training mode it looked perfect at step {early} already" if early else ""
    return f"capacity: {what} with random labels {word}, {told}{trap}"


def rate_line(part: RateSweep, own: float) -> str:
    """What the range test suggests, in a line."""
    found = part.found
    if found is None:
        return f"learning rate: {part.none}"
    if found.steepest is None:
        return f"learning rate: the loss never fell: no suggestion; the recipe has {own:g}"
    return (
        f"learning rate: steepest descent at {found.steepest:.1e}, a tenth of the minimum's "
        f"{found.tenth:.1e}; the recipe has {own:g}"
    )


def write_diagnosis(folder: Path, found: Diagnosis) -> list[Path]:
    """Write figures, page and (last) JSON; the paths of page and JSON."""
    pictures = _pictures(found)
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture.png)
    write_text(folder / PAGE_NAME, page(found, pictures))
    write_text(folder / JSON_NAME, as_json(found))
    return [folder / PAGE_NAME, folder / JSON_NAME]


def as_json(found: Diagnosis) -> str:
    """Everything found, as JSON."""
    told = {
        "verdict": found.verdict.to_dict(),
        "strategy": found.strategy,
        "next": [asdict(step) for step in found.steps],
        "regularisers": [
            {"name": r.name, "kind": r.kind, "state": r.state, "setting": r.setting}
            for r in found.regularisers
        ],
        "facts": dict(found.facts),
        "parts": found.parts.to_dict(),
        "curve": list(found.curve[1]) if found.curve else None,
    }
    return json_text(plain(told))


def _pictures(found: Diagnosis) -> dict[str, Picture]:
    """The figures, by the section they stand in."""
    own, standing = found.parts.own, found.parts.standing
    rows = [
        ("training tiles", found.verdict.train, True),
        ("test tiles", found.verdict.validation, False),
        ("all off: training tiles", _share(own.accuracy, own.tiles), True),
        ("all off: test tiles", own.validated, False),
    ]
    made = {
        "standing": Picture(
            standing_figure(rows, found.verdict.target),
            "Accuracies against the target",
            "The recipe as it is, and below it stage 1: every regulariser off.",
        ),
        "curves": _curves(standing, found.verdict),
    }
    learnt = {
        "64 tiles of noise, random labels": found.parts.noise.to_dict(),
        "your training tiles": own.to_dict(),
    }
    if own.steps:
        made["capacity"] = Picture(
            capacity_figure(learnt),
            "Tiles learnt by heart",
            "Only evaluation mode counts: in training mode, batch normalisation standardises each "
            "batch by itself and flatters the network. The dashed line is read before each step, "
            "as a training log is.",
        )
    if found.parts.rates.found is not None:
        made["rates"] = Picture(
            rates_figure(found.parts.rates.to_dict(), found.lr),
            "Learning-rate range test",
            "One batch a rate, on a copy of the network.",
        )
    if found.curve:
        made["labels"] = Picture(
            found.curve[0],
            "Accuracy by labels a class",
            "All sizes of a draw are judged on the same tiles.",
        )
    return made


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


def page(found: Diagnosis, pictures: Mapping[str, Picture]) -> str:
    """The whole diagnosis as one self-contained page."""
    verdict, top = found.verdict, _top(found)
    rates = rate_line(found.parts.rates, found.lr).removeprefix("learning rate: ")
    shown_of = {name: figure_html(picture) for name, picture in pictures.items()}
    parts = [
        top_html(top),
        section_html("stand", "Where do you stand", stand_html(verdict) + shown_of["standing"]),
        section_html("next", "What to try next", steps_html(found.steps)),
        section_html("capacity", "Can it overfit at all?", _capacity_html(found, shown_of)),
        section_html("curves", "Learning curves", shown_of["curves"]),
        section_html("rates", "Learning rate", sentence(rates) + shown_of.get("rates", "")),
        section_html(
            "regularisers",
            "Regularisers: what is on, what is off",
            table_html(regularisers_table(found.regularisers)),
        ),
    ]
    if found.curve:
        told = "".join(sentence(line.strip()) for line in found.curve[1][-2:])
        parts.append(section_html("labels", "What more labels bring", shown_of["labels"] + told))
    recipe = f'<pre class="recipe"><code>{escape(found.recipe.strip())}</code></pre>\n'
    parts.append(section_html("recipe", "The recipe, resolved", recipe))
    return page_html(found.title, "\n".join(parts) + "\n", kind="diagnosis")


def _top(found: Diagnosis) -> ReportContent:
    verdict, own = found.verdict, found.parts.own
    target = "none stated" if verdict.target is None else f"{verdict.target:.3f}"
    return ReportContent(
        title=found.title,
        headline=verdict.headline,
        kind="diagnosis",
        loses=verdict.word in ("under", "over"),
        keys=(
            ("Training accuracy", f"{verdict.train.value:.3f}", ends(verdict.train)),
            ("Validation accuracy", f"{verdict.validation.value:.3f}", ends(verdict.validation)),
            ("Target", target, "evaluate.target"),
            ("Stage 1, all off", f"{own.accuracy:.3f}", "training accuracy"),
        ),
        facts=found.facts,
    )


def stand_html(verdict: Verdict) -> str:
    """What a verdict rests on, in words."""
    return sentence(verdict.because) + (
        '<p class="note">Both accuracies are read in evaluation mode. An accuracy counts as on one '
        "side of the target only when its whole 95 % interval (Wilson) is. A recipe changed "
        "because of the test tiles has in part been fitted to them: keep some apart for the "
        "figure that you publish.</p>\n"
    )


def regularisers_table(found: Sequence[Regulariser]) -> Table:
    """Regularisers with their state."""
    rows = tuple((one.name, one.kind, one.state, one.setting) for one in found)
    return Table(
        ("Regulariser", "Kind", "State", "The recipe says"),
        rows,
        note="Explicit: meant to regularise. Implicit: meant for something else, and regularises "
        "on the side.",
    )


def _capacity_html(found: Diagnosis, pictures: Mapping[str, str]) -> str:
    lead = (
        "First overfit, then regularise: a network that cannot learn its training tiles by heart "
        "with every regulariser off will not learn them with regularisers on."
    )
    what = capacity_line(found.parts.noise, "64 tiles of noise").removeprefix("capacity: ")
    probe = (
        "<p>The network is a frozen probe: what is asked here is only whether a linear head on its "
        "features can name the tiles. With more features than tiles it nearly always can, so a "
        "pass says little, and a failure much.</p>\n"
        if found.strategy == "probe"
        else ""
    )
    return (
        f"<p>{lead}</p>\n{sentence(what)}{sentence(found.first_stage)}{probe}"
        f"{pictures.get('capacity', '')}"
    )


def sentence(text: str) -> str:
    """A paragraph of one sentence, whose full stop is added."""
    return f"<p>{escape(text[:1].upper() + text[1:])}.</p>\n"


def _share(accuracy: float, tiles: int) -> Interval:
    return wilson(round(accuracy * tiles), tiles)


def ends(accuracy: Interval) -> str:
    """The interval of an accuracy, as key figures show it."""
    return shown(accuracy).partition(" ")[2].strip("[]").replace(",", " to")


def _against(accuracy: float, target: float | None) -> str:
    if target is None:
        return ""
    return ", which reaches the target" if accuracy >= target else ", BELOW the target"
