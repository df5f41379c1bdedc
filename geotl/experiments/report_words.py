"""Sentences of a run's report: what its figures are of, and what to make of them."""

from __future__ import annotations

from geotl.evaluation.next_steps import Stand, Step
from geotl.experiments.results import BAND_STATISTICS
from geotl.training.tuning import Tuning

FUSE = Step(
    "Pool the network with band statistics",
    "model.fuse_statistics=auto",
    "they are more accurate here than the network; held-out training labels weigh both, and the "
    "network stays as it is where nothing is gained",
)


def fusion_hint(headline: str) -> str:
    """What to try where a headline says that the network loses to band statistics; else "".

    >>> fusion_hint("overall accuracy 0.850 [0.709, 0.929]")
    ''
    """
    loses = headline.startswith("The network loses") and BAND_STATISTICS in headline
    return f"{FUSE.change} pools the network with band statistics" if loses else ""


def stand_words(stand: Stand, recipe: str) -> tuple[str, ...]:
    """Where the network stands and what that rests on, in sentences."""
    because = stand.verdict.because
    return (
        f"{stand.verdict.title}. {because[:1].upper()}{because[1:]}.",
        f"Regularisers on, explicit: {stand.on('explicit')}; implicit: {stand.on('implicit')}.",
        f"Whether the network can overfit at all, its learning curves against the target and the "
        f"learning rates that suit it: geotl diagnose {recipe}",
    )


def one_of_many(draws: int, kfold: int | None = None, estimate: str = "") -> tuple[str, ...]:
    """What figures of a single draw, or of folds together, need said about them.

    `estimate` is what is said of a model that was fitted on all labels.

    >>> one_of_many(1)
    ()
    """
    if kfold:
        kept = estimate or "The model kept is the first fold's."
        return (
            f"Figures and pictures are of all {kfold} folds together, each tile tested with a "
            f"network that was not trained on its fold. {kept}",
        )
    if draws == 1:
        return (estimate,) if estimate else ()
    kept = f". {estimate}" if estimate else ", whose model was kept."
    return (
        f"The headline and the repeated draws are means of {draws} draws; cards, scores, classes "
        f"and pictures are of the first draw{kept}",
    )


def tuning_words(tuning: Tuning) -> tuple[str, ...]:
    """What a share of a fine-tuning is, in sentences.

    >>> tuning_words(Tuning(0.5, {}, {}, 1.0))[0]
    'Each weight of the network is 50 % of the fine-tuned weight and 50 % of the weight before,
    which is that of the probe: 50 % of the way from the probe.'
    """
    if tuning.share == 0:
        return (
            "The fine-tuning is not kept (0 % of the way from the probe): on held-out training "
            "labels the probe was better, with its pretrained weights as they were.",
        )
    share = f"{100 * tuning.share:.0f} %"
    return (
        f"Each weight of the network is {share} of the fine-tuned weight and "
        f"{100 - 100 * tuning.share:.0f} % of the weight before, which is that of the probe: "
        f"{share} of the way from the probe.",
        "Held-out training labels choose between this mean and the probe alone. Such means often "
        "classify new tiles better than either network (Wortsman et al. 2022).",
    )
