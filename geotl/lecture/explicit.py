"""Explicit regularisation shown: dropout, weight decay, augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Float64s
from geotl.data.tile_array import batch, statistics
from geotl.errors import RecipeError, nearest
from geotl.experiments.augmentation_preview import drawn_tiles
from geotl.experiments.draws import Draw
from geotl.experiments.samples import TileSamples
from geotl.lecture.figures import (
    Bars,
    ClaimResult,
    Histograms,
    Lines,
    MeanChange,
    Pictures,
    Series,
    Shown,
    sd_of,
    spread,
)
from geotl.lecture.recipes import Decay, Gradient, Masks, Switched, Varied
from geotl.lecture.samples import (
    TrainedNetwork,
    compared,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
)
from geotl.models.classifier import TileClassifier
from geotl.training.augment import augment, check_order
from geotl.training.batches import derived_seed
from geotl.training.losses import decaying, l2_penalty
from geotl.training.settings import Augmentation, Light, Training


def definition(train: MeanChange, test: MeanChange) -> ClaimResult:
    """The lecture's definition of a regulariser, and which of its two clauses held."""
    return ClaimResult(
        test.rises and not train.rises,
        f"{test.words('test accuracy')}; {train.words('training accuracy')}",
    )


def pairs(title: str, names: tuple[str, ...], effects: tuple[MeanChange, ...]) -> Bars:
    """Bars of means without and with, sds at their ends."""
    sides = ("off", "on")
    return Bars(
        title,
        names,
        {side: [float(getattr(one, side).mean()) for one in effects] for side in sides},
        sds={side: [sd_of(getattr(one, side)) for one in effects] for side in sides},
        percent=True,
    )


def dropout_masks(numbers: Masks) -> Shown:
    """Neurons switched off at random in training, survivors scaled up, all on in use."""
    layer = nn.Dropout(numbers.p)
    random = np.random.default_rng(numbers.seed)
    values = torch.from_numpy(random.uniform(0.5, 1.5, numbers.neurons)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(numbers.seed)
        passed = torch.stack([layer(values) for _ in range(numbers.passes)])
    off = passed == 0
    share = float(off.float().mean())
    factors = (passed / values)[~off]
    factor, expected = float(factors.mean()), 1 / (1 - numbers.p)
    means = passed.mean(1)
    error = 4 * float(means.std()) / numbers.passes**0.5
    away = abs(float(means.mean() - values.mean()))
    layer.eval()
    still = torch.equal(layer(values), values)
    never = int((~off).all(0).sum())
    findings = {
        "switched": ClaimResult(
            abs(share - numbers.p) < 0.01 and never == 0,
            f"share switched off {share:.3f} (p = {numbers.p:g}); neurons never off in "
            f"{numbers.passes} passes: {never}",
        ),
        "scale": ClaimResult(
            float((factors - expected).abs().max()) < 1e-5 and away < error,
            f"survivors are multiplied by {factor:.4f} = 1/(1-p); the mean moves by {away:.1e} "
            f"(expected below {error:.1e})",
        ),
        "use": ClaimResult(still, "in evaluation mode the values come out bit for bit"),
    }
    masks = tuple((~off[i, :400]).numpy().reshape(20, 20).astype(float) for i in range(6))
    panels = (
        Pictures("white: on, black: off", masks, tuple(f"pass {i + 1}" for i in range(6))),
        Histograms(
            "mean of all neurons, pass by pass",
            "mean",
            {f"training ({numbers.passes} passes)": means.numpy()},
            bins=30,
        ),
    )
    measured = {"off": share, "factor": factor, "mean_moved": away, "never_off": never}
    return Shown(findings, measured, panels)


def one_key(numbers: Switched) -> Shown:
    """Two trainings that differ in one key: the gap and both clauses of the definition."""
    source = sample_of(numbers)
    arms: list[list[TrainedNetwork]] = [[], []]
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        for side, value in enumerate((0.0, numbers.value)):
            dropout = value if numbers.key == "dropout" else 0.0
            start = network(source, rows.split.train, numbers, seed, dropout=dropout)
            training = with_key(plain_training(numbers, seed), numbers.key, value)
            arms[side].append(learn(start, source, rows, training))
    train, test, gap = (compared(arms, name) for name in ("train", "test", "gap"))
    findings = {
        "gap": ClaimResult(gap.falls, gap.words("training minus test accuracy")),
        "definition": definition(train, test),
    }
    names = ("training accuracy", "test accuracy", "gap")
    panel = pairs(f"{numbers.key} 0 and {numbers.value:g}", names, (train, test, gap))
    values = {"train": train.values(), "judged": test.values(), "gap": gap.values()}
    return Shown(findings, values, (panel,))


def with_key(training: Training, key: str, value: float) -> Training:
    """A training with one key changed; dropout is the network's, so nothing changes here."""
    if key in ("l2", "label_smoothing"):
        return training.changed(**{key: value})
    if key == "mixup":
        mixed = training.augmentation.model_copy(update={"mixup": value})
        return replace(training, augmentation=mixed)
    return training


def decay_gradient(numbers: Gradient) -> Shown:
    """What lambda times the sum of squares adds to each weight's gradient, and to a step of SGD."""
    model, image, labels = _small(numbers)
    plain = gradients(model, image, labels, 0.0)
    penalised = gradients(model, image, labels, numbers.penalty)
    weights = {n: p.detach() for n, p in model.named_parameters()}
    added = {name: penalised[name] - plain[name] for name in plain}
    decays = {name for name, w in weights.items() if w.ndim >= 2}
    away = max(float((added[n] - 2 * numbers.penalty * weights[n]).abs().max()) for n in decays)
    bias = max(float(added[n].abs().max()) for n in weights.keys() - decays)
    step = sgd_difference(model, image, labels, numbers)
    count = sum(w.numel() for w in weights.values())
    over_m = max(
        float((added[n] - 2 * numbers.penalty / count * weights[n]).abs().max()) for n in decays
    )
    findings = {
        "gradient": ClaimResult(
            away < 2e-8, f"the gradient grows by 2 lambda w, to {away:.0e} ({len(decays)} tensors)"
        ),
        "bias": ClaimResult(bias == 0, f"the biases' gradients change by {bias:.0e}"),
        "sgd": ClaimResult(
            step < 2e-8,
            f"a step with weight_decay = 2 lambda ends at the same weights, to {step:.0e}",
        ),
        "over_m": ClaimResult(
            over_m < 2e-8,
            f"with m = {count:,} the gradient would be {count:,} times less: off by {over_m:.0e}",
        ),
    }
    w = torch.cat([weights[n].flatten() for n in sorted(decays)]).numpy()
    gradient = torch.cat([added[n].flatten() for n in sorted(decays)]).numpy()
    sample = np.random.default_rng(numbers.seed).permutation(len(w))[:1500]
    ends = np.array([w.min(), w.max()])
    panel = Lines(
        "what the penalty adds",
        "weight w",
        "added gradient",
        (
            Series("measured", w[sample], gradient[sample], dots=True),
            Series("2 lambda w", ends, 2 * numbers.penalty * ends),
        ),
    )
    return Shown(findings, {"away": away, "bias": bias, "step": step, "m": count}, (panel,))


def _small(numbers: Gradient) -> tuple[TileClassifier, Tensor, Tensor]:
    """A LeNet-5 in double precision and a batch of tiles for it."""
    from geotl.lecture.recipes import Trained

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


def _decayed(numbers: Decay, number: int, penalty: float) -> TrainedNetwork:
    """SGD with this lambda; start, draw and order are the same for every lambda."""
    source, rows = sample_of(numbers), draw(numbers, number)
    seed = numbers.seed + number
    start = network(source, rows.split.train, numbers, seed)
    training = plain_training(numbers, seed).changed(optimizer="sgd", l2=penalty)
    return learn(start, source, rows, training)


def weights_of(model: TileClassifier) -> Float64s:
    """All weights that decay, in one row."""
    return np.concatenate(
        [p.detach().double().numpy().ravel() for p in decaying(model.parameters())]
    )


def weight_histograms(numbers: Decay) -> Shown:
    """The weights after the same training without and with decay, and before it."""
    source, rows = sample_of(numbers), draw(numbers, 0)
    start = weights_of(network(source, rows.split.train, numbers, numbers.seed))
    low, high = numbers.penalties[0], numbers.penalties[-1]
    by_penalty = {
        p: [weights_of(_decayed(numbers, n, p).last) for n in range(numbers.seeds)]
        for p in (low, high)
    }
    norm = MeanChange.of(*([float(np.linalg.norm(w)) for w in by_penalty[p]] for p in (low, high)))
    large = MeanChange.of(
        *(
            [float(np.mean(np.abs(w) > np.abs(start).max())) for w in by_penalty[p]]
            for p in (low, high)
        )
    )
    top = MeanChange.of(
        *([float(np.quantile(np.abs(w), 0.99)) for w in by_penalty[p]] for p in (low, high))
    )
    findings = {
        "smaller": ClaimResult(norm.falls, norm.words("norm of all weights", 2)),
        "large": ClaimResult(top.falls, top.words("size that 1 % of the weights exceed")),
    }
    panel = Histograms(
        "weights after the same training",
        "weight",
        {
            f"lambda {low:g}": by_penalty[low][0],
            f"lambda {high:g}": by_penalty[high][0],
            "before": start,
        },
        log=True,
    )
    values = {"norm": norm.values(), "top": top.values(), "beyond_start": large.values()}
    return Shown(findings, values, (panel,))


def lambda_sweep(numbers: Decay) -> Shown:
    """Norm and accuracy by lambda: the same start, draws and order for every lambda."""
    table = np.zeros((3, numbers.seeds, len(numbers.penalties)))
    for number in range(numbers.seeds):
        for place, penalty in enumerate(numbers.penalties):
            fit = _decayed(numbers, number, penalty)
            norm = float(np.linalg.norm(weights_of(fit.last)))
            table[:, number, place] = norm, fit.train, fit.test
    down = bool((np.diff(table[0], axis=1) < 0).all())
    mean = table.mean(axis=1)
    best = int(mean[2].argmax())
    gain = MeanChange.of(table[2, :, 0], table[2, :, best])
    findings = {
        "degree": ClaimResult(
            down,
            "norm by lambda "
            + ", ".join(
                f"{p:g}: {spread(n, 1)}" for p, n in zip(numbers.penalties, table[0].T, strict=True)
            ),
        ),
        "better": ClaimResult(
            gain.rises,
            f"best lambda {numbers.penalties[best]:g} of {len(numbers.penalties)}, chosen on the "
            f"test tiles themselves: {gain.words('test accuracy')}",
        ),
    }
    smallest = min(p for p in numbers.penalties if p > 0)
    across = [p or smallest / 10 for p in numbers.penalties]
    sds = np.array([[sd_of(column) for column in part.T] for part in table])
    zero = {across[0]: "lambda 0"} if numbers.penalties[0] == 0 else {}
    panels = (
        Lines(
            "norm of the weights",
            "lambda",
            "norm",
            (Series("", across, mean[0], sds[0]),),
            log_x=True,
            marks=zero,
        ),
        Lines(
            "accuracy",
            "lambda",
            "accuracy",
            (
                Series("training", across, mean[1], sds[1]),
                Series("test", across, mean[2], sds[2]),
            ),
            log_x=True,
            percent=True,
            marks=zero,
        ),
    )
    names = ("norm", "train", "judged")
    return Shown(findings, dict(zip(names, table, strict=True)), panels)


PENALTIES: Mapping[str, Callable[[Any], Shown]] = {
    "dropout_masks": dropout_masks,
    "one_key": one_key,
    "decay_gradient": decay_gradient,
    "weight_histograms": weight_histograms,
    "lambda_sweep": lambda_sweep,
}


def augmentation(numbers: Varied) -> Shown:
    """What an augmentation makes of a tile, whether it keeps its promises, and what it changes."""
    source, first = sample_of(numbers), draw(numbers, 0)
    kind, altered = numbers.augment, numbers.judge or numbers.augment
    for one in (kind, altered):
        check_order(one)
    tile = _first_of(source, first, numbers.shown)
    images, captions = drawn_tiles(source, first, kind, tile=tile, seed=numbers.seed)
    promise = promises(source, first, kind)
    arms: list[list[TrainedNetwork]] = [[], []]
    robust = np.zeros((2, numbers.seeds))
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        start = network(source, rows.split.train, numbers, seed)
        plain = plain_training(numbers, seed)
        varied = replace(plain, augmentation=kind, light=Light.of(source.sensor))
        for side, training in enumerate((plain, varied)):
            fit = learn(start, source, rows, training)
            arms[side].append(fit)
            robust[side, number] = altered_accuracy(fit.last, source, rows, altered, seed)
    robustness = MeanChange.of(*robust)
    test, train = compared(arms, "test"), compared(arms, "train")
    findings = {
        "promise": promise,
        "robust": ClaimResult(
            robustness.rises, robustness.words("accuracy on test tiles altered alike")
        ),
        "definition": definition(train, test),
    }
    names = ("test tiles, altered", "test tiles, as they are", "training tiles")
    effects = (robustness, test, train)
    panels = (
        Pictures("one tile, as it is and in eight draws", tuple(images), tuple(captions)),
        pairs("accuracy without and with it", names, effects),
    )
    values = {n: e.values() for n, e in zip(("altered", "judged", "train"), effects, strict=True)}
    return Shown(findings, values, panels)


def _first_of(source: TileSamples, rows: Draw, name: str) -> int:
    """Position among the training tiles of the first one of a class.

    Raises:
        RecipeError: there is no such class.
    """
    classes = source.index.classes
    if name not in classes:
        raise RecipeError(f"shown: given {name}; {nearest(name, classes)}")
    return int(np.flatnonzero(source.labels[rows.split.train] == classes.index(name))[0])


def altered_accuracy(
    model: TileClassifier, source: TileSamples, rows: Draw, kind: Augmentation, seed: int
) -> float:
    """Accuracy on the test tiles after an alteration, the same one for a seed."""
    part, right = rows.split.test, 0
    fill = model.normalise.fill.numpy().astype(np.float64)
    generator = torch.Generator().manual_seed(derived_seed(seed, 0, 0))
    model.eval()
    for start in range(0, len(part), 128):
        sample = part[start : start + 128]
        block = batch(source.pack, sample, fill=fill)
        sd, blank = model.normalise.sd, model.normalise.fill
        block = augment(
            block, kind, generator, band_sd=sd, fill=blank, light=Light.of(source.sensor)
        )
        with torch.inference_mode():
            predicted = model(block["image"]).argmax(1).numpy()
        right += int((predicted == source.labels[sample]).sum())
    return right / len(part)


def promises(source: TileSamples, rows: Draw, kind: Augmentation) -> ClaimResult:
    """Whether an augmentation of a batch keeps what the toolkit promises of it."""
    sample = rows.split.train[:32]
    stats = statistics(source.pack, rows.split.train)
    block = batch(source.pack, sample, fill=stats.fill)
    before, fill = block["image"], torch.from_numpy(stats.fill).float()
    sd = torch.from_numpy(stats.sd).float()
    block["valid"] = block["valid"].expand(before.shape).clone()
    block["valid"][:, :, :2, :2] = False  # a corner that is no data
    mask = block["valid"]
    generator = torch.Generator().manual_seed(0)
    after = augment(block, kind, generator, band_sd=sd, fill=fill, light=Light.of(source.sensor))
    image, valid = after["image"], after["valid"]
    share = float((valid.float().mean((1, 2, 3)) / mask.float().mean((1, 2, 3))).min())
    if kind.noise > 0:
        return _noise_promise(before, image, valid, sd * kind.noise)
    if kind.resamples or kind.kornia:
        return ClaimResult(
            image.shape == before.shape and (share >= 0.8 or len(kind.kornia) > 0),
            f"the size stays {image.shape[-1]} px, at least {share:.0%} of each tile's pixels stay "
            f"valid, {'invented corners are marked and filled' if share < 1 else 'none invented'}",
        )
    if kind.erase > 0 or kind.band_dropout > 0:
        blank = torch.where(valid, 0.0, image - fill.view(1, -1, 1, 1))[:, :, 2:, 2:]
        return ClaimResult(
            float(blank.abs().max()) == 0,
            f"what is taken away is marked and holds the training mean; down to {share:.0%} of a "
            "tile is left",
        )
    if kind.flips or kind.quarter_turns:
        alike = all(
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(before, image, strict=True)
        )
        return ClaimResult(alike, "pixels move and none changes, bit for bit")
    same = torch.equal(image[~valid], before[~valid])
    changed = float((image - before)[valid].abs().mean() / sd.mean())
    return ClaimResult(
        same and changed > 0,
        f"valid pixels change by {changed:.2f} sd on average, invalid ones not at all",
    )


def _noise_promise(before: Tensor, image: Tensor, valid: Tensor, expected: Tensor) -> ClaimResult:
    """The noise's sd against the configured one, band by band; invalid pixels untouched."""
    added = torch.where(valid, image - before, torch.zeros(()))
    count = valid.float().sum((0, 2, 3))
    ratio = (added.square().sum((0, 2, 3)) / count).sqrt() / expected
    worst = float((ratio - 1).abs().max())
    same = torch.equal(image[~valid], before[~valid])
    return ClaimResult(
        same and worst < 0.02,
        f"its sd is the configured one to {worst:.1%} in every band; invalid pixels "
        f"{'stay' if same else 'change'}",
    )


AUGMENTATIONS: Mapping[str, Callable[[Any], Shown]] = {"augmentation": augmentation}
