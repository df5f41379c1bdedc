"""Architectures shown: parameters, filters, poolings, and ResNet's shortcuts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.data.tile_array import batch, statistics
from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Pictures, Shown
from geotl.lecture.recipes import BackboneTable, Bottleneck, Levels, Pictured, Residual
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
)
from geotl.models.registry import Backbone, build_backbone, get_backbone

SLIDE = {"lenet5": 60e3, "alexnet": 60e6, "vgg16": 138e6}  # the numbers on the slides
NEAR = 0.03
# LeNet-5's C3 of 1998: how many of the six maps each of its 16 filters reads (LeCun 1998, table I).
SPARSE_C3 = (3,) * 6 + (4,) * 9 + (6,)


def parameters_with_auxiliaries(name: str) -> tuple[int, int]:
    """Parameters of a backbone with its stock head, without and with auxiliary classifiers.

    >>> parameters_with_auxiliaries("googlenet")
    (6624904, 13004888)
    """
    spec = get_backbone(name)
    with torch.device("meta"):
        heads = [entry.build(1000) for entry in spec.auxiliary]
    extra = sum(p.numel() for head in heads for p in head.parameters())
    return spec.parameters, spec.parameters + extra


def parameter_table(numbers: BackboneTable) -> Shown:
    """Parameters of each architecture with its stock head, against the numbers on the slides."""
    counts = {name: parameters_with_auxiliaries(name) for name in numbers.names}
    plain = [counts[name][0] for name in numbers.names]
    published = {n: v for n, v in SLIDE.items() if n in counts}
    away = {n: abs(counts[n][0] / v - 1) for n, v in published.items()}
    rest = [n for n in ("googlenet", "resnet18", "resnet50") if n in counts]
    large = min([counts[n][0] for n in ("alexnet", "vgg16") if n in counts], default=0)
    findings = {
        "counts": ClaimResult(
            bool(away) and max(away.values()) < NEAR,
            ", ".join(
                f"{n} {counts[n][0]:,} (slide {v:,.0f}, {away[n]:.1%} off)"
                for n, v in published.items()
            ),
        ),
        "fewer": ClaimResult(
            bool(rest) and max(counts[n][0] for n in rest) < large,
            ", ".join(f"{n} {counts[n][0]:,}" for n in rest) + f"; AlexNet and VGG from {large:,}",
        ),
    }
    words = [
        f"{alone:,}" + (f" ({complete:,} with auxiliary)" if complete != alone else "")
        for alone, complete in (counts[name] for name in numbers.names)
    ]
    titles = tuple(get_backbone(name).title.split(" (")[0] for name in numbers.names)
    panel = Bars(
        "parameters with the stock head",
        titles,
        {"": plain},
        label="parameters",
        words={"": words},
        log=True,
    )
    return Shown(findings, {n: {"own": a, "all": b} for n, (a, b) in counts.items()}, (panel,))


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
    seconds = [_fastest(layer, x, numbers.repeats) for layer in layers]
    findings = {
        "multiplications": ClaimResult(
            reduced < direct,
            f"{direct:,} -> {reduced:,} multiplications, {direct / reduced:.1f} times fewer",
        ),
        "time": ClaimResult(
            seconds[1] < seconds[0],
            f"{1000 * seconds[0]:.1f} ms -> {1000 * seconds[1]:.1f} ms for four maps, "
            f"{seconds[0] / seconds[1]:.1f} times faster",
        ),
    }
    names = (f"{numbers.kernel}x{numbers.kernel} directly", f"1x1 to {numbers.narrow} first")
    panels = (
        Bars(
            "multiplications",
            names,
            {"": [direct, reduced]},
            words={"": [f"{direct / 1e6:.1f} million", f"{reduced / 1e6:.1f} million"]},
        ),
        Bars(
            "milliseconds, four maps",
            names,
            {"": [1000 * s for s in seconds]},
            words={"": [f"{1000 * s:.1f} ms" for s in seconds]},
        ),
    )
    return Shown(findings, {"multiplications": (direct, reduced), "seconds": seconds}, panels)


@torch.inference_mode()
def _fastest(layer: nn.Module, x: Tensor, repeats: int) -> float:
    """The least time of some passes, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        layer(x)
        best = min(best, time.perf_counter() - begun)
    return best


def _standard(numbers: Pictured) -> Tensor:
    """Some training tiles [N, C, S, S], standardised, all of one class after another."""
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    stats = statistics(source.pack, rows)
    image = batch(source.pack, rows[:: numbers.shots], fill=stats.fill)["image"]
    plane = (1, -1, 1, 1)
    mean, sd = (torch.from_numpy(x).float().view(plane) for x in (stats.mean, stats.sd))
    return (image - mean) / sd


def sparse_lenet_parameters() -> int:
    """Parameters of LeNet-5 as published, with its sparse C3 and trainable pools.

    >>> sparse_lenet_parameters()
    60000
    """
    c1, s2, s4 = 6 * (25 + 1), 6 * 2, 16 * 2
    c3 = sum(25 * maps + 1 for maps in SPARSE_C3)
    c5, f6 = 120 * (16 * 25 + 1), 84 * (120 + 1)
    return c1 + s2 + c3 + s4 + c5 + f6


def lenet5(numbers: Pictured) -> Shown:
    """LeNet-5 on a grey tile: its stages, the order of its layers, and four statements."""
    model, _ = build_backbone("lenet5", ["grey"], seed=numbers.seed)
    grey = _standard(numbers).mean(dim=1, keepdim=True)[:1, :, :32, :32]
    with torch.inference_mode():
        outputs = model(grey)
    dense, sparse = get_backbone("lenet5").parameters, sparse_lenet_parameters()
    kinds = [type(layer).__name__ for layer in _layers(model.stages["c1"])]
    after = kinds.index("Tanh") > kinds.index("AvgPool2d")
    a, b = torch.tensor(0.7), torch.tensor(1.1)
    bent = float((torch.tanh(a + b) - torch.tanh(a) - torch.tanh(b)).abs())
    bent_sigmoid = float((torch.sigmoid(a + b) - torch.sigmoid(a) - torch.sigmoid(b)).abs())
    weight = next(
        m for m in model.stages["c3"].modules() if isinstance(m, nn.Conv2d)
    ).weight.detach()
    apart = float((weight[:, 1:] - weight[:, :-1]).abs().max())
    shared = 16 * (25 + 1)
    findings = {
        "parameters": ClaimResult(
            abs(dense / 60e3 - 1) < NEAR,
            f"{dense:,} in today's dense form, {sparse:,} as published with its sparse C3",
        ),
        "grey": ClaimResult(len(model.bands) == 1, f"bands: {', '.join(model.bands)}"),
        "after_pooling": ClaimResult(after, "c1 is " + ", ".join(kinds)),
        "linear": ClaimResult(
            bent < 1e-6 and bent_sigmoid < 1e-6,
            f"tanh(a+b) - tanh(a) - tanh(b) = {bent:.2f} at a = 0.7, b = 1.1, of the sigmoid "
            f"{bent_sigmoid:.2f}; 0 if they were linear",
        ),
        "same_filters": ClaimResult(
            apart == 0,
            f"C3's kernels for neighbouring maps differ by up to {apart:.2f}; the same filter for "
            f"every map would leave C3 {shared} parameters, dense it has 2,416, as published 1,516",
        ),
    }
    maps = [grey[0, 0], *outputs["c1"][0, :3], *outputs["c3"][0, :4]]
    names = ["tile 32x32", *["c1 14x14"] * 3, *["c3 5x5"] * 4]
    panels = (
        Pictures(
            "a grey tile and what the first stages make of it",
            tuple(np.asarray(m) for m in maps),
            tuple(names),
            columns=4,
        ),
        _stage_bars(model, "parameters by stage"),
    )
    return Shown(findings, {"dense": dense, "sparse": sparse, "layers": kinds}, panels)


def _layers(stage: nn.Module) -> list[nn.Module]:
    """The layers of a stage without children, in order."""
    return [m for m in stage.modules() if not list(m.children())]


def _stage_bars(model: Backbone, title: str) -> Bars:
    counts = {n: sum(p.numel() for p in s.parameters()) for n, s in model.stages.items()}
    return Bars(
        title,
        tuple(counts),
        {"": list(counts.values())},
        words={"": [f"{c:,}" for c in counts.values()]},
    )


def alexnet(_: Levels) -> Shown:
    """AlexNet compared with LeNet-5: the same plan, much larger, with ReLU."""
    with torch.device("meta"):
        both = {name: get_backbone(name).build() for name in ("lenet5", "alexnet")}
    kinds = {
        n: [type(m).__name__ for s in stages.values() for m in _layers(s)]
        for n, stages in both.items()
    }
    first = next(m for m in both["alexnet"]["conv1"].modules() if isinstance(m, nn.Conv2d))
    small, large = (get_backbone(n).parameters for n in ("lenet5", "alexnet"))
    activations = {k for k in kinds["alexnet"] if k in ("ReLU", "Tanh", "Sigmoid")}
    plan = [k for k in kinds["alexnet"] if k in ("Conv2d", "MaxPool2d", "ReLU")]
    findings = {
        "rgb": ClaimResult(
            first.in_channels == 3, f"its first convolution has {first.in_channels} bands"
        ),
        "larger": ClaimResult(
            large > 100 * small,
            f"{large:,} parameters, {large / small:,.0f} times LeNet-5's {small:,}",
        ),
        "relu": ClaimResult(
            activations == {"ReLU"}, f"activations: {', '.join(sorted(activations))}"
        ),
        "similar": ClaimResult(
            plan[0] == "Conv2d" and plan[-1] == "MaxPool2d",
            "convolutions and pools, then a perceptron: "
            + " ".join({"Conv2d": "C", "MaxPool2d": "P", "ReLU": "r"}[k] for k in plan)
            + "; LeNet-5 "
            + " ".join(
                {"Conv2d": "C", "AvgPool2d": "P", "Tanh": "t"}.get(k, "") for k in kinds["lenet5"]
            ),
        ),
    }
    with torch.device("meta"):
        counts = {s: sum(p.numel() for p in m.parameters()) for s, m in both["alexnet"].items()}
    head = large - sum(counts.values())
    names = (*counts, "three dense layers")
    panel = Bars(
        "where AlexNet's parameters lie",
        names,
        {"": [*counts.values(), head]},
        words={"": [f"{c:,}" for c in (*counts.values(), head)]},
        label="parameters",
    )
    return Shown(findings, {"lenet5": small, "alexnet": large, "head": head}, (panel,))


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
    tile = torch.nn.functional.interpolate(_standard(numbers)[-2:-1], scale_factor=4.0)
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
            f"kernels of {', '.join(f'{k}x{k}' for k in kernels)} px in {len(branches)} branches, "
            f"{' + '.join(map(str, widths.values()))} = {together.shape[1]} channels",
        ),
        "one_by_one": ClaimResult(
            ones > 0, f"a 1x1 convolution comes before the wide kernel in {ones} branches"
        ),
        "no_choice": ClaimResult(
            len(choices) == 0,
            f"no kernel size has to be chosen, but {len(choices)} numbers of channels do, in this "
            f"block alone: {', '.join(map(str, choices))}",
        ),
    }
    shown = [(name, i) for name in maps for i in range(2)]
    panel = Pictures(
        "two maps of each branch, random weights",
        tuple(np.asarray(maps[name][0, i]) for name, i in shown),
        tuple(f"{name}: {'-'.join(f'{k}x{k}' for k in sizes[name])}" for name, _ in shown),
        columns=4,
    )
    return Shown(findings, {"sizes": sizes, "widths": widths}, (panel,))


def vgg16(_: Levels) -> Shown:
    """VGG-16 layer by layer: the same kernel and the same pool everywhere, and a huge fc6."""
    spec = get_backbone("vgg16")
    with torch.device("meta"):
        stages = spec.build()
    layers = [m for s in stages.values() for m in _layers(s)]
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    pools = [m for m in layers if isinstance(m, nn.MaxPool2d)]
    kernels = {m.kernel_size for m in convolutions}
    sides = {(m.kernel_size, m.stride) for m in pools}
    fc6 = 512 * 7 * 7 * 4096 + 4096
    pooled = 512 * 1000 + 1000
    body = sum(p.numel() for s in stages.values() for p in s.parameters())
    other, complete = parameters_with_auxiliaries("inception_v3")
    findings = {
        "kernels": ClaimResult(
            kernels == {(3, 3)} and len(convolutions) == 13,
            f"{len(convolutions)} convolutions, kernels {', '.join(map(str, kernels))}",
        ),
        "pools": ClaimResult(
            sides == {(2, 2)} and len(pools) == 5, f"{len(pools)} pools of 2x2 px with step 2"
        ),
        "parameters": ClaimResult(
            abs(spec.parameters / 138e6 - 1) < NEAR,
            f"{spec.parameters:,}, of them {fc6:,} in fc6 alone; with a head on pooled features "
            f"{body + pooled:,}",
        ),
        "inception": ClaimResult(
            complete == spec.parameters,
            f"Inception v3 has {other:,} parameters ({complete:,} with its auxiliary head), "
            f"the VGG-16 that the notebook loads {spec.parameters:,}",
        ),
    }
    counts = {n: sum(p.numel() for p in s.parameters()) for n, s in stages.items()}
    rest = spec.parameters - body - fc6
    names = (*counts, "fc6", "fc7 and fc8")
    layer_counts = [*counts.values(), fc6, rest]
    panel = Bars(
        "where VGG-16's parameters lie",
        names,
        {"": layer_counts},
        words={"": [f"{c:,}" for c in layer_counts]},
        label="parameters",
    )
    values = {"parameters": spec.parameters, "fc6": fc6, "body": body}
    return Shown(findings, values, (panel,))


PLAIN_NETWORKS: Mapping[str, Callable[[Any], Shown]] = {
    "parameter_table": parameter_table,
    "bottleneck": bottleneck,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "parallel_filters": parallel_filters,
    "vgg16": vgg16,
}


def zeroed_residual(numbers: Levels) -> Shown:
    """A residual block whose second batch normalisation gives zero lets its input through."""
    model, _ = build_backbone("resnet18", ["grey"], seed=numbers.seed, cut_after="layer1")
    model.eval()
    layer: Any = model.stages["layer1"]
    block = layer[0]
    generator = torch.Generator().manual_seed(numbers.seed)
    x = torch.rand(2, 64, 10, 10, generator=generator)
    with torch.inference_mode():
        before = float((block(x) - x).abs().max())
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
        after = float((block(x) - x).abs().max())
        without = float((PlainBlock(block)(x) - x).abs().max())
    findings = {
        "identity": ClaimResult(
            after == 0,
            f"the output differs from the input by {before:.2f}, with gamma and beta of the second "
            f"batch normalisation at zero by {after:g}",
        ),
        "shortcut": ClaimResult(
            without > 0,
            f"without the shortcut the same block differs by {without:.2f}: it gives zero",
        ),
    }
    panel = Bars(
        "largest difference from the input",
        ("random weights", "second batch norm zeroed", "zeroed, no shortcut"),
        {"": [before, after, without]},
        words={"": [f"{v:.2f}" for v in (before, after, without)]},
    )
    return Shown(findings, {"before": before, "after": after, "without": without}, (panel,))


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
    loss = MeanChange.of(*([float(curve(o.history, "train_loss")[-1]) for o in a] for a in arms))
    train, test = compared(arms, "train"), compared(arms, "test")
    layers = sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in plain.modules())
    findings = {
        "easier": ClaimResult(
            loss.falls,
            f"{layers} convolutions deep, {loss.words('training loss after the last epoch')}",
        ),
        "training_error": ClaimResult(train.rises, train.words("training accuracy")),
        "judged": ClaimResult(test.rises, test.words("test accuracy")),
    }
    series = (band("residual", arms[1], "train_loss"), band("plain", arms[0], "train_loss"))
    panel = Lines(f"training loss, {layers} convolutions", "epoch", "loss", series)
    values = {"loss": loss.values(), "train": train.values(), "judged": test.values()}
    return Shown(findings, values, (panel,))


RESIDUAL_NETWORKS: Mapping[str, Callable[[Any], Shown]] = {
    "zeroed_residual": zeroed_residual,
    "plain_or_residual": plain_or_residual,
}
