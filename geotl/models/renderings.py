"""Renderings of a tile: the same pixels in other colours, which excite other channels of a network.

The kernels of pretrained weights respond to the colours of photographs. With its bands in another
order, or as a negative, a tile gives other features, and a head on them makes other mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from geotl.errors import ModelError

Rendering = Literal["given", "reversed", "shifted", "negative"]
RENDERINGS: tuple[Rendering, ...] = get_args(Rendering)
GIVEN: tuple[Rendering, ...] = ("given",)


def rendered(standard: Tensor, rendering: Rendering) -> Tensor:
    """Standardised pixels [N,C,H,W] as one of the renderings.

    `reversed` has the bands in reverse order, `shifted` the last band first and the others after
    it, `negative` bright and dark exchanged.

    >>> import torch
    >>> red_green_blue = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    >>> [rendered(red_green_blue, one).flatten().tolist() for one in RENDERINGS[1:]]
    [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [-1.0, -2.0, -3.0]]
    """
    if rendering == "negative":
        return -standard
    order = _order(rendering, standard.shape[1])
    return standard if rendering == "given" else standard[:, list(order)]


def distinct(bands: int) -> tuple[Rendering, ...]:
    """The renderings that differ for so many bands.

    >>> distinct(1), distinct(2)
    (('given', 'negative'), ('given', 'reversed', 'negative'))
    """
    return tuple({_key(one, bands): one for one in RENDERINGS[::-1]}.values())[::-1]


def check_renderings(renderings: Sequence[Rendering], bands: int) -> None:
    """Make sure that there are some, which differ for this number of bands.

    Raises:
        ModelError: there are none, or two are the same.

    >>> check_renderings(("given", "shifted"), 1)
    Traceback (most recent call last):
    geotl.errors.ModelError: model.renderings: given "given, shifted" for bands: 1; \
allowed: some of given, negative, each once
    """
    if not renderings or len({_key(one, bands) for one in renderings}) < len(renderings):
        raise ModelError(
            f'model.renderings: given "{", ".join(renderings)}" for bands: {bands}; '
            f"allowed: some of {', '.join(distinct(bands))}, each once"
        )


def _key(rendering: Rendering, bands: int) -> tuple[int, ...]:
    """What tells renderings apart: the order of the bands, counted from 1, below 0 if negative."""
    sign = -1 if rendering == "negative" else 1
    return tuple(sign * (place + 1) for place in _order(rendering, bands))


def _order(rendering: Rendering, bands: int) -> tuple[int, ...]:
    """Which band comes first, second, and so on."""
    places = tuple(range(bands))
    if rendering == "reversed":
        return places[::-1]
    return (*places[-1:], *places[:-1]) if rendering == "shifted" else places
