"""Blocks of Inception and ResNet shown: 1x1 convolutions, parallel kernels, shortcuts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Pictures, Shown
from geotl.lecture.freezing import processor_seconds
from geotl.lecture.recipes import Bottleneck, Levels, Pictured, Residual
from geotl.lecture.samples import (
    TrainedNetwork,
    band,
    compared,
    curve,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
    standard_tiles,
)
from geotl.lecture.texts import Both, grouped
from geotl.models.registry import Backbone, build_backbone

BLOCKS = (
    Both(fr="poids aléatoires", en="random weights"),
    Both(fr="convolutions\ninutiles", en="useless\nconvolutions"),
    Both(fr="les mêmes, sans\nraccourci", en="the same,\nno shortcut"),
)


def multiplications(
    side: int, channels: int, filters: int, kernel: int, narrow: int
) -> tuple[int, int]:
    """Multiplications of a wide convolution, directly and after a 1x1 to `narrow` channels.

    >>> multiplications(28, 192, 32, 5, 16)
    (120422400, 12443648)
    """
    direct = side * side * filters * kernel * kernel * channels
    reduced = side * side * narrow * channels + side * side * filters * kernel * kernel * narrow
    return direct, reduced


def bottleneck(numbers: Bottleneck) -> Shown:
    """A wide convolution directly and after a 1x1: multiplications, and seconds."""
    direct, reduced = multiplications(
        numbers.side, numbers.channels, numbers.filters, numbers.kernel, numbers.narrow
    )
    wide: dict[str, Any] = {"kernel_size": numbers.kernel, "padding": numbers.kernel // 2}
    layers: tuple[nn.Module, nn.Module] = (
        nn.Conv2d(numbers.channels, numbers.filters, **wide),
        nn.Sequential(
            nn.Conv2d(numbers.channels, numbers.narrow, 1),
            nn.ReLU(),
            nn.Conv2d(numbers.narrow, numbers.filters, **wide),
        ),
    )
    generator = torch.Generator().manual_seed(numbers.seed)
    x = torch.randn(4, numbers.channels, numbers.side, numbers.side, generator=generator)
    seconds = processor_seconds([functools.partial(layer, x) for layer in layers], numbers.repeats)
    findings = {
        "multiplications": ClaimResult(
            reduced < direct,
            Both(
                fr=f"{grouped(direct)} -> {grouped(reduced)} multiplications : "
                f"{direct / reduced:.1f} fois moins",
                en=f"{direct:,} -> {reduced:,} multiplications: {direct / reduced:.1f} times fewer",
            ),
        ),
        "time": ClaimResult(
            seconds[1] < seconds[0],
            Both(
                fr=f"{1000 * seconds[0]:.1f} ms -> {1000 * seconds[1]:.1f} ms de processeur pour "
                f"quatre cartes : {seconds[0] / seconds[1]:.1f} fois moins",
                en=f"{1000 * seconds[0]:.1f} ms -> {1000 * seconds[1]:.1f} ms of a processor for "
                f"four maps: {seconds[0] / seconds[1]:.1f} times less",
            ),
        ),
    }
    wide_name = f"{numbers.kernel}×{numbers.kernel}"
    names = (
        Both(fr=f"{wide_name} directement", en=f"{wide_name} directly"),
        Both(
            fr=f"d'abord 1×1 ({numbers.narrow} canaux)", en=f"1×1 first ({numbers.narrow} channels)"
        ),
    )
    panels = (
        Bars(
            Both(
                fr=f"multiplications : {direct / reduced:.1f} fois moins",
                en=f"multiplications: {direct / reduced:.1f} times fewer",
            ),
            names,
            {"": [direct, reduced]},
            words={"": [f"{direct / 1e6:.1f} M", f"{reduced / 1e6:.1f} M"]},
        ),
        Bars(
            Both(
                fr=f"temps de processeur : {seconds[0] / seconds[1]:.1f} fois moins",
                en=f"processor time: {seconds[0] / seconds[1]:.1f} times less",
            ),
            names,
            {"": [1000 * s for s in seconds]},
            words={"": [f"{1000 * s:.1f} ms" for s in seconds]},
        ),
    )
    return Shown(findings, {"multiplications": (direct, reduced), "seconds": seconds}, panels)


def parallel_filters(numbers: Pictured) -> Shown:
    """A block of GoogLeNet: several kernels side by side, their outputs put together."""
    bands = sample_of(numbers).pack.bands
    model, _ = build_backbone("googlenet", bands, seed=numbers.seed, cut_after="inception3")
    block: Any = model.stages["inception3"].inception3a
    branches = dict(block.named_children())
    sizes = {
        name: [m.kernel_size[0] for m in branch.modules() if isinstance(m, nn.Conv2d)]
        for name, branch in branches.items()
    }
    widths = {
        name: [m for m in branch.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
        for name, branch in branches.items()
    }
    model.eval()
    tile = torch.nn.functional.interpolate(standard_tiles(numbers)[-2:-1], scale_factor=4.0)
    with torch.inference_mode():
        stem = model.stages["stem"](tile)
        maps = {name: branch(stem) for name, branch in branches.items()}
        together = block(stem)
    joined = torch.cat(list(maps.values()), dim=1)
    kernels = sorted({k for block_sizes in sizes.values() for k in block_sizes})
    ones = sum(block_sizes[0] == 1 and len(block_sizes) > 1 for block_sizes in sizes.values())
    choices = [m.out_channels for m in block.modules() if isinstance(m, nn.Conv2d)]
    findings = {
        "parallel": ClaimResult(
            len(kernels) > 1 and torch.equal(together, joined),
            Both(
                fr=f"filtres de {_sizes(kernels)} px dans {len(branches)} branches ; leurs canaux "
                f"mis bout à bout : {' + '.join(map(str, widths.values()))} = {together.shape[1]}",
                en=f"kernels of {_sizes(kernels)} px in {len(branches)} branches; their channels "
                f"put together: {' + '.join(map(str, widths.values()))} = {together.shape[1]}",
            ),
        ),
        "one_by_one": ClaimResult(
            ones > 0,
            Both(
                fr=f"une convolution 1×1 précède le filtre large dans {ones} branches",
                en=f"a 1×1 convolution comes before the wide kernel in {ones} branches",
            ),
        ),
        "no_choice": ClaimResult(
            len(choices) == 0,
            Both(
                fr="la taille des filtres n'est plus à choisir, mais les nombres de canaux le sont "
                f": {len(choices)} dans ce seul bloc ({', '.join(map(str, choices))})",
                en="the kernel sizes need no choice, but the numbers of channels do: "
                f"{len(choices)} in this block alone ({', '.join(map(str, choices))})",
            ),
        ),
    }
    shown = [(i, name) for i in range(2) for name in maps]
    panel = Pictures(
        Both(
            fr="la même tuile dans quatre branches (poids aléatoires)",
            en="the same tile in four branches (random weights)",
        ),
        tuple(np.asarray(maps[name][0, i]) for i, name in shown),
        tuple(" → ".join(f"{k}×{k}" for k in sizes[name]) for _, name in shown),
        columns=4,
    )
    return Shown(findings, {"sizes": sizes, "widths": widths}, (panel,))


def _sizes(kernels: Sequence[int]) -> str:
    """Sides of kernels as squares.

    >>> _sizes([1, 3])
    '1×1, 3×3'
    """
    return ", ".join(f"{k}×{k}" for k in kernels)


def zeroed_residual(numbers: Levels) -> Shown:
    """A residual block whose second batch normalisation gives zero lets its input through."""
    model, _ = build_backbone("resnet18", ["grey"], seed=numbers.seed, cut_after="layer1")
    model.eval()
    layer: Any = model.stages["layer1"]
    block = layer[0]
    generator = torch.Generator().manual_seed(numbers.seed)
    x = torch.rand(2, 64, 10, 10, generator=generator)
    with torch.inference_mode():
        outputs = [x, block(x)]
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
        outputs += [block(x), PlainBlock(block)(x)]
    before, after, without = (float((output - x).abs().max()) for output in outputs[1:])
    findings = {
        "identity": ClaimResult(
            after == 0,
            Both(
                fr=f"la sortie diffère de l'entrée de {before:.2f} ; avec gamma et bêta de la "
                f"seconde normalisation par lots à zéro, de {after:g}",
                en=f"the output differs from the input by {before:.2f}; with gamma and beta of the "
                f"second batch normalisation at zero by {after:g}",
            ),
        ),
        "shortcut": ClaimResult(
            without > 0,
            Both(
                fr=f"sans raccourci, le même bloc donne zéro : il diffère de {without:.2f}",
                en=f"without the shortcut the same block gives zero: it differs by {without:.2f}",
            ),
        ),
    }
    return Shown(
        findings,
        {"before": before, "after": after, "without": without},
        (_block_pictures(outputs), _differences(before, after, without)),
    )


def _block_pictures(outputs: Sequence[Tensor]) -> Pictures:
    """One map of the input and of the three outputs [2, 64, h, w]."""
    captions = (Both(fr="entrée", en="input"), *BLOCKS)
    title = Both(fr="ce qui sort du bloc résiduel", en="what leaves the residual block")
    return Pictures(title, tuple(np.asarray(x[0, 0]) for x in outputs), captions, columns=2)


def _differences(*values: float) -> Bars:
    """Largest difference of each output from the input."""
    title = Both(fr="plus grande différence à l'entrée", en="largest difference from the input")
    return Bars(title, BLOCKS, {"": values}, words={"": [f"{v:.2f}" for v in values]})


class PlainBlock(nn.Module):
    """A basic residual block without its shortcut; the same layers."""

    def __init__(self, block: Any) -> None:
        """Take over a torchvision BasicBlock's layers."""
        super().__init__()
        self.conv1, self.bn1, self.relu = block.conv1, block.bn1, block.relu
        self.conv2, self.bn2 = block.conv2, block.bn2

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions, each normalised and rectified, [N, C, h, w]."""
        x = self.relu(self.bn1(self.conv1(x)))
        output: Tensor = self.relu(self.bn2(self.conv2(x)))
        return output


def without_shortcuts(backbone: Backbone) -> Backbone:
    """A copy of a ResNet of basic blocks without its shortcuts; what is left keeps its weights."""
    plain = copy.deepcopy(backbone)
    for name in plain.stage_names:
        if name != "stem":
            stage: Any = plain.stages[name]
            for place, block in enumerate(stage):
                stage[place] = PlainBlock(block)
    return plain


def plain_or_residual(numbers: Residual) -> Shown:
    """The same layers with and without shortcuts: training loss and accuracy."""
    source = sample_of(numbers)
    arms: list[list[TrainedNetwork]] = [[], []]
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        residual = network(source, rows.split.train, numbers, seed)
        plain = copy.deepcopy(residual)
        plain.backbone = without_shortcuts(residual.backbone)
        for side, start in enumerate((plain, residual)):
            arms[side].append(learn(start, source, rows, plain_training(numbers, seed)))
    layers = sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in plain.modules())
    return shortcuts_shown(arms, layers)


def shortcuts_shown(arms: Sequence[Sequence[TrainedNetwork]], layers: int) -> Shown:
    """Findings of trainings without and with shortcuts, and their figure."""
    loss = MeanChange.of(*([float(curve(o.epochs, "train_loss")[-1]) for o in a] for a in arms))
    train, test = compared(arms, "train"), compared(arms, "test")
    last = Both(
        fr=f"{layers} convolutions ; perte d'entraînement à la dernière époque, sans -> avec "
        "raccourcis :",
        en=f"{layers} convolutions; training loss after the last epoch, without -> with shortcuts:",
    )
    accuracy = Both(fr="exactitude sur l'entraînement", en="training accuracy")
    findings = {
        "easier": ClaimResult(loss.falls, loss.both(last)),
        "training_error": ClaimResult(train.rises, train.both(accuracy)),
        "generalisation": ClaimResult(
            test.rises, test.both(Both(fr="exactitude sur le test", en="test accuracy"))
        ),
    }
    names = Both(fr="sans raccourci", en="plain"), Both(fr="résiduel", en="residual")
    subjects = (
        Both(fr="La perte d'entraînement", en="The training loss"),
        Both(fr="L'exactitude d'entraînement", en="The training accuracy"),
    )
    panels = tuple(
        Lines(
            change.changes(subject),
            Both(fr="époque", en="epoch"),
            what,
            tuple(band(name, arm, column) for name, arm in zip(names, arms, strict=True)),
            percent=percent,
        )
        for change, subject, what, column, percent in (
            (
                loss,
                subjects[0],
                Both(fr="perte d'entraînement", en="training loss"),
                "train_loss",
                False,
            ),
            (train, subjects[1], accuracy, "train_accuracy", True),
        )
    )
    values = {"loss": loss.values(), "train": train.values(), "test": test.values()}
    return Shown(findings, values, panels)


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "bottleneck": bottleneck,
    "parallel_filters": parallel_filters,
    "zeroed_residual": zeroed_residual,
    "plain_or_residual": plain_or_residual,
}
