"""Sentences of a run's report: what its figures are of, and what to make of them."""

from __future__ import annotations

from geotl.evaluation.next_steps import Stand, Step
from geotl.experiments.results import BAND_STATISTICS
from geotl.language import joined, msg, sentence
from geotl.training.tuning import Tuning

FUSE = Step(
    msg("Pool the network with band statistics"),
    "model.fuse_statistics=auto",
    msg(
        "they are more accurate here than the network; held-out training labels weigh "
        "both, and the network stays as it is where nothing is gained"
    ),
)


def fusion_hint(headline: str) -> str:
    """What to try where a headline says that the network loses to band statistics; else "".

    >>> fusion_hint("overall accuracy 0.850 [0.709, 0.929]")
    ''
    """
    loses = headline.startswith("The network loses") and BAND_STATISTICS in headline
    return (
        msg("{change} pools the network with band statistics", change=FUSE.change) if loses else ""
    )


def stand_words(stand: Stand, recipe: str) -> tuple[str, ...]:
    """Where the network stands and what that rests on, in sentences."""
    verdict = stand.verdict
    return (
        joined([sentence(verdict.title), sentence(verdict.because)], " "),
        msg(
            "Regularisers on, explicit: {explicit}; implicit: {implicit}.",
            explicit=stand.on("explicit"),
            implicit=stand.on("implicit"),
        ),
        msg(
            "Whether the network can overfit at all, its learning curves against the target and "
            "the learning rates that suit it: geotl diagnose {recipe}",
            recipe=recipe,
        ),
    )


def one_of_many(draws: int, kfold: int | None = None, estimate: str = "") -> tuple[str, ...]:
    """What figures of a single draw, or of folds together, need said about them.

    `estimate` is what is said of a model that was fitted on all labels.

    >>> one_of_many(1)
    ()
    """
    if kfold:
        figures = msg(
            "Figures and pictures are of all {kfold} folds together, each tile tested with a "
            "network that was not trained on its fold.",
            kfold=kfold,
        )
        return (joined([figures, estimate or msg("The model kept is the first fold's.")], " "),)
    if draws == 1:
        return (estimate,) if estimate else ()
    if not estimate:
        return (
            msg(
                "The headline and the repeated draws are means of {draws} draws; cards, scores, "
                "classes and pictures are of the first draw, whose model was kept.",
                draws=draws,
            ),
        )
    means = msg(
        "The headline and the repeated draws are means of {draws} draws; cards, scores, classes "
        "and pictures are of the first draw.",
        draws=draws,
    )
    return (joined([means, estimate], " "),)


def tuning_words(tuning: Tuning) -> tuple[str, ...]:
    """What a share of a fine-tuning is, in sentences.

    >>> tuning_words(Tuning(0.5, {}, {}, 1.0))[0]
    'Each weight of the network is 50 % of the fine-tuned weight and 50 % of the weight before,
    which is that of the probe: 50 % of the way from the probe.'
    """
    if tuning.share == 0:
        return (
            msg(
                "The fine-tuning is not kept (0 % of the way from the probe): on held-out "
                "training labels the probe was better, with its pretrained weights as they "
                "were."
            ),
        )
    return (
        msg(
            "Each weight of the network is {share:.0f} % of the fine-tuned weight and {rest:.0f} % "
            "of the weight before, which is that of the probe: {share:.0f} % of the way from the "
            "probe.",
            share=100 * tuning.share,
            rest=100 - 100 * tuning.share,
        ),
        msg(
            "Held-out training labels choose between this mean and the probe alone. Such means "
            "often classify new tiles better than either network (Wortsman et al. 2022)."
        ),
    )
