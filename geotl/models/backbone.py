"""A backbone as a chain of named stages, and what training may do to each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geotl.errors import BandError, DataError, ModelError, WeightsError, nearest

_NET = "net."  # a part that stands around a library's own modules


class SteadyBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, while frozen, stays in evaluation mode whatever is called."""

    frozen: bool = False

    def train(self, mode: bool = True) -> SteadyBatchNorm2d:
        """Follow the mode, unless frozen."""
        super().train(mode and not self.frozen)
        return self

    @property
    def rest(self) -> nn.Module:
        """The rest of this layer after it is folded into the convolution before it."""
        return nn.Identity()


class SteadyBatchNormAct2d(SteadyBatchNorm2d):
    """The same with an activation behind it in one layer, as timm has it."""

    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, S, S], then activate."""
        activated: Tensor = self.act(super().forward(x))
        return activated

    @property
    def rest(self) -> nn.Module:
        """The activation."""
        return self.act


def steady(module: nn.Module) -> nn.Module:
    """Put `SteadyBatchNorm2d` in the place of every batch normalisation, its settings kept."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _steady_norm(child))
        else:
            steady(child)
    return module


def _steady_norm(norm: nn.BatchNorm2d) -> SteadyBatchNorm2d:
    """The steady form of a batch normalisation, with its parameters."""
    act = getattr(norm, "act", None)
    kind = SteadyBatchNorm2d if act is None else SteadyBatchNormAct2d
    with torch.device(norm.weight.device):
        steady = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    steady.weight, steady.bias = norm.weight, norm.bias
    if isinstance(steady, SteadyBatchNormAct2d) and act is not None:
        steady.act = act
    return steady


@dataclass(frozen=True)
class Auxiliary:
    """An auxiliary classifier on a stage's output, used only in training.

    Its loss counts `weight` times; `build` makes it for a number of classes.
    """

    stage: str
    weight: float
    build: Callable[[int], nn.Module]


@dataclass(frozen=True)
class Tokens:
    """How a transformer's tokens [N, T, D] are pooled, as its own head does.

    Attributes:
        prefix: class and register tokens, which stand before those of the patches.
        pooled: features of a stage: the class token, or the mean of the patches' tokens.
    """

    prefix: int
    pooled: Literal["class", "mean"]


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone's fixed facts.

    `channels`, `strides` and `least_px` (the smallest tile side in pixels from which the stage
    still gives a pixel of its own) are per stage; `prefixes` turn a stage's tensor names into
    the weight file's; `head` begins the names of the stock head's tensors; `parameters` counts the
    network with that head and without auxiliary ones, at its stock number of bands and classes;
    `weights` are the names of the library's published weights; `normalisation` is the (mean, sd) of
    inputs in 0..1 where foreign weights want another than ImageNet's; `draws` states that `build`
    draws the first weights too; `read` are the stages whose features are read by default,
    () for all but the first; `tokens` states how a transformer's stages are pooled, and
    `multiple_px` is a number of pixels that divides a tile's side.
    """

    name: str
    family: Literal["lenet", "alexnet", "vgg", "inception", "resnet", "squeezenet", "swin", "timm"]
    title: str
    stages: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    least_px: tuple[int, ...]
    prefixes: tuple[str, ...]
    head: tuple[str, ...]
    parameters: int
    weights: tuple[str, ...]
    build: Callable[[], Mapping[str, nn.Module]]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    auxiliary: tuple[Auxiliary, ...] = ()
    draws: bool = False
    read: tuple[str, ...] = ()
    tokens: Tokens | None = None
    multiple_px: int = 1

    @property
    def min_px(self) -> int:
        """The smallest tile side in pixels for the whole backbone."""
        return self.least_px[-1]

    def fitting_px(self, side: int, cut_after: str | None = None) -> int:
        """The smallest side from `side` on, in pixels, that the stages up to `cut_after` take.

        Raises:
            ModelError: `cut_after` is no stage.
        """
        least = self.least_px[stage_position(self.stages, cut_after or self.stages[-1])]
        return -(-max(side, least) // self.multiple_px) * self.multiple_px


class Backbone(nn.Module):
    """A chain of stages from an image [N, C, S, S] to each stage's output [N, channels, s, s].

    `random_stages` names those that hold random tensors, or a first convolution that starts at
    zero for some bands; `frozen` those that training must not change.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        bands: Sequence[str],
        wavelengths: Sequence[float | None],
        *,
        cut_after: str | None = None,
        seed: int | None = 0,
    ) -> None:
        """Build the stages up to `cut_after` for these bands, at random from `seed`.

        With a seed of None the tensors have shapes and no values (torch's meta device), for a
        caller who assigns a complete state next and need not wait for random numbers. Networks of
        a library that draws weights are drawn anyway: some of their content is not in their state.

        Raises:
            ModelError: `cut_after` is no stage.
            BandError: no bands, or a wavelength too many or too few.
        """
        super().__init__()
        self.name, self.bands, self.wavelengths = spec.name, tuple(bands), tuple(wavelengths)
        if not bands or len(bands) != len(wavelengths):
            raise BandError(
                f"{len(bands)} bands with {len(wavelengths)} wavelengths; give at least one band "
                "and one wavelength (or None) for each"
            )
        stages = spec.stages[: stage_position(spec.stages, cut_after or spec.stages[-1]) + 1]
        if spec.draws:
            self.stages = _drawn_whole(spec, stages, len(bands), seed or 0)
        else:
            self.stages = _drawn_by_stage(spec, stages, len(bands), seed)
        self.channels = dict(zip(stages, spec.channels, strict=False))
        self.strides = dict(zip(stages, spec.strides, strict=False))
        self.min_px, self.multiple_px = spec.least_px[len(stages) - 1], spec.multiple_px
        self.tokens = spec.tokens
        self.read = tuple(s for s in spec.read if s in stages) or stages[1:] or stages
        self.random_stages: frozenset[str] = frozenset(stages)
        self.frozen: tuple[str, ...] = ()
        self.batchnorm_held = False

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages kept, in order."""
        return tuple(self.stages)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs of every stage, by name, in order.

        Raises:
            BandError: x has another number of bands.
            DataError: x is smaller than `min_px`.
        """
        return self.prefix(x, self.stage_names[-1])

    def prefix(self, x: Tensor, upto: str) -> dict[str, Tensor]:
        """Outputs of the stages up to and including `upto`, for an image."""
        if x.shape[1] != len(self.bands):
            raise BandError(
                f"an image of {x.shape[1]} bands for a {self.name} of {len(self.bands)} "
                f"({', '.join(self.bands)}); give these bands"
            )
        self.check_size(x.shape[-2], x.shape[-1])
        return self._run(x, self.stage_names[: stage_position(self.stage_names, upto) + 1])

    def from_stage(self, x: Tensor, after: str) -> dict[str, Tensor]:
        """Outputs of the stages after `after`, given its output x; {} after the last."""
        return self._run(x, self.stage_names[stage_position(self.stage_names, after) + 1 :])

    def _run(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name in names:
            x = outputs[name] = self.stages[name](x)
        return outputs

    def check_size(self, height: int, width: int) -> None:
        """Reject tiles that the remaining stages cannot use; sides in pixels.

        Raises:
            DataError: a side is less than `min_px`, or no multiple of `multiple_px`; or a
                transformer's sides differ.
        """
        if self.multiple_px > 1 and min(height, width) >= self.min_px:
            self._check_patches(height, width)
        if min(height, width) >= self.min_px:
            return
        raise DataError(
            f"tiles of {height}x{width} px are too small: {self.name} up to "
            f"{self.stage_names[-1]} needs {self.min_px} px; set model.input_px to "
            f"[{self.min_px}] or more, or model.truncate_after to an earlier stage"
        )

    def _check_patches(self, height: int, width: int) -> None:
        """Reject sides that are not a multiple of the patch size.

        Raises:
            DataError: they are not.
        """
        if height == width and height % self.multiple_px == 0:
            return
        lower = max(self.min_px, height // self.multiple_px * self.multiple_px)
        raise DataError(
            f"tiles of {height}x{width} px: {self.name} needs squares with a side that is a "
            "multiple of "
            f"{self.multiple_px} px; set model.input_px to [{lower}] or "
            f"[{lower + self.multiple_px}]"
        )

    def train(self, mode: bool = True) -> Backbone:
        """Follow the mode, except in frozen stages, which stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.stages[name].eval()
        return self


@cache
def _shapes(spec: BackboneSpec) -> Mapping[str, nn.Module]:
    """The stages of a backbone without values: building them costs more than copying them."""
    with torch.device("meta"):
        return spec.build()


@cache
def skeleton(spec: BackboneSpec) -> tuple[tuple[str, str, str, tuple[int, ...]], ...]:
    """Every tensor of the whole backbone: (name here, name in the weight file, stage, shape).

    The kernels that meet the bands come first. A part `net` that stands around the library's own
    modules is no part of their names.
    """
    tensors = [
        (f"stages.{stage}.{tensor}", prefix + tensor.removeprefix(_NET), stage, tuple(value.shape))
        for (stage, module), prefix in zip(_shapes(spec).items(), spec.prefixes, strict=True)
        for tensor, value in module.state_dict().items()
    ]
    first = next(i for i, entry in enumerate(tensors) if len(entry[3]) == 4)
    return (tensors[first], *tensors[:first], *tensors[first + 1 :])


def stage_position(stages: Sequence[str], stage: str) -> int:
    """Position of a stage among `stages`.

    Raises:
        ModelError: there is no such stage.
    """
    if stage not in stages:
        raise ModelError(f"stage {stage!r} is not in this backbone; {nearest(stage, stages)}")
    return list(stages).index(stage)


def pads_by_size(layer: nn.Module) -> bool:
    """Whether a convolution pads as TensorFlow does, by the size of the image (timm's)."""
    return type(layer).__name__ == "Conv2dSame"


def first_conv_of(backbone: nn.Module) -> nn.Conv2d:
    """The convolution that meets the bands."""
    return next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))


def _replace_first_conv(backbone: nn.Module, new: nn.Conv2d) -> None:
    old = first_conv_of(backbone)
    owner, _, leaf = next(n for n, m in backbone.named_modules() if m is old).rpartition(".")
    setattr(backbone.get_submodule(owner), leaf, new)


def _like(old: nn.Conv2d, bands: int, kind: type[nn.Conv2d] | None = None) -> nn.Conv2d:
    """A convolution of the same settings for another number of bands, on the meta device."""
    kind = kind or type(old)
    size: Any = old.kernel_size
    stride: Any = old.stride
    padding: Any = old.padding
    with torch.device("meta"):
        return kind(bands, old.out_channels, size, stride, padding, bias=old.bias is not None)


def _drawn_by_stage(
    spec: BackboneSpec, stage_names: Sequence[str], bands: int, seed: int | None
) -> nn.ModuleDict:
    """The stages kept, at random, or without values; a stage's draw never depends on another's."""
    built = _shapes(spec)
    stages = nn.ModuleDict({stage: deepcopy(built[stage]) for stage in stage_names})
    _replace_first_conv(stages, _like(first_conv_of(stages), bands))
    if seed is None:
        return stages
    stages.to_empty(device="cpu")
    for position, stage in enumerate(stage_names):
        _initialise(stages[stage], seed * 1_000_003 + position, spec.family)
    return stages


def _drawn_whole(
    spec: BackboneSpec, stage_names: Sequence[str], bands: int, seed: int
) -> nn.ModuleDict:
    """The stages kept of a network that is drawn as its library draws it.

    Kernels for another number of bands have the spread at which a sum over the bands keeps its own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = spec.build()
    stages = nn.ModuleDict({stage: built[stage] for stage in stage_names})
    old = first_conv_of(stages)
    new = _like(old, bands).to_empty(device="cpu")
    spread = float(old.weight.detach().std()) * (old.in_channels / bands) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(new.weight, std=spread, generator=generator)
    new.bias = old.bias
    _replace_first_conv(stages, new)
    return stages


class SelectiveConv2d(nn.Conv2d):
    """A convolution that gives some bands no weight, and no gradient to change that.

    `heard` is 1 for a band that counts and 0 for one that does not; it is no part of the state.
    """

    heard: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, S, S], silent bands counting for nothing."""
        convolved: Tensor = self._conv_forward(x, self.weight * self.heard, self.bias)
        return convolved


def silence_bands(backbone: Backbone, silent: Sequence[int]) -> None:
    """Give these bands no part in the first convolution: kernels zero, and zero they stay.

    Raises:
        WeightsError: a first convolution of another kind than torch's own.
    """
    old = first_conv_of(backbone)
    if type(old) is not nn.Conv2d:
        raise WeightsError(
            f"model.first_conv: rgb_only is not for {backbone.name}, whose first convolution pads "
            "as TensorFlow does; allowed: wavelength, repeat, mean, zero, random"
        )
    new = _like(old, old.in_channels, SelectiveConv2d)
    heard = torch.ones(1, old.in_channels, 1, 1)
    heard[:, list(silent)] = 0.0
    new.register_buffer("heard", heard, persistent=False)
    new.weight, new.bias = nn.Parameter(old.weight.detach() * heard), old.bias
    _replace_first_conv(backbone, new)


def _initialise(stage: nn.Module, seed: int, family: str) -> None:
    """Draw weights as torchvision for ResNets (He et al. 2015, fan out); for LeNet, Glorot's."""
    generator = torch.Generator().manual_seed(seed)
    for module in stage.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            if family == "lenet":
                gain = nn.init.calculate_gain("tanh")
                nn.init.xavier_uniform_(module.weight, gain, generator=generator)
            else:
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def freeze(backbone: Backbone, upto: str | None, *, allow_random: bool = False) -> None:
    """Freeze the stages up to and including `upto`; None frees them all.

    A frozen stage keeps its parameters (requires_grad False) and its buffers (batch
    normalisation stays in evaluation mode, whatever `train()` is called on whatever module).

    Args:
        backbone: changed in place.
        upto: the last frozen stage.
        allow_random: freeze random stages too, as a baseline of random features.

    Raises:
        ModelError: there is no such stage.
        WeightsError: one of these stages is random, which freezing would make noise for good.
    """
    names = backbone.stage_names
    frozen = names[: stage_position(names, upto) + 1] if upto is not None else ()
    random = [name for name in frozen if name in backbone.random_stages]
    if random and not allow_random:
        raise WeightsError(
            f"stages {', '.join(random)} hold random weights (or bands that start at zero) and "
            "cannot be frozen; load weights for them, use model.first_conv=wavelength, or freeze "
            "none of them with strategy=full"
        )
    backbone.frozen = frozen
    for name in names:
        backbone.stages[name].requires_grad_(name not in frozen)
    _hold(backbone)


def hold_batchnorm(backbone: Backbone, frozen: bool = True) -> None:
    """Keep every batch normalisation on its stored statistics in training, parameters trainable.

    For weights whose batch normalisation is folded, or batches too small for statistics.
    """
    backbone.batchnorm_held = frozen
    _hold(backbone)


def _hold(backbone: Backbone) -> None:
    """Bring every batch normalisation and every stage's mode in line with what is frozen."""
    for name, stage in backbone.stages.items():
        for module in stage.modules():
            if isinstance(module, SteadyBatchNorm2d):
                module.frozen = backbone.batchnorm_held or name in backbone.frozen
    backbone.train(backbone.training)


def batchnorm_use(backbone: Backbone) -> Literal["none", "trained", "held"]:
    """Whether batch normalisation is trained, or frozen at stored statistics."""
    norms = [m for m in backbone.modules() if isinstance(m, SteadyBatchNorm2d)]
    if not norms:
        return "none"
    return "held" if all(norm.frozen for norm in norms) else "trained"


def parameter_groups(
    backbone: Backbone,
    head: nn.Module,
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    head_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters, from the head back to the first stage.

    The head learns at `lr` (or at a `head_lr` of its own), the last stage at lr * lr_decay, the one
    before at lr * lr_decay^2 and so on (discriminative rates, Howard & Ruder 2018). Weight decay
    applies only to tensors of two or more dimensions: no biases, no normalisation.
    """
    modules = [("head", head), *reversed(list(backbone.stages.items()))]
    groups: list[dict[str, Any]] = []
    for depth, (name, module) in enumerate(modules):
        trainable = [p for p in module.parameters() if p.requires_grad]
        for label, decay, chosen in (
            (name, weight_decay, [p for p in trainable if p.ndim >= 2]),
            (f"{name}, no decay", 0.0, [p for p in trainable if p.ndim < 2]),
        ):
            if chosen:
                rate = lr * lr_decay**depth if depth or head_lr is None else head_lr
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": label})
    return groups
