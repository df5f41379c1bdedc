"""ResNet's shortcuts: a block that lets its input through, and the same depth without them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geotl.lecture.lecturepanels import Bars, Effect, Finding, Lines, Shown
from geotl.lecture.recipes import Levels, Residual
from geotl.lecture.samples import (
    Learnt,
    band,
    compared,
    curve,
    draw,
    learn,
    network,
    sample,
    settings_of,
)
from geotl.models.registry import Backbone, build_backbone


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
        "identity": Finding(
            after == 0,
            f"the output differs from the input by {before:.2f}, with gamma and beta of the second "
            f"batch normalisation at zero by {after:g}",
        ),
        "shortcut": Finding(
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
        found: Tensor = self.relu(self.bn2(self.conv2(x)))
        return found


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
    source = sample(numbers.region, numbers.bands)
    arms: list[list[Learnt]] = [[], []]
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        residual = network(source, rows.split.train, numbers, seed)
        plain = copy.deepcopy(residual)
        plain.backbone = without_shortcuts(residual.backbone)
        for side, start in enumerate((plain, residual)):
            arms[side].append(learn(start, source, rows, settings_of(numbers, seed)))
    loss = Effect.of(*([float(curve(o.history, "train_loss")[-1]) for o in a] for a in arms))
    train, judged = compared(arms, "train"), compared(arms, "judged")
    layers = sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in plain.modules())
    findings = {
        "easier": Finding(
            loss.falls,
            f"{layers} convolutions deep, {loss.words('training loss after the last epoch')}",
        ),
        "training_error": Finding(train.rises, train.words("training accuracy")),
        "judged": Finding(judged.rises, judged.words("judged accuracy")),
    }
    series = (band("residual", arms[1], "train_loss"), band("plain", arms[0], "train_loss"))
    panel = Lines(f"training loss, {layers} convolutions", "epoch", "loss", series)
    values = {"loss": loss.values(), "train": train.values(), "judged": judged.values()}
    return Shown(findings, values, (panel,))


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "zeroed_residual": zeroed_residual,
    "plain_or_residual": plain_or_residual,
}
