"""Where a stage's pixels lie on the image, and which image pixels they depend on.

Computed from kernels, strides and paddings by walking the traced network (Araujo et al. 2019,
"Computing receptive fields of convolutional neural networks").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from geotl.errors import ModelError
from geotl.models.backbone import Backbone, pads_by_size

_POOLINGS: tuple[Callable[..., Any], ...] = (F.avg_pool2d, F.max_pool2d)
_WHOLE_LAYERS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Softmax)
_WHOLE_METHODS = ("mean", "norm", "sum", "amax", "softmax")
_WHOLE_FUNCTIONS = (
    torch.mean,
    torch.softmax,
    F.softmax,
    F.adaptive_avg_pool2d,
    F.scaled_dot_product_attention,
)


@dataclass(frozen=True)
class ReceptiveField:
    """Field of pixel 0 of a stage's output; that of pixel i lies i * `stride` image pixels further.

    Attributes:
        stride: image pixels from one output pixel to the next.
        first: the first image pixel that output pixel 0 depends on; in the padding if below 0.
        last: the last one.
    """

    stride: int = 1
    first: int = 0
    last: int = 0

    @property
    def side(self) -> int:
        """Width in image pixels."""
        return self.last - self.first + 1

    @property
    def centre(self) -> float:
        """Where the middle of output pixel 0 lies, in image pixels from the middle of pixel 0.

        >>> ReceptiveField(4, -5, 5).centre, ReceptiveField(2, 0, 1).centre
        (0.0, 0.5)
        """
        return (self.first + self.last) / 2

    @property
    def grid(self) -> tuple[int, float]:
        """Stride and centre: outputs of one grid may be added pixel by pixel."""
        return self.stride, self.centre

    @property
    def reach(self) -> int:
        """Image pixels on either side that a value interpolated at an image pixel depends on."""
        return self.side // 2 + self.stride

    def through(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> ReceptiveField:
        """After a convolution or a pooling.

        >>> ReceptiveField().through(7, 2, 3).through(3, 2, 1)
        ReceptiveField(stride=4, first=-5, last=5)
        """
        first = self.first - padding * self.stride
        last = self.last + (dilation * (kernel - 1) - padding) * self.stride
        return ReceptiveField(self.stride * stride, first, last)

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Field of two outputs that are added or stacked.

        Raises:
            ModelError: they have different strides.
        """
        if other.stride != self.stride:
            raise ModelError(
                f"outputs of strides {self.stride} and {other.stride} cannot be joined"
            )
        first, last = min(self.first, other.first), max(self.last, other.last)
        return ReceptiveField(self.stride, first, last)


def unbounded(backbone: Backbone) -> str | None:
    """Why pixels of a stage's output depend on the whole image, as text; None if they do not."""
    if backbone.tokens is not None:
        return "is a transformer, whose tokens see the whole window"
    for name, stage in backbone.stages.items():
        modules = dict(stage.named_modules())
        if any(map(pads_by_size, modules.values())):
            return (
                "pads as TensorFlow does, so that its pixels lie where the window's size puts them"
            )
        try:
            nodes = StageTracer().trace(stage).nodes
        except fx.proxy.TraceError:
            return f"cannot be traced in stage {name}"
        if any(_sees_all(node, modules) for node in nodes):
            return f"takes means or attention over the window, in stage {name}"
    return None


def _sees_all(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node computes something of all pixels."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _WHOLE_LAYERS)
    if node.op == "call_method":
        return node.target in _WHOLE_METHODS
    return node.target in _WHOLE_FUNCTIONS or "attention" in getattr(node.target, "__name__", "")


def receptive_fields(backbone: Backbone) -> dict[str, ReceptiveField]:
    """The field of every stage, by name, in order; the wider one of rows and columns.

    Raises:
        ModelError: a network with pixels that depend on the whole image, see `unbounded`.
    """
    if why := unbounded(backbone):
        raise ModelError(
            f"model.backbone: {backbone.name} {why}; single pixels need a network that sees only a "
            "part of the window: allowed: such as resnet18 or timm:convnext_tiny"
        )
    fields, axes = {}, [ReceptiveField(), ReceptiveField()]
    for name, stage in backbone.stages.items():
        axes = [_after(stage, field, axis) for axis, field in enumerate(axes)]
        fields[name] = axes[0].joined(axes[1])
    return fields


class StageTracer(fx.Tracer):
    """Goes into every module but torch's own and batch normalisations."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Batch normalisation checks its input, which a trace does not have."""
        leaf = super().is_leaf_module(m, module_qualified_name)
        return leaf or isinstance(m, nn.BatchNorm2d)


def _after(stage: nn.Module, before: ReceptiveField, axis: int) -> ReceptiveField:
    """The field along an axis after a stage, given the field `before` of its input."""
    modules = dict(stage.named_modules())
    fields: dict[fx.Node, ReceptiveField] = {}
    for node in StageTracer().trace(stage).nodes:
        given = [fields[one] for one in node.all_input_nodes if one in fields]
        if not given and node.op != "placeholder":  # made of parameters only: has no position
            continue
        fields[node] = reduce(ReceptiveField.joined, given) if given else before
        slides = _slide(node, modules, axis)
        if slides is not None:
            fields[node] = fields[node].through(*slides)
    return fields[node]


def _slide(
    node: fx.Node, modules: dict[str, nn.Module], axis: int
) -> tuple[int, int, int, int] | None:
    """Kernel, stride, padding and dilation of a node along an axis; None if it has no kernel."""
    given: tuple[Any, ...]
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            return None
        given = module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1)
    elif node.op == "call_function" and node.target in _POOLINGS:
        names = ("kernel_size", "stride", "padding")
        arguments = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        kernel = arguments["kernel_size"]
        given = kernel, arguments.get("stride") or kernel, arguments.get("padding", 0), 1
    else:
        return None
    kernel, stride, padding, dilation = (_along(one, axis) for one in given)
    return kernel, stride, padding, dilation


def _along(value: Any, axis: int) -> int:
    return int(value[axis] if isinstance(value, (tuple, list)) else value)
