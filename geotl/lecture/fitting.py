"""Under- and overfitting: too small, too free, just right; on purpose; by width and labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from sklearn.exceptions import ConvergenceWarning

from geotl.arrays import Float64s
from geotl.errors import RecipeError, nearest
from geotl.evaluation.learning_curve import LearningCurve, learning_curve
from geotl.evaluation.metrics import mean_interval
from geotl.lecture.figures import (
    COLOURS,
    ClaimResult,
    Label,
    Lines,
    MeanChange,
    Pictures,
    Series,
    Shown,
    sd_of,
    spread,
)
from geotl.lecture.hidden_layer import (
    NOBODY,
    Draws,
    Fitted,
    changes,
    course,
    draws_of,
    trained_layers,
)
from geotl.lecture.recipes import Capacity, MoreLabels, ThreeFits, TwoStages, Widths
from geotl.lecture.samples import sample_of
from geotl.lecture.texts import Both
from geotl.lecture.words import (
    ACCURACY_GAP,
    ERROR,
    STEP,
    TEST,
    TEST_ACCURACY,
    TRAINING,
    TRAINING_ACCURACY,
    class_name,
    sentence,
)
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.capacity import Memorised, memorise, noise_tiles
from geotl.training.heads import logistic

STANDINGS = {
    "under": Both(fr="sous-apprentissage", en="underfitting"),
    "over": Both(fr="surapprentissage", en="overfitting"),
    "right": Both(fr="bien ajusté", en="just right"),
}
TITLES = {
    "under": Both(fr="Trop petit : sous-apprentissage", en="Too small: underfitting"),
    "over": Both(fr="Trop complexe : surapprentissage", en="Too complex: overfitting"),
    "right": Both(fr="Régularisé : bien ajusté", en="Regularised: just right"),
}
GRID = 320  # side of a map of the classes [px]


def standing(train: float, test: float, target: float, wrong: float = 0.0) -> str:
    """Two accuracies compared with a target: under, over, or right.

    Of labels of which some are wrong, a network of the target's quality gets fewer right.

    Args:
        train: training accuracy.
        test: test accuracy, whose labels are right.
        target: accuracy wanted on right labels.
        wrong: share of the training labels that are wrong.

    >>> [standing(a, b, 0.9) for a, b in ((0.60, 0.58), (0.99, 0.70), (0.93, 0.91))]
    ['under', 'over', 'right']
    """
    if train < target * (1 - wrong):
        return "under"
    return "over" if test < target else "right"


def three_fits(numbers: ThreeFits) -> Shown:
    """A network too small, one free to overfit, and the same one with decay, on two attributes."""
    kept, columns = _chosen(numbers)
    draws = draws_of(numbers, kept, columns)
    trials = {
        "under": (numbers.small, 0.0),
        "over": (numbers.width, 0.0),
        "right": (numbers.width, numbers.penalty),
    }
    fits = {
        kind: trained_layers(draws, numbers, width=width, penalty=penalty)
        for kind, (width, penalty) in trials.items()
    }
    findings = {
        kind: standing_claim(kind, fit.train, fit.test, numbers) for kind, fit in fits.items()
    }
    maps = tuple(_map_panel(TITLES[kind], fit, draws) for kind, fit in fits.items())
    values = {kind: {"train": fit.train, "test": fit.test} for kind, fit in fits.items()}
    return Shown(findings, values, (_tiles_panel(numbers, draws), *maps), columns=2)


def _chosen(numbers: ThreeFits) -> tuple[list[int], list[int]]:
    """Positions of the classes and of the two attributes.

    Raises:
        RecipeError: there is no such class or attribute.
    """
    source = sample_of(numbers)
    bands = source.pack.bands
    attributes = [f"{band} {what}" for what in ("mean", "sd") for band in bands]
    found = []
    for key, names, known in (
        ("classes", numbers.classes, list(source.index.classes)),
        ("attributes", numbers.attributes, attributes),
    ):
        for name in names:
            if name not in known:
                raise RecipeError(f"{key}: given {name}; {nearest(name, known)}")
        found.append([known.index(name) for name in names])
    return found[0], found[1]


def standing_claim(kind: str, train: Float64s, test: Float64s, numbers: ThreeFits) -> ClaimResult:
    """Whether both ends of the intervals of the mean accuracies stand where they should."""
    ends = zip(*(ends_of(one) for one in (train, test)), strict=True)
    states = {standing(a, b, numbers.target, numbers.wrong) for a, b in ends}
    state = standing(train.mean(), test.mean(), numbers.target, numbers.wrong)
    figures = f"{spread(train)}, test {spread(test)}"
    least = numbers.target * (1 - numbers.wrong)
    french, english = STANDINGS[state].fr, STANDINGS[state].en
    return ClaimResult(
        states == {kind},
        Both(
            fr=f"Constat : {french} ; entraînement {figures}."
            f" L'objectif est {numbers.target:.2f} au test, donc {least:.2f} à l'entraînement, "
            f"où {numbers.wrong:.0%} des étiquettes sont fausses.",
            en=f"Found: {english}; training {figures}. The target is {numbers.target:.2f} in the "
            f"test, thus {least:.2f} in training, where {numbers.wrong:.0%} of the labels are "
            "wrong.",
        ),
    )


def ends_of(values: Float64s) -> tuple[float, float]:
    """Ends of the 95 % interval of a mean; twice the figure where there is one alone."""
    if len(values) < 2:
        return float(values[0]), float(values[0])
    interval = mean_interval(values)
    return interval.low, interval.high


def _tiles_panel(numbers: ThreeFits, draws: Draws) -> Lines:
    """The training tiles of the first seed, as their labels have them."""
    x, y = draws.train.x[0].numpy(), draws.train.y[0].numpy()
    across, up = numbers.attributes
    series = tuple(
        Series(class_name(name), x[y == number, 0], x[y == number, 1], dots=True)
        for number, name in enumerate(numbers.classes)
    )
    title = Both(
        fr=f"Étiquettes : {numbers.wrong:.0%} fausses",
        en=f"Labels, {numbers.wrong:.0%} wrong",
    )
    return Lines(title, _attribute(across), _attribute(up), series)


def _attribute(name: str) -> Both:
    """An attribute's name on an axis: BAND mean, or BAND sd."""
    band, _, what = name.partition(" ")
    return Both(fr=f"{band}, {'moyenne' if what == 'mean' else 'écart-type'}", en=name)


def _map_panel(title: Both, fit: Fitted, draws: Draws) -> Pictures:
    """Which class the first seed's network gives every place of the plane, and the tiles on it."""
    x, y = draws.train.x[0].numpy(), draws.train.y[0].numpy()
    low, high = x.min(0) - 0.3, x.max(0) + 0.3
    across = np.linspace(low[0], high[0], GRID)
    up = np.linspace(high[1], low[1], GRID)
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    given = fit.layers.predicted(torch.from_numpy(plane).float(), 0).reshape(GRID, GRID)
    colours = np.array([to_rgb(COLOURS[number]) for number in range(draws.classes)])
    image = 1 - 0.4 * (1 - colours[given])
    places = (x - low) / (high - low) * (GRID - 1)
    rows, columns = np.indices((GRID, GRID))
    for (right, top), label in zip(places, y, strict=True):
        away = np.hypot(columns - right, rows - (GRID - 1 - top))
        image[away < 6.4] = 1.0
        image[away < 4.8] = colours[label]
    caption = Both(
        fr=f"entraînement {fit.train.mean():.2f}\ntest {fit.test.mean():.2f}",
        en=f"training {fit.train.mean():.2f}\ntest {fit.test.mean():.2f}",
    )
    return Pictures(title, (image,), (caption,), columns=1, side_in=2.7)


def capacity_check(numbers: Capacity) -> Shown:
    """Noise with random labels overfitted on purpose; scored in evaluation and in training mode."""
    plain = _by_heart("lenet5", numbers, numbers.steps)
    trap = _by_heart(numbers.trap, numbers, numbers.trap_steps)
    looks = trap.looked_perfect
    findings = {
        "memorise": ClaimResult(plain.by_heart, _memorised_text(plain)),
        "trap": ClaimResult(looks is not None, _trap_text(numbers.trap, trap)),
    }
    names: tuple[Label, ...] = (
        Both(fr="lenet5, sans normalisation par lots", en="lenet5, no batch norm"),
        numbers.trap,
    )
    panels = tuple(
        _memorised_panel(name, result) for name, result in zip(names, (plain, trap), strict=True)
    )
    first = plain.steps if plain.by_heart else None
    values = {"lenet5_step": first, "trap_step": looks, "path": np.array(trap.path)}
    return Shown(findings, values, panels)


def _memorised_text(result: Memorised) -> Both:
    """How far a network got, in evaluation mode."""
    tiles, steps, share = result.tiles, result.steps, f"{result.accuracy:.0%}"
    return Both(
        fr=f"Après {steps} pas, lenet5 classe {share} de {tiles} tuiles de bruit comme leurs "
        "étiquettes tirées au hasard (mode évaluation).",
        en=f"After {steps} steps lenet5 classifies {share} of {tiles} tiles of noise as their "
        "random labels have it (evaluation mode).",
    )


def _trap_text(name: str, result: Memorised) -> Both:
    """Whether training mode looked perfect before evaluation mode was."""
    looks, end = result.looked_perfect, f"{result.accuracy:.0%}"
    if looks is None:
        return Both(
            fr=f"{name} n'a jamais 100 % en mode entraînement avant le mode évaluation.",
            en=f"{name} never has 100 % in training mode before evaluation mode.",
        )
    there = f"{result.path[looks - 1][2]:.0%}"
    return Both(
        fr=f"Au pas {looks}, {name} classe 100 % des tuiles en mode entraînement, mais {there} en "
        f"mode évaluation, et {end} au pas {result.steps}.",
        en=f"At step {looks} {name} classifies 100 % of the tiles in training mode, but {there} in "
        f"evaluation mode, and {end} at step {result.steps}.",
    )


def _by_heart(backbone: str, numbers: Capacity, steps: int) -> Memorised:
    """How a network took to learning noise, all tiles in one batch."""
    tiles = noise_tiles(
        np.zeros(1), np.ones(1), 32, numbers.classes, count=numbers.tiles, seed=numbers.seed
    )
    return memorise(
        _bare(backbone, numbers),
        tiles,
        lr=numbers.lr,
        steps=steps,
        batch_size=numbers.tiles,
        seed=numbers.seed,
    )


def _memorised_panel(name: Label, result: Memorised) -> Lines:
    steps, training, use = np.array(result.path).T
    return Lines(
        name,
        STEP,
        Both(fr="exactitude sur ses propres tuiles", en="accuracy on its own tiles"),
        (
            Series(Both(fr="mode évaluation", en="evaluation mode"), steps, use),
            Series(Both(fr="mode entraînement", en="training mode"), steps, training, dashed=True),
        ),
        percent=True,
        limits=(0.0, 1.05),
    )


def _bare(backbone: str, numbers: Capacity) -> TileClassifier:
    """A network for grey noise, standard already."""
    built, _ = build_backbone(backbone, ["grey"], seed=numbers.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(numbers.seed)
        spec = FeatureSpec(built.stage_names[-1:], views=1)
        return TileClassifier(built, Normalise([0.0], [1.0]), spec, numbers.classes)


def width_sweep(numbers: Widths) -> Shown:
    """One hidden layer on band statistics, wider and wider: training and test error."""
    draws = draws_of(numbers)
    fits = [trained_layers(draws, numbers, width=width) for width in numbers.widths]
    errors = 1 - np.array([[fit.train for fit in fits], [fit.test for fit in fits]])
    return widths_shown(numbers.widths, errors)


def widths_shown(widths: Sequence[int], errors: Float64s) -> Shown:
    """Training and test error [2, W, S] by width: whether width cures one and harms the other."""
    mean, sds = errors.mean(axis=2), np.apply_along_axis(sd_of, 2, errors)
    rises = np.diff(mean[0])
    cured = bool((rises <= sds[0][1:] + 1e-12).all() and mean[0, -1] < 0.5 * mean[0, 0])
    gap = MeanChange.of(*(errors[1, i] - errors[0, i] for i in (0, -1)))
    first, last = spread(errors[0, 0]), spread(errors[0, -1])
    narrow, wide, most = widths[0], widths[-1], max(0.0, float(rises.max()))
    findings = {
        "cure": ClaimResult(
            cured,
            Both(
                fr=f"Le taux d'erreur d'entraînement passe de {first} (largeur {narrow}) à "
                f"{last} (largeur {wide}). Sa plus grande hausse d'une largeur à la suivante est "
                f"{most:.3f}.",
                en=f"The training error goes from {first} (width {narrow}) to {last} (width "
                f"{wide}). Its largest rise from one width to the next is {most:.3f}.",
            ),
        ),
        "overfit": ClaimResult(
            gap.rises,
            gap.both(
                Both(
                    fr=f"Erreur de test moins erreur d'entraînement, de {narrow} à {wide} "
                    "neurones :",
                    en=f"Test minus training error, {narrow} to {wide} neurons:",
                )
            ),
        ),
    }
    panel = Lines(
        gap.changes(Both(fr="L'écart", en="The gap")),
        Both(fr="neurones cachés", en="hidden neurons"),
        ERROR,
        tuple(Series(name, widths, mean[i], sds[i]) for i, name in enumerate((TRAINING, TEST))),
        log_x=True,
        percent=True,
        limits=(0.0, 1.0),
    )
    return Shown(findings, {"widths": widths, "errors": errors}, (panel,))


def two_stages(numbers: TwoStages) -> Shown:
    """Overfit with every regulariser off, then turn them on: the lecture's strategy."""
    draws = draws_of(numbers)
    first = trained_layers(draws, numbers, every=numbers.steps // 40 or 1)
    second = trained_layers(
        draws,
        numbers,
        dropout=numbers.dropout,
        penalty=numbers.l2,
        every=numbers.steps // 40 or 1,
    )
    return stages_shown(first, second, numbers.target)


def stages_shown(first: Fitted, second: Fitted, target: float) -> Shown:
    """Both stages compared: capacity, gap, and the two clauses of the definition."""
    train, test, gap = changes(first, second)
    reached = bool((train.off >= target).all())
    findings = {
        "capacity": ClaimResult(
            reached,
            Both(
                fr=f"À l'étape 1, l'exactitude d'entraînement est {spread(train.off)} ; "
                f"l'objectif est {target:.2f}.",
                en=f"In stage 1 the training accuracy is {spread(train.off)}; the target is "
                f"{target:.2f}.",
            ),
        ),
        "gap": ClaimResult(gap.falls, gap.both(sentence(ACCURACY_GAP))),
        "clause_validation": ClaimResult(test.rises, test.both(sentence(TEST_ACCURACY))),
        "clause_training": ClaimResult(not train.rises, train.both(sentence(TRAINING_ACCURACY))),
    }
    panels = (
        course(
            Both(fr="Étape 1 : sans régularisation", en="Stage 1: without regularisation"), first
        ),
        course(gap.changes(Both(fr="Étape 2, l'écart", en="Stage 2, the gap")), second),
    )
    values = {"train": train.values(), "test": test.values(), "gap": gap.values()}
    return Shown(findings, values, panels)


def more_labels(numbers: MoreLabels) -> Shown:
    """A linear head on band statistics by labels per class, almost free and regularised."""
    accuracies = np.zeros((2, numbers.seeds, len(numbers.sizes)))
    for place, size in enumerate(numbers.sizes):
        draws = draws_of(numbers.model_copy(update={"shots": size}))
        for kind, penalty in enumerate((numbers.free, numbers.penalised)):
            accuracies[kind, :, place] = _linear_accuracies(draws, penalty)
    more = MeanChange.of(accuracies[0, :, 0], accuracies[0, :, -1])
    regularised = MeanChange.of(accuracies[0, :, 0], accuracies[1, :, 0])
    few, many = numbers.sizes[0], numbers.sizes[-1]
    findings = {
        "ideal": ClaimResult(
            more.rises,
            more.both(
                Both(
                    fr=f"Exactitude de test, de {few} à {many} étiquettes par classe :",
                    en=f"Test accuracy, {few} to {many} labels per class:",
                )
            ),
        ),
        "few": ClaimResult(
            regularised.rises,
            regularised.both(
                Both(
                    fr=f"Exactitude de test avec {few} étiquettes par classe, sans puis avec "
                    "pénalité :",
                    en=f"Test accuracy with {few} labels per class, without then with the penalty:",
                )
            ),
        ),
    }
    panel = Lines(
        more.title(Both(fr=f"De {few} à {many} étiquettes", en=f"{few} to {many} labels")),
        Both(fr="étiquettes par classe", en="labels per class"),
        TEST_ACCURACY,
        tuple(
            _curve_series(name, learning_curve(numbers.sizes, part))
            for name, part in zip(
                (
                    Both(fr="presque sans pénalité", en="next to no penalty"),
                    Both(fr="pénalisé", en="penalised"),
                ),
                accuracies,
                strict=True,
            )
        ),
        log_x=True,
        percent=True,
    )
    return Shown(findings, {"sizes": numbers.sizes, "accuracy": accuracies}, (panel,))


def _linear_accuracies(draws: Draws, penalty: float) -> Float64s:
    """Test accuracy of a logistic head for each seed [S]."""
    accuracies = []
    for number in range(len(draws.train.x)):
        x, y = draws.train.x[number].double().numpy(), draws.train.y[number].numpy()
        with warnings.catch_warnings():  # of labels that can be separated no optimum is finite
            warnings.simplefilter("ignore", ConvergenceWarning)
            head = logistic(x[:, None], y, penalty, num_classes=draws.classes)
        truth = draws.test.y[number].numpy()
        there = truth != NOBODY
        predicted = head.logits(draws.test.x[number].double().numpy()[:, None]).argmax(1)
        accuracies.append(float(np.mean(predicted[there] == truth[there])))
    return np.array(accuracies)


def _curve_series(name: Both, measured: LearningCurve) -> Series:
    return Series(name, measured.shots, measured.mean, measured.sd)


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "three_fits": three_fits,
    "capacity_check": capacity_check,
    "width_sweep": width_sweep,
    "two_stages": two_stages,
    "more_labels": more_labels,
}
