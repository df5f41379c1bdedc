"""Explicit regularisation shown: dropout, weight decay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Float64s, Floats
from geotl.data.tile_array import batch
from geotl.lecture.figures import (
    ClaimResult,
    Histograms,
    Label,
    Lines,
    MeanChange,
    Pictures,
    Series,
    Shown,
    spread,
)
from geotl.lecture.hidden_layer import Fitted, changes, course, draws_of, trained_layers
from geotl.lecture.recipes import Decay, Dropped, Gradient, Masks, Trained
from geotl.lecture.samples import (
    draw,
    network,
    sample_of,
)
from geotl.lecture.texts import Both, listed
from geotl.lecture.words import (
    ACCURACY,
    ACCURACY_GAP,
    TEST,
    TEST_ACCURACY,
    TRAINING,
    TRAINING_ACCURACY,
    WEIGHT,
    sentence,
)
from geotl.models.classifier import TileClassifier
from geotl.training.losses import decaying, l2_penalty

SAME = 2e-8  # difference of two gradients that rounding makes


def definition(train: MeanChange, test: MeanChange) -> ClaimResult:
    """The lecture's definition of a regulariser, and which of its two clauses held."""
    first, second = test.both(sentence(TEST_ACCURACY)), train.both(sentence(TRAINING_ACCURACY))
    return ClaimResult(
        test.rises and not train.rises,
        Both(fr=f"{first.fr}. {second.fr}.", en=f"{first.en}. {second.en}."),
    )


def dropout_masks(numbers: Masks) -> Shown:
    """Neurons switched off at random in training, survivors scaled up, all on in use."""
    layer = nn.Dropout(numbers.p)
    random = np.random.default_rng(numbers.seed)
    values = torch.from_numpy(random.uniform(0.5, 1.5, numbers.neurons)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(numbers.seed)
        passed = torch.stack([layer(values) for _ in range(numbers.passes)])
    off, means = passed == 0, passed.mean(1)
    share, never = float(off.float().mean()), int((~off).all(0).sum())
    factors = (passed / values)[~off]
    away = abs(float(means.mean() - values.mean()))
    error = 4 * float(means.std()) / numbers.passes**0.5
    still = torch.equal(layer.eval()(values), values)
    findings = {
        "switched": ClaimResult(
            abs(share - numbers.p) < 0.01 and never == 0, _switched_words(numbers, share, never)
        ),
        "scale": _scaled(factors, 1 / (1 - numbers.p), away, error),
        "use": ClaimResult(
            still,
            Both(
                fr="En mode évaluation, les valeurs sortent bit pour bit.",
                en="In evaluation mode the values come out bit for bit.",
            ),
        ),
    }
    panels = _mask_pictures(off, numbers.p), _means_histogram(means, float(values.mean()))
    factor = float(factors.mean())
    measured = {"off": share, "factor": factor, "mean_moved": away, "never_off": never}
    return Shown(findings, measured, panels)


def _switched_words(numbers: Masks, share: float, never: int) -> Both:
    """How many neurons were off, and how many never."""
    return Both(
        fr=f"La part de neurones désactivés est {share:.3f} (p = {numbers.p:g}). En "
        f"{numbers.passes} passages, le nombre de neurones jamais désactivés est {never}.",
        en=f"The share of neurons switched off is {share:.3f} (p = {numbers.p:g}). In "
        f"{numbers.passes} passes the number of neurons that are never off is {never}.",
    )


def _scaled(factors: Tensor, expected: float, away: float, error: float) -> ClaimResult:
    """Whether survivors are scaled by 1/(1-p), and their mean stays.

    Args:
        factors: of the neurons that were on.
        expected: 1/(1-p).
        away: how far the mean moved.
        error: how far chance moves it.
    """
    factor = float(factors.mean())
    return ClaimResult(
        float((factors - expected).abs().max()) < 1e-5 and away < error,
        Both(
            fr=f"Les survivants sont multipliés par {factor:.4f} = 1/(1-p). La moyenne bouge "
            f"de {away:.4f}, le hasard permet {error:.4f}.",
            en=f"The survivors are multiplied by {factor:.4f} = 1/(1-p). The mean moves by "
            f"{away:.4f}, chance allows {error:.4f}.",
        ),
    )


def _mask_pictures(off: Tensor, p: float) -> Pictures:
    """Which of 400 neurons were off in each of six passes."""
    return Pictures(
        Both(fr=f"Noir : désactivé, p = {p:g}", en=f"Black: switched off, p = {p:g}"),
        tuple((~off[i, :400]).numpy().reshape(20, 20).astype(float) for i in range(6)),
        tuple(Both(fr=f"passage {i + 1}", en=f"pass {i + 1}") for i in range(6)),
        side_in=1.4,
    )


def _means_histogram(means: Tensor, without: float) -> Histograms:
    """Means of the neurons pass by pass, beside the one without dropout."""
    return Histograms(
        Both(fr="La moyenne reste la même", en="The mean stays the same"),
        Both(
            fr="moyenne des neurones, passage par passage",
            en="mean of the neurons, pass by pass",
        ),
        {TRAINING: means.numpy()},
        bins=30,
        marks={without: Both(fr="sans dropout", en="without dropout")},
    )


def dropout_effect(numbers: Dropped) -> Shown:
    """A network that memorises its labels, and the same one with dropout."""
    draws = draws_of(numbers)
    every = numbers.steps // 40 or 1
    plain, dropped = (
        trained_layers(draws, numbers, dropout=p, every=every) for p in (0.0, numbers.p)
    )
    return dropped_shown(plain, dropped, numbers.p)


def dropped_shown(plain: Fitted, dropped: Fitted, p: float) -> Shown:
    """Both trainings compared: the gap and both clauses of the definition."""
    train, test, gap = changes(plain, dropped)
    findings = {
        "gap": ClaimResult(gap.falls, gap.both(sentence(ACCURACY_GAP))),
        "definition": definition(train, test),
    }
    without = spread(gap.off, 2)
    panels = (
        course(
            Both(fr=f"Sans dropout, écart : {without}", en=f"Without dropout, gap: {without}"),
            plain,
        ),
        course(
            gap.changes(Both(fr=f"Avec p = {p:g}, l'écart", en=f"With p = {p:g}, the gap")), dropped
        ),
    )
    values = {"train": train.values(), "test": test.values(), "gap": gap.values()}
    return Shown(findings, values, panels)


def decay_gradient(numbers: Gradient) -> Shown:
    """What lambda times the sum of squares adds to each weight's gradient, and to a step of SGD."""
    model, image, labels = _small(numbers)
    plain = gradients(model, image, labels, 0.0)
    penalised = gradients(model, image, labels, numbers.penalty)
    weights = {n: p.detach() for n, p in model.named_parameters()}
    added = {name: penalised[name] - plain[name] for name in plain}
    decays = sorted(name for name, w in weights.items() if w.ndim >= 2)
    bias = max(float(added[n].abs().max()) for n in weights.keys() - set(decays))
    step = sgd_difference(model, image, labels, numbers)
    count = sum(w.numel() for w in weights.values())
    w, gradient = (torch.cat([one[n].flatten() for n in decays]) for one in (weights, added))
    away, over_m = (
        float((gradient - factor * w).abs().max())
        for factor in (2 * numbers.penalty, 2 * numbers.penalty / count)
    )
    findings = {
        "gradient": ClaimResult(away < SAME, _gradient_words(away, len(decays))),
        "bias": ClaimResult(
            bias == 0,
            Both(
                fr=f"Les gradients des b changent de {bias:.0e}.",
                en=f"The gradients of the b change by {bias:.0e}.",
            ),
        ),
        "sgd": ClaimResult(step < SAME, _sgd_words(step)),
        "over_m": ClaimResult(over_m < SAME, _over_m_words(over_m, count)),
    }
    panel = _added_gradient(w.numpy(), gradient.numpy(), count, numbers)
    return Shown(findings, {"away": away, "bias": bias, "step": step, "m": count}, (panel,))


def _gradient_words(away: float, tensors: int) -> Both:
    """How near the added gradient is to 2 lambda w."""
    return Both(
        fr=f"Le gradient de chaque poids augmente de 2 lambda w, à {away:.0e} près "
        f"({tensors} tenseurs).",
        en=f"The gradient of each weight grows by 2 lambda w, to {away:.0e} ({tensors} tensors).",
    )


def _sgd_words(step: float) -> Both:
    """How near a step with the optimiser's own decay ends."""
    return Both(
        fr=f"Un pas avec weight_decay = 2 lambda arrive aux mêmes poids, à {step:.0e} près.",
        en=f"A step with weight_decay = 2 lambda ends at the same weights, to {step:.0e}.",
    )


def _over_m_words(away: float, count: int) -> Both:
    """How far the slide's 2 lambda w / m is from the added gradient."""
    return Both(
        fr=f"Avec m = {count} poids, 2 lambda w / m serait {count} fois trop petit : il "
        f"s'écarte du gradient mesuré de {away:.0e}.",
        en=f"With m = {count} weights 2 lambda w / m would be {count} times too small: it "
        f"differs from the measured gradient by {away:.0e}.",
    )


def _added_gradient(w: Floats, gradient: Floats, count: int, numbers: Gradient) -> Lines:
    """Added gradient over weight: measured, by the formula, and as the slide has it.

    Args:
        w: all weights that decay.
        gradient: what the penalty adds to the gradient of each.
        count: of the parameters.
        numbers: the penalty, and the seed of the 1,500 weights that are drawn.
    """
    sample = np.random.default_rng(numbers.seed).permutation(len(w))[:1500]
    ends = np.array([w.min(), w.max()])
    slide = Both(fr="2 lambda w / m (diapositive)", en="2 lambda w / m (slide)")
    return Lines(
        Both(fr="Ce que la pénalité ajoute", en="What the penalty adds"),
        Both(fr="poids w", en="weight w"),
        Both(fr="gradient ajouté", en="added gradient"),
        (
            Series(Both(fr="mesuré", en="measured"), w[sample], gradient[sample], dots=True),
            Series("2 lambda w", ends, 2 * numbers.penalty * ends),
            Series(slide, ends, 2 * numbers.penalty * ends / count, dashed=True),
        ),
    )


def _small(numbers: Gradient) -> tuple[TileClassifier, Tensor, Tensor]:
    """A LeNet-5 in double precision and a batch of tiles for it."""
    numbers_of_lenet = Trained(
        **numbers.model_dump(include=set(Trained.model_fields) - {"lr"})
        | {"backbone": "lenet5", "cut_after": None}
    )
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    model = network(source, rows, numbers_of_lenet, numbers.seed).double()
    fill = model.normalise.fill.numpy()
    image = batch(source.pack, rows[:32], fill=fill)["image"].double()
    return model, image, torch.from_numpy(source.labels[rows[:32]])


def gradients(
    model: TileClassifier, image: Tensor, labels: Tensor, penalty: float
) -> dict[str, Tensor]:
    """Gradients of cross-entropy plus the penalty, by parameter."""
    model.zero_grad()
    loss = F.cross_entropy(_logits(model, image), labels)
    (loss + l2_penalty(decaying(model.parameters()), penalty)).backward()  # type: ignore[no-untyped-call]
    return {n: torch.as_tensor(p.grad).clone() for n, p in model.named_parameters()}


def _logits(model: TileClassifier, image: Tensor) -> Tensor:
    """Logits in the model's own precision (`classify` is in single)."""
    features = model.standardise(model.finish(model.frozen_of(model.normalise(image))).double())
    logits: Tensor = model.head(features)
    return logits


def sgd_difference(
    model: TileClassifier, image: Tensor, labels: Tensor, numbers: Gradient
) -> float:
    """How far a step with the penalty is from one with weight_decay = 2 lambda, at most."""
    ends = []
    for penalty, decay in ((numbers.penalty, 0.0), (0.0, 2 * numbers.penalty)):
        stepped = copy.deepcopy(model)
        matrices = [p for p in stepped.parameters() if p.ndim >= 2]
        rest = [p for p in stepped.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": decay},
            {"params": rest},
        ]
        optimizer = torch.optim.SGD(groups, lr=numbers.lr)
        gradients(stepped, image, labels, penalty)
        optimizer.step()
        ends.append([p.detach() for p in stepped.parameters()])
    return max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True))


def weight_histograms(numbers: Decay) -> Shown:
    """The weights after the same training without and with decay."""
    draws = draws_of(numbers)
    low, high = numbers.penalties[0], numbers.penalties[-1]
    fits = [trained_layers(draws, numbers, penalty=penalty) for penalty in (low, high)]
    weights = [fit.layers.weights() for fit in fits]
    norm = MeanChange.of(*(np.linalg.norm(one, axis=1) for one in weights))
    top = MeanChange.of(*(np.quantile(np.abs(one), 0.99, axis=1) for one in weights))
    findings = {
        "smaller": ClaimResult(
            norm.falls,
            norm.both(Both(fr="Norme de tous les poids :", en="Norm of all weights:"), 2),
        ),
        "large": ClaimResult(
            top.falls,
            top.both(
                Both(
                    fr="Taille que 1 % des poids dépassent :",
                    en="Size that 1 % of the weights exceed:",
                )
            ),
        ),
    }
    panel = Histograms(
        norm.changes(Both(fr="La norme des poids", en="The norm of the weights"), 1),
        WEIGHT,
        {f"lambda = {low:g}": weights[0][0], f"lambda = {high:g}": weights[1][0]},
        log=True,
    )
    return Shown(findings, {"norm": norm.values(), "top": top.values()}, (panel,))


def lambda_sweep(numbers: Decay) -> Shown:
    """Norm and accuracy by lambda; each seed chooses its lambda on a validation part."""
    draws = draws_of(numbers, chosen=True)
    rows = []
    for penalty in numbers.penalties:
        fit = trained_layers(draws, numbers, penalty=penalty)
        norm = np.linalg.norm(fit.layers.weights(), axis=1)
        rows.append((norm, fit.train, fit.layers.accuracy(draws.validation), fit.test))
    return sweep_shown(numbers.penalties, np.array(rows))


def sweep_shown(penalties: Sequence[float], table: Float64s) -> Shown:
    """What lambda changed.

    Args:
        penalties: lambdas, rising.
        table: norm, training, validation and test accuracy by lambda and seed [L, 4, S].
    """
    norm, train, validation, test = table.transpose(1, 0, 2)
    best = validation.argmax(axis=0)
    gain = MeanChange.of(test[0], np.take_along_axis(test, best[None], axis=0)[0])
    sizes = [spread(one, 1) for one in norm]
    norms = listed(
        *((f"{p:g} : {n}", f"{p:g}: {n}") for p, n in zip(penalties, sizes, strict=True))
    )
    chosen = listed(*((f"{penalties[place]:g}",) * 2 for place in best))
    findings = {
        "degree": ClaimResult(
            bool((np.diff(norm, axis=0) < 0).all()),
            Both(
                fr=f"Norme des poids par lambda : {norms.fr}.",
                en=f"Norm of the weights by lambda: {norms.en}.",
            ),
        ),
        "better": ClaimResult(
            gain.rises,
            gain.both(
                Both(
                    fr=f"Lambda choisi sur la validation, graine par graine : {chosen.fr}. "
                    "Exactitude de test, lambda 0 -> lambda choisi :",
                    en=f"Lambda chosen on the validation part, seed by seed: {chosen.en}. Test "
                    "accuracy, lambda 0 -> lambda chosen:",
                )
            ),
        ),
    }
    means, sds = table.mean(2), table.std(2, ddof=1) if table.shape[2] > 1 else table[..., 0] * 0
    names: tuple[Label, ...] = (TRAINING, "validation", TEST)
    sides = [(name, means[:, i], sds[:, i]) for i, name in enumerate(names, start=1)]
    panels = (
        _lambda_panel(
            penalties,
            Both(fr="Lambda rétrécit les poids", en="Lambda shrinks the weights"),
            Both(fr="norme des poids", en="norm of the weights"),
            [("", means[:, 0], sds[:, 0])],
        ),
        _lambda_panel(
            penalties,
            gain.changes(Both(fr="L'exactitude de test", en="The test accuracy")),
            ACCURACY,
            sides,
        ),
    )
    values = dict(
        zip(("norm", "train", "validation", "test"), (norm, train, validation, test), strict=True)
    )
    return Shown(findings, values, panels)


def _lambda_panel(
    penalties: Sequence[float],
    title: Both,
    y: Both,
    columns: Sequence[tuple[Label, Float64s, Float64s]],
) -> Lines:
    """Means and sds by lambda, lambda 0 beside the smallest one."""
    smallest = min(p for p in penalties if p > 0)
    across = [p or smallest / 10 for p in penalties]
    return Lines(
        title,
        "lambda",
        y,
        tuple(Series(name, across, mean, sd) for name, mean, sd in columns),
        log_x=True,
        percent=y is ACCURACY,
        marks={across[0]: "lambda 0"} if penalties[0] == 0 else {},
    )


PENALTIES: Mapping[str, Callable[[Any], Shown]] = {
    "dropout_masks": dropout_masks,
    "dropout_effect": dropout_effect,
    "decay_gradient": decay_gradient,
    "weight_histograms": weight_histograms,
    "lambda_sweep": lambda_sweep,
}
