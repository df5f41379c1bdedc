"""Suggestions for the next experiment, from the verdict and the active regularisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geotl.evaluation.overfitting import Verdict, side, tiles_to_separate
from geotl.evaluation.regularisers import Regulariser, written
from geotl.language import joined, msg

MAX_NAMED = 4
USUAL_AUGMENTATIONS = (
    "augmentation: flips and quarter turns",
    "flips",
    "quarter turns",
    "free rotation",
    "change of scale",
    "noise",
)


@dataclass(frozen=True)
class Stand:
    """Where a network stands, which regularisers it has, and what to try next."""

    verdict: Verdict
    regularisers: tuple[Regulariser, ...]
    steps: tuple[Step, ...]

    def on(self, kind: str | None = None) -> str:
        """The regularisers that are on, of a kind or of both, in words."""
        active = [r.name for r in self.regularisers if r.state == "on" and kind in (None, r.kind)]
        return joined(active) if active else msg("none")


@dataclass(frozen=True)
class Step:
    """A suggested step.

    Attributes:
        do: the step, in a sentence.
        change: keys and values of the recipe, as they are written after its name; may be empty.
        why: expected effect.
    """

    do: str
    change: str
    why: str

    def line(self) -> str:
        """The step in one line."""
        return msg("{do}: {change}", do=self.do, change=self.change) if self.change else self.do


def next_steps(
    verdict: Verdict,
    regularisers: Sequence[Regulariser],
    strategy: str,
    *,
    stage_one: float | None = None,
    more_tiles: bool = True,
) -> tuple[Step, ...]:
    """Suggested steps, the most promising first.

    Args:
        verdict: whether the network under- or overfits.
        regularisers: regularisers of the network.
        strategy: strategy of the recipe.
        stage_one: training accuracy with every regulariser off, where that was measured.
        more_tiles: whether test tiles are left that a larger sample could take in.
    """
    if verdict.word == "under":
        return _against_underfitting(verdict, regularisers, strategy, stage_one)
    if verdict.word == "over":
        return _against_overfitting(regularisers, strategy)
    if verdict.word == "just right":
        return _when_right(verdict)
    steps = _to_separate(verdict, more_tiles=more_tiles)
    rest = _against_overfitting(regularisers, strategy)[:1] if "over" in verdict.between else ()
    return (*steps, *rest)


def _against_underfitting(
    verdict: Verdict, regularisers: Sequence[Regulariser], strategy: str, stage_one: float | None
) -> tuple[Step, ...]:
    """First overfit: regularisers off, then capacity, then the labels themselves."""
    target = verdict.target
    on = [one for one in regularisers if one.kind == "explicit" and one.state == "on" and one.off]
    off = " ".join(_pairs(one) for one in on)
    reached = stage_one is not None and target is not None and stage_one >= target
    steps: list[Step] = []
    if strategy == "probe":
        steps.append(
            Step(
                msg("Let the folds choose among weaker penalties"),
                _freer_head(regularisers),
                _penalty_words(stage_one),
            )
        )
    elif off and (reached or stage_one is None):
        why = msg("the network must first be able to overfit")
        if reached:
            why = msg(
                "without them the network reaches {stage_one:.3f} on its training tiles",
                stage_one=stage_one,
            )
        steps.append(Step(msg("Turn regularisers off, or down"), off, why))
    if not reached:
        steps += _more_capacity(strategy)
    if strategy != "probe":
        steps.append(
            Step(
                msg("Train longer, or at the rate that the range test suggests"),
                "train.epochs=100 train.lr=RATE",
                msg("the optimiser may not have arrived yet"),
            )
        )
    steps.append(
        Step(
            msg("Check the labels: geotl check FOLDER"),
            "",
            msg("no network fits labels that contradict each other"),
        )
    )
    return tuple(steps)


def _penalty_words(stage_one: float | None) -> str:
    """Why a probe is given weaker penalties."""
    if not stage_one:
        return msg("a probe's only regulariser is its penalty")
    return msg(
        "a probe's only regulariser is its penalty; with none its training accuracy is "
        "{stage_one:.3f}",
        stage_one=stage_one,
    )


def _more_capacity(strategy: str) -> list[Step]:
    """Give the network more to learn with."""
    if strategy == "probe":
        return [
            Step(
                msg("Give the head richer features"),
                "model.truncate_after=null model.feature_stages=null",
                msg("a linear head can only separate what the frozen features separate"),
            ),
            Step(
                msg("Train stages too"),
                "strategy=probe_then_finetune",
                msg("frozen features cannot adapt to your tiles"),
            ),
        ]
    freer = {"finetune": "strategy=full", "probe_then_finetune": "strategy=full"}.get(strategy, "")
    steps = [
        Step(
            msg("Take a larger network"),
            "model.backbone=resnet50 (geotl backbones lists all)",
            msg("more parameters fit more"),
        )
    ]
    if freer:
        steps.insert(
            0, Step(msg("Let every stage learn"), freer, msg("frozen stages cannot adapt"))
        )
    return steps


def _freer_head(regularisers: Sequence[Regulariser]) -> str:
    """A wider choice on the side of less penalty."""
    setting = next(one.setting for one in regularisers if one.name.startswith("penalty"))
    if setting.startswith("probe.penalties"):
        return "probe.penalties=[0.1,1,10,100,1000]"
    return "probe.shrinkages=[0.01,0.05,0.1,0.2,0.4]"


def _against_overfitting(regularisers: Sequence[Regulariser], strategy: str) -> tuple[Step, ...]:
    """More labels first, then regularisers that are off, then those that are on, harder."""
    labels = Step(
        msg(
            "Add labels where the network is unsure: geotl suggest; what they would bring: "
            "geotl curve"
        ),
        "",
        msg("more labels are the ideal remedy: they add what no regulariser can"),
    )
    harder = _harder_head(regularisers) if strategy == "probe" else _harder_training(regularisers)
    return (labels, *_pretrained(regularisers), *_augmented(regularisers), *harder)


def _pretrained(regularisers: Sequence[Regulariser]) -> list[Step]:
    """Transfer, where the network starts at random."""
    transfer = _by_name(regularisers)["transfer"]
    if transfer.state != "off":
        return []
    why = msg("transfer leaves less to learn from few labels")
    return [Step(msg("Begin from pretrained weights"), transfer.change, why)]


def _augmented(regularisers: Sequence[Regulariser]) -> list[Step]:
    """The usual augmentations that are off, a few of them."""
    off = [
        one for one in regularisers if one.kind == "explicit" and one.state == "off" and one.change
    ]
    changes = [one.change for one in off if one.name in USUAL_AUGMENTATIONS][:MAX_NAMED]
    if not changes:
        return []
    why = msg("each epoch shows other pixels under the same label")
    return [Step(msg("Vary the training tiles more"), " ".join(changes), why)]


def _harder_head(regularisers: Sequence[Regulariser]) -> list[Step]:
    """Steps that regularise a probe, with a head that is solved for."""
    penalty = next(one for one in regularisers if one.name.startswith("penalty"))
    steps = []
    if penalty.change.startswith("probe.shrinkages"):  # only a discriminant learns from them
        steps.append(
            Step(
                msg("Let tiles without labels take part"),
                "probe.semi_supervised=pseudo_labels",
                msg(
                    "their pixels show how features spread; the gain is measured and reported "
                    "apart. Of these rules pseudo-labels lost accuracy nowhere (docs/PRESETS.md)"
                ),
            )
        )
    steps.append(
        Step(
            msg("Press the head harder"),
            penalty.change,
            msg(
                "the folds have chosen already, so little is to be expected; the gap of a probe"
                " with more features than labels is often harmless"
            ),
        )
    )
    return steps


def _harder_training(regularisers: Sequence[Regulariser]) -> list[Step]:
    """Steps that regularise a trained network."""
    states = _by_name(regularisers)
    decay, dropout, frozen = (states[name] for name in ("weight decay", "dropout", "frozen stages"))
    steps = [
        Step(msg("More weight decay"), decay.change, msg("smaller weights, a smoother answer"))
    ]
    if dropout.state == "off":
        why = msg("the network cannot rely on a single feature")
        steps.append(Step(msg("Dropout before the head"), dropout.change, why))
    if frozen.state == "off":
        why = msg("fewer parameters to fit with few labels")
        steps.append(Step(msg("Freeze early stages"), frozen.change, why))
    return steps


def _by_name(regularisers: Sequence[Regulariser]) -> dict[str, Regulariser]:
    return {one.name: one for one in regularisers}


def _when_right(verdict: Verdict) -> tuple[Step, ...]:
    """The target is reached."""
    higher: str = msg("Or state a higher target")
    if verdict.gap.low > 0:
        higher = msg(
            "Or state a higher target; the gap of {gap:.1f} points means that regularising may "
            "still improve it",
            gap=100 * verdict.gap.value,
        )
    return (
        Step(
            msg("Keep the recipe, and test once on tiles that had no part in choosing it"),
            "",
            msg("a recipe that was changed by looking at the test tiles has, in a way, seen them"),
        ),
        Step(higher, "evaluate.target=HIGHER", msg("to go on")),
    )


def _to_separate(verdict: Verdict, *, more_tiles: bool) -> tuple[Step, ...]:
    """Steps that lead to a clear verdict."""
    if verdict.target is None:
        return (
            Step(
                msg("State the accuracy that you need"),
                "evaluate.target=0.9",
                msg("under and just right differ in nothing but the target"),
            ),
        )
    steps = []
    on_test = msg("Label more tiles to test on")
    if more_tiles:
        on_test = msg("Test on more tiles (--test-tiles)")
    for accuracy, do in (
        (verdict.train, msg("Label more tiles to train on")),
        (verdict.validation, on_test),
    ):
        if side(accuracy, verdict.target) == "unknown":
            needed = tiles_to_separate(accuracy.value, verdict.target)
            steps.append(Step(do, "", _needed_words(needed)))
    return tuple(steps)


def _needed_words(needed: int | None) -> str:
    """How many tiles would separate an accuracy from the target; None: more than a million."""
    if needed is None:
        return msg("an accuracy so near the target counts as reached or not, as you prefer")
    return msg(
        "about {needed:,} at the same accuracy would separate it from the target", needed=needed
    )


def _pairs(one: Regulariser) -> str:
    return " ".join(f"{key}={written(value)}" for key, value in (one.off or {}).items())
