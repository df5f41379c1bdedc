"""Kornia's augmentations of images by name: what each moves or changes, and which are refused.

The list is read off `kornia.augmentation` itself, so that those of a later Kornia come along: an
augmentation of intensities changes values in place, any other augmentation of images moves pixels.
Arguments are plain values; nothing that a recipe holds is imported or executed.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import kornia.augmentation
import torch
from kornia.augmentation import AugmentationBase2D, IntensityAugmentationBase2D
from torch import Tensor

from geotl.errors import DataError, nearest

Behaviour = Literal["moves", "changes", "erases"]
Arguments = Mapping[str, Any]

ERASING = ("RandomErasing", "RandomChannelDropout")  # what they take away becomes invalid
UNBOUNDED = {  # defined for any number, so values beyond the limits need not be held back
    "RandomBoxBlur",
    "RandomGaussianBlur",
    "RandomGaussianNoise",
    "RandomMedianBlur",
    "RandomMotionBlur",
}
_SIZE = "it changes the size of tiles, which data.tile_px sets"
_FIXED = "it changes every tile alike; model.normalise standardises bands"
REFUSED: Mapping[str, str] = {
    "CenterCrop": _SIZE,
    "LongestMaxSize": _SIZE,
    "PadTo": _SIZE,
    "Resize": _SIZE,
    "SmallestMaxSize": _SIZE,
    "Denormalize": _FIXED,
    "Normalize": _FIXED,
    "RandomDissolving": "it downloads a diffusion network",
}
NOT_ARGUMENTS = ("keepdim", "fill", "fill_value", "padding_mode", "value")
MAX_TRIAL_PX = 512
BORDER = "reflect"  # what blurs see beyond a tile where Kornia would take zeros


@dataclass(frozen=True)
class KorniaKind:
    """An augmentation that recipes may name.

    Attributes:
        name: the name of Kornia's class.
        behaviour: moves pixels, changes values in place, or erases values.
        build: Kornia's class.
    """

    name: str
    behaviour: Behaviour
    build: type[AugmentationBase2D]


@functools.cache
def accepted() -> Mapping[str, KorniaKind]:
    """The augmentations that recipes may name."""
    return {
        name: KorniaKind(name, _behaviour(name, kind), kind)
        for name, kind in _exported().items()
        if _refusal(name, kind) is None
    }


@functools.cache
def refused() -> Mapping[str, str]:
    """Why each other class that Kornia exports cannot be named."""
    reasons = {name: _refusal(name, kind) for name, kind in _exported().items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _exported() -> dict[str, type]:
    return dict(inspect.getmembers(kornia.augmentation, inspect.isclass))


def _behaviour(name: str, kind: type) -> Behaviour:
    if name in ERASING:
        return "erases"
    return "changes" if issubclass(kind, IntensityAugmentationBase2D) else "moves"


def _refusal(name: str, kind: type) -> str | None:
    bases = {base.__name__ for base in kind.__mro__}
    if "Base" in name:
        return "it is a base class"
    if "MixAugmentationBaseV2" in bases:
        return "it mixes tiles, and their labels with them; augment.mixup and augment.cutmix do"
    if "AugmentationBase3D" in bases:
        return "it is for volumes"
    if not issubclass(kind, AugmentationBase2D):
        return "it holds other augmentations; list them one by one"
    return REFUSED.get(name)


def signature(name: str) -> str:
    """An augmentation with its arguments and their defaults, as a recipe may give them.

    >>> signature("RandomVerticalFlip")
    'RandomVerticalFlip(p=0.5, p_batch=1.0, same_on_batch=False)'
    """
    shown = [
        key if one.default is one.empty else f"{key}={one.default!r}"
        for key, one in _parameters(name).items()
    ]
    return f"{name}({', '.join(shown)})"


@functools.cache
def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Arguments that a recipe may give."""
    every = inspect.signature(accepted()[name].build).parameters
    return {
        key: one.replace(default=BORDER) if _is_constant_border(key, one.default) else one
        for key, one in every.items()
        if key not in NOT_ARGUMENTS
    }


def _is_constant_border(key: str, value: object) -> bool:
    return key == "border_type" and (not isinstance(value, str) or value.lower() == "constant")


@functools.cache
def _wants_tensor(name: str) -> frozenset[str]:
    """Arguments that Kornia takes as tensors alone."""
    hints = typing.get_type_hints(accepted()[name].build.__init__)
    kinds = {key: set(typing.get_args(hint)) or {hint} for key, hint in hints.items()}
    return frozenset(key for key, one in kinds.items() if one - {type(None)} == {Tensor})


def fault(name: str, arguments: Arguments) -> str | None:
    """What is wrong with an augmentation in a recipe, on one line; None: it works on three bands.

    >>> fault("RandomPerspectiv", {})
    "RandomPerspectiv: no augmentation of Kornia's; did you mean 'RandomPerspective'?"
    >>> fault("Resize", {"size": 3})
    'Resize: refused, because it changes the size of tiles, which data.tile_px sets'
    """
    if name in refused():
        flat = name.removesuffix("3D")
        hint = f"; did you mean {flat!r}?" if flat in accepted() else ""
        return f"{name}: refused, because {refused()[name]}{hint}"
    if name not in accepted():
        return f"{name}: no augmentation of Kornia's; {nearest(name, accepted())}"
    faults = [_argument_fault(name, key, value) for key, value in arguments.items()]
    for text in [*faults, _missing(name, arguments)]:
        if text:
            return f"{name}: {text}; {signature(name)}"
    try:
        blank = torch.full((2, 3, *trial_size(arguments)), 0.5)
        draw(name, arguments, blank.shape, 0).apply(blank)
    except DataError as error:
        return str(error)
    return None


def _argument_fault(name: str, key: str, value: Any) -> str | None:
    if key in NOT_ARGUMENTS:
        return f"{key}: not to be given, because pixels without data are marked as invalid"
    if key not in _parameters(name):
        return f"{key}: no such argument; {nearest(key, _parameters(name))}"
    if _is_constant_border(key, value):
        return f"{key}: given {value!r}; allowed: reflect, replicate, circular"
    if key in ("p", "p_batch") and not (_is_number(value) and 0 <= value <= 1):
        return f"{key}: given {value!r}; allowed: a probability, 0 to 1"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _missing(name: str, arguments: Arguments) -> str | None:
    """Arguments without a default that are not given; a size is that of the tiles."""
    wanted = {key for key, one in _parameters(name).items() if one.default is one.empty}
    missing = sorted(wanted - arguments.keys() - {"size"})
    return f"no {', '.join(missing)} given" if missing else None


def trial_size(arguments: Arguments) -> tuple[int, int]:
    """Height and width of tiles that these arguments should work on, 64 px or more."""
    size, kernel = arguments.get("size", 64), arguments.get("kernel_size", 1)
    sides = size if isinstance(size, list | tuple) and len(size) == 2 else (64, 64)
    reach = kernel if isinstance(kernel, list | tuple) else [kernel]
    least = 2 * max((one for one in reach if isinstance(one, int)), default=1)
    given = [side for side in sides if isinstance(side, int) and 0 < side <= MAX_TRIAL_PX]
    height, width = given if len(given) == 2 else (64, 64)
    if "size" in arguments:
        return height, width
    return max(height, min(least, MAX_TRIAL_PX)), max(width, min(least, MAX_TRIAL_PX))


@dataclass(frozen=True)
class KorniaDraw:
    """An augmentation whose parameters are drawn for a batch.

    Attributes:
        name: its name.
        module: Kornia's module.
        parameters: what was drawn, on the CPU.
    """

    name: str
    module: Any
    parameters: Mapping[str, Tensor]

    @property
    def behaviour(self) -> Behaviour:
        """What it does to pixels."""
        return accepted()[self.name].behaviour

    @property
    def applied(self) -> Tensor:
        """Which tiles are varied, bool [N]."""
        chosen = self.parameters["batch_prob"] > 0.5
        return chosen | torch.tensor(self.module.p == 1 and self.module.p_batch == 1)

    def apply(self, planes: Tensor) -> Tensor:
        """Planes [N, C, H, W] with the parameters drawn, in single precision.

        Raises:
            DataError: Kornia refuses such planes, or gives others than of their size.
        """
        with torch.autocast(planes.device.type, enabled=False), _one_line(self.name):
            varied: Tensor = self.module(planes, params=dict(self.parameters))
        if varied.shape != planes.shape:
            before, after = (f"{x.shape[-2]}x{x.shape[-1]}" for x in (planes, varied))
            raise DataError(
                f"{self.name}: gives {after} px of {before} px; leave its size away, or give that "
                "of the tiles"
            )
        return varied


def draw(name: str, arguments: Arguments, shape: Sequence[int], seed: int) -> KorniaDraw:
    """An augmentation with parameters for a batch, from a seed of its own.

    Kornia draws from torch's global generator alone, on the CPU, before it touches an image; that
    generator is seeded here and left as it was.

    Args:
        name: one of `accepted`.
        arguments: plain values; the size of tiles where it wants one and none is given.
        shape: of the batch [N, C, H, W].
        seed: origin of the parameters.

    Raises:
        DataError: Kornia refuses the arguments.
    """
    parameters = _parameters(name)
    own = {"size": tuple(shape[-2:]), "border_type": BORDER}
    stated = {key: value for key, value in own.items() if key in parameters} | dict(arguments)
    with torch.random.fork_rng(devices=[]), _one_line(name):
        torch.default_generator.manual_seed(seed)
        module = accepted()[name].build(**{k: _value(name, k, v) for k, v in stated.items()})
        return KorniaDraw(name, module, module.forward_parameters(tuple(shape)))


def _value(name: str, key: str, value: Any) -> Any:
    """A recipe's value as Kornia takes it: lists as tuples, or as tensors."""
    if key in _wants_tensor(name):
        return torch.tensor(value, dtype=torch.float32)
    return _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what Kornia says of wrong arguments into one line with its signature."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Kornia raises errors of a dozen kinds, some of them its own
        text = " ".join(str(error).split())
        raise DataError(f"{name}: {text[:200].rstrip('.')}; {signature(name)}") from error
