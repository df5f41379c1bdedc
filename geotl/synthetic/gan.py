"""A conditional GAN for tiles: its two networks, their training, and the space they see DN in."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from geotl.arrays import Float32s, Float64s, Floats, Int64s
from geotl.console import Progress
from geotl.data.tile_array import Pack, batch, statistics
from geotl.errors import DataError
from geotl.models.classifier import VIEWS, turn_view

MIN_PX = 8
BOUND = 6.0  # standard deviations that a made pixel keeps within
GROUPS = 8
SEEKING = 0.5  # weight of the loss that keeps a class from one single tile
_BLOCK = 64  # tiles generated per batch


@dataclass(frozen=True)
class GanSettings:
    """Settings of a generator's training.

    Attributes:
        steps: steps of critic and generator, one each in turn.
        batch_size: tiles in a step.
        width: channels of the layer at full size; deeper ones have up to four times as many.
        latent: length of the noise, and of what stands for a class.
        lr: learning rate of Adam with betas 0 and 0.9, for both networks.

    Raises:
        DataError: a figure below 1, or a width that does not fit the groups.
    """

    steps: int = 1000
    batch_size: int = 16
    width: int = 16
    latent: int = 64
    lr: float = 5e-4

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.steps, self.batch_size, self.latent) < 1 or self.lr <= 0:
            raise DataError(
                f"a generator of {self.steps} steps, {self.batch_size} tiles a step, latent "
                f"{self.latent}, rate {self.lr}; allowed: 1 or more each, and a rate above 0"
            )
        if self.width < GROUPS or self.width % GROUPS:
            raise DataError(f"width {self.width}: allowed are multiples of {GROUPS}")


def doublings(px: int) -> int:
    """Number of doublings in a generator: from a side of 4 to 8 pixels to at least `px`.

    Raises:
        DataError: tiles too small to grow.

    >>> [doublings(px) for px in (8, 16, 40, 64)]
    [1, 2, 3, 4]
    """
    if px < MIN_PX:
        raise DataError(f"tiles of {px} px: a generator needs at least {MIN_PX}")
    return int(math.log2(px / 4))


class Modulated(nn.Module):
    """Group normalisation with scale and shift as a linear function of noise and class."""

    def __init__(self, channels: int, code: int) -> None:
        """Start with scales about 1 and shifts about 0 that differ from tile to tile."""
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, affine=False)
        self.affine = nn.Linear(code, 2 * channels)
        nn.init.normal_(self.affine.weight, std=1 / math.sqrt(code))
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise [N, C, h, w], then scale and shift it by the code [N, L]."""
        scale, shift = self.affine(code)[..., None, None].chunk(2, dim=1)
        return torch.as_tensor(self.norm(x) * (1 + scale) + shift)


class Generator(nn.Module):
    """Noise [N, latent] and classes [N] to standardised tiles [N, C, S, S]."""

    def __init__(self, bands: int, px: int, classes: int, settings: GanSettings) -> None:
        """Build it with random weights."""
        super().__init__()
        times = doublings(px)
        self.px, self.latent = px, settings.latent
        self.base = -(-px // 2**times)
        widths = [settings.width * min(4, 2 ** (times - level)) for level in range(times + 1)]
        code = 2 * settings.latent
        self.embed = nn.Embedding(classes, settings.latent)
        self.start = nn.Linear(code, widths[0] * self.base**2)
        pairs = list(itertools.pairwise(widths))
        self.norms = nn.ModuleList(Modulated(a, code) for a, _ in pairs)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, padding_mode="replicate") for a, b in pairs
        )
        self.last_norm = Modulated(widths[-1], code)
        self.last = nn.Conv2d(widths[-1], bands, 3, padding=1, padding_mode="replicate")

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        """Make tiles; every value lies within -BOUND..BOUND."""
        code = torch.cat([noise, self.embed(classes)], dim=1)
        x = self.start(code).view(len(noise), -1, self.base, self.base)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = F.interpolate(F.relu(norm(x, code)), scale_factor=2.0, mode="nearest")
            x = conv(x)
        x = self.last(F.relu(self.last_norm(x, code)))
        cut = (x.shape[-1] - self.px) // 2
        x = x[..., cut : cut + self.px, cut : cut + self.px]
        return BOUND * torch.tanh(x / BOUND)


class Critic(nn.Module):
    """Scores of how real standardised tiles [N, C, S, S] of classes [N] are [N]."""

    def __init__(self, bands: int, px: int, classes: int, settings: GanSettings) -> None:
        """Build it with random weights, each layer of spectral norm 1."""
        super().__init__()
        channels = [settings.width * min(4, 2 ** (level + 1)) for level in range(doublings(px))]
        widths = [bands, *channels]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, 2, padding=1)), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Linear(widths[-1], 1))
        self.embed = spectral_norm(nn.Embedding(classes, widths[-1]))

    def forward(self, tiles: Tensor, classes: Tensor) -> Tensor:
        """Score tiles; above 0 means real."""
        seen = self.body(tiles).sum(dim=(2, 3))
        return torch.as_tensor(self.score(seen)[:, 0] + (self.embed(classes) * seen).sum(dim=1))


def train_generator(
    tiles: Tensor,
    labels: Tensor,
    classes: int,
    settings: GanSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Generator:
    """Train a generator on tiles, and on nothing else.

    Classes are drawn with equal probability, whatever their number of tiles. The generator handed
    back is the running average of its weights, with a half-life of a twentieth of the steps.

    Args:
        tiles: standardised [N, C, S, S], on the device that trains.
        labels: class of each, int64 [N]; each class has at least one.
        classes: number of classes.
        settings: settings of networks and training.
        seed: seed of weights, order, views and noise.
        progress: called with steps done and steps in all.

    Raises:
        DataError: tiles too small, a class without tiles, or a training that ran off.
    """
    missing = set(range(classes)) - set(labels.tolist())
    if missing:
        raise DataError(f"class {min(missing)} has no tiles to learn from; it cannot be made")
    bands, px = tiles.shape[1], tiles.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(bands, px, classes, settings).to(tiles.device)
        critic = Critic(bands, px, classes, settings).to(tiles.device)
    random = torch.Generator().manual_seed(seed)
    adams = [
        torch.optim.Adam(network.parameters(), lr=settings.lr, betas=(0.0, 0.9))
        for network in (critic, generator)
    ]
    average = copy.deepcopy(generator).requires_grad_(requires_grad=False)
    keep = 0.5 ** (1 / max(1.0, settings.steps / 20))
    of_class = [torch.nonzero(labels.cpu() == k).flatten() for k in range(classes)]
    for step in range(settings.steps):
        drawn = _drawn(of_class, settings.batch_size, random).to(tiles.device)
        _critic_step(generator, critic, adams[0], (tiles[drawn], labels[drawn]), random)
        _generator_step(generator, critic, adams[1], labels[drawn], random)
        with torch.no_grad():
            for mean, now in zip(average.parameters(), generator.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        if progress:
            progress(step + 1, settings.steps)
    if not all(bool(p.isfinite().all()) for p in average.parameters()):
        raise DataError("the generator's training ran off to infinity; lower its rate or steps")
    return average.eval()


@torch.inference_mode()
def generated_tiles(generator: Generator, labels: Tensor, *, seed: int) -> Tensor:
    """Standardised tiles [N, C, S, S] of these classes [N], on the CPU; noise is drawn by seed."""
    random = torch.Generator().manual_seed(seed)
    device = generator.start.weight.device
    blocks = []
    for start in range(0, len(labels), _BLOCK):
        part = labels[start : start + _BLOCK]
        noise = torch.randn((len(part), generator.latent), generator=random)
        blocks.append(generator(noise.to(device), part.to(device)).cpu())
    return torch.cat(blocks)


def _drawn(of_class: list[Tensor], count: int, random: torch.Generator) -> Tensor:
    """Positions of tiles, with equal probability of the classes."""
    picked = torch.randint(len(of_class), (count,), generator=random)
    places = torch.rand(count, generator=random, dtype=torch.float64)
    rows = [
        of_class[k][int(place * len(of_class[k]))]
        for k, place in zip(picked.tolist(), places.tolist(), strict=True)
    ]
    return torch.stack(rows)


def _critic_step(
    generator: Generator,
    critic: Critic,
    adam: torch.optim.Optimizer,
    real: tuple[Tensor, Tensor],
    random: torch.Generator,
) -> None:
    tiles, labels = real
    with torch.no_grad():
        fake = generator(_noise(generator, len(labels), random).to(tiles), labels)
    adam.zero_grad()
    high = critic(_in_views(tiles, random), labels)
    low = critic(_in_views(fake, random), labels)
    (F.relu(1 - high).mean() + F.relu(1 + low).mean()).backward()  # type: ignore[no-untyped-call]
    adam.step()


def _generator_step(
    generator: Generator,
    critic: Critic,
    adam: torch.optim.Optimizer,
    labels: Tensor,
    random: torch.Generator,
) -> None:
    """One step; the batch holds two tiles of each class, so that they can be made to differ."""
    adam.zero_grad()
    half = labels[: max(1, len(labels) // 2)]
    classes = torch.cat([half, half])
    noise = _noise(generator, len(classes), random).to(generator.start.weight)
    critic.requires_grad_(requires_grad=False)
    fake = generator(noise, classes)
    loss = -critic(_in_views(fake, random), classes).mean()
    (loss + SEEKING * _sameness(fake, noise)).backward()
    critic.requires_grad_(requires_grad=True)
    adam.step()


def _sameness(fake: Tensor, noise: Tensor) -> Tensor:
    """Difference of noise per difference of two tiles of a class (Mao et al. 2019)."""
    apart = (fake.chunk(2)[0] - fake.chunk(2)[1]).abs().mean(dim=(1, 2, 3))
    moved = (noise.chunk(2)[0] - noise.chunk(2)[1]).abs().mean(dim=1)
    return (moved / (apart + 0.1)).mean()


def _noise(generator: Generator, count: int, random: torch.Generator) -> Tensor:
    return torch.randn((count, generator.latent), generator=random)


def _in_views(tiles: Tensor, random: torch.Generator) -> Tensor:
    """Each tile in one of its eight views, drawn; gradients pass through."""
    views = torch.randint(VIEWS, (len(tiles),), generator=random).tolist()
    return torch.stack([turn_view(tile, view) for tile, view in zip(tiles, views, strict=True)])


_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Space:
    """Each band's mean, sd and seen range, in DN, float64 [C], and the tiles' native type."""

    mean: Float64s
    sd: Float64s
    low: Float64s
    high: Float64s
    dtype: np.dtype[Any]

    def standardised(self, tiles: Floats) -> Float32s:
        """DN [N, C, S, S] minus the mean, over the sd; a band without contrast becomes 0."""
        sd = np.where(self.sd > 0, self.sd, 1.0)
        return np.asarray((tiles - _planes(self.mean)) / _planes(sd), dtype=np.float32)

    def in_dn(self, tiles: Floats) -> NDArray[Any]:
        """Standardised tiles [N, C, S, S] in the native type, within the range seen.

        >>> one = np.ones(1)
        >>> space = Space(10 * one, 2 * one, 8 * one, 13 * one, np.dtype(np.uint8))
        >>> space.in_dn(np.array([[[[-9.0, 0.3, 9.0]]]])).tolist()
        [[[[8, 11, 13]]]]
        """
        values = tiles.astype(np.float64) * _planes(self.sd) + _planes(self.mean)
        if self.dtype.kind in "iu":
            values = np.rint(values)
        return np.clip(values, _planes(self.low), _planes(self.high)).astype(self.dtype)


def space_of(pack: Pack, rows: Int64s) -> Space:
    """The space of some tiles: mean, sd and range of their valid pixels, and of no others.

    Raises:
        DataError: no rows, or a band without a valid pixel in them.
    """
    means = statistics(pack, rows)
    low, high = np.full(len(means.mean), np.inf), np.full(len(means.mean), -np.inf)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = np.asarray(rows[start : start + _ROWS_AT_ONCE])
        images = np.asarray(pack.images)[part].astype(np.float64)
        seen = np.True_ if pack.valid is None else np.asarray(pack.valid)[part]
        low = np.minimum(low, np.where(seen, images, np.inf).min(axis=(0, 2, 3)))
        high = np.maximum(high, np.where(seen, images, -np.inf).max(axis=(0, 2, 3)))
    return Space(means.mean, means.sd, low, high, pack.images.dtype)


def standardised_tiles(pack: Pack, rows: Int64s, space: Space) -> Float32s:
    """Packed tiles [n, C, S, S] in a space; invalid pixels become 0, the mean."""
    images = batch(pack, rows, fill=space.mean)["image"].numpy()
    return space.standardised(images)


def _planes(values: Float64s) -> Float64s:
    return values.reshape(-1, 1, 1)
