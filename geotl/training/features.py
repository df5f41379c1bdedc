"""Features of frozen stages, computed once and cached; frozen stages under training views."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Bools, Float32s, Int64s
from geotl.console import Progress
from geotl.data.tile_array import Pack, batch
from geotl.io.cache_entries import kept
from geotl.io.files import whole_file
from geotl.models.band_statistics import band_statistics
from geotl.models.classifier import MAP_AXES, VIEWS, Frozen, TileClassifier, over_views, turn_view
from geotl.models.device import Precision, autocast, settled
from geotl.training.settings import Augmentation

FEATURES = "features.npy"


def state_fingerprint(model: TileClassifier, *, filled: bool = True) -> str:
    """SHA-256 over what determines a model's features: weights, statistics, specification.

    Args:
        model: the network.
        filled: whether some pixel is invalid; else the fill values, which come from each
            repeat's training tiles, do not count.
    """
    digest = hashlib.sha256(repr((model.spec, model.sizes)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        counts = filled or name != "normalise.fill"
        if name.startswith(("backbone.", "normalise.")) and counts:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def raw_features(
    model: TileClassifier,
    pack: Pack,
    rows: Int64s,
    *,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float32s:
    """Features before standardisation, [len(rows), views, D] float32, of packed tiles."""
    deep = _stage_features(model, pack, rows, precision=precision, progress=progress)
    return followed_by_statistics(model, pack, rows, deep)


def followed_by_statistics(
    model: TileClassifier, pack: Pack, rows: Int64s, deep: Float32s
) -> Float32s:
    """Features [n, V, D] of the stages and, where the model wants them, statistics of the bands."""
    if not model.spec.statistics:
        return deep
    statistics = statistics_table(model, pack, rows)
    return np.concatenate([deep, np.repeat(statistics[:, None], deep.shape[1], axis=1)], axis=2)


@torch.inference_mode()
def statistics_table(
    model: TileClassifier, pack: Pack, rows: Int64s, batch_size: int = 128
) -> Float32s:
    """Each band's mean, sd and gradient in packed tiles, [len(rows), 3C], not standardised."""
    blocks = _normalised_blocks(model, pack, rows, batch_size)
    return np.concatenate([band_statistics(block).cpu().numpy() for block in blocks])


@torch.inference_mode()
def _stage_features(
    model: TileClassifier,
    pack: Pack,
    rows: Int64s,
    *,
    precision: Precision = "auto",
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Float32s:
    """Features of the stages alone for packed tiles, [len(rows), views, D] float32."""
    device = next(model.parameters()).device
    model.eval()
    out: list[Float32s] = []
    for number, block in enumerate(_normalised_blocks(model, pack, rows, batch_size), start=1):
        with autocast(device, precision):
            features = over_views(
                lambda view: model.finish(model.frozen_of(view)), block, model.spec.views
            )
        out.append(features.float().cpu().numpy())
        if progress:
            progress(min(number * batch_size, len(rows)), len(rows))
    return np.concatenate(out)


def _normalised_blocks(
    model: TileClassifier, pack: Pack, rows: Int64s, batch_size: int
) -> Iterator[Tensor]:
    """Standardised pixels [n,C,S,S] of packed tiles on the model's device, block by block."""
    device = next(model.parameters()).device
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield model.normalise(batch(pack, part, fill=fill, device=device)["image"])


def cached_features(
    model: TileClassifier,
    pack: Pack,
    rows: Int64s,
    folder: Path,
    *,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float32s:
    """Features of the stages as in `raw_features`, kept in `folder`.

    The fingerprint of model, tiles and rows finds them again.

    Tiles with invalid pixels are cached separately: their features depend on the fill values, which
    come from each repeat's training tiles. So repeats compute these features again and no others.
    """
    fmt = settled(precision, next(model.parameters()).device)

    def cached(positions: Int64s, *, filled: bool) -> Float32s:
        state = state_fingerprint(model, filled=filled)
        identity = f"{state}{pack.fingerprint}{fmt}{torch.get_num_threads()}"
        key = hashlib.sha256(identity.encode() + positions.tobytes()).hexdigest()[:32]

        def make(part: Path) -> None:
            features = _stage_features(
                model, pack, positions, precision=precision, progress=progress
            )
            with whole_file(part / FEATURES) as path, path.open("wb") as stream:
                np.save(stream, features, allow_pickle=False)

        entry = kept(folder / f"features-{key}", make)
        stored: Float32s = np.load(entry / FEATURES, mmap_mode="r", allow_pickle=False)
        return stored

    holed = _holed(pack, rows)
    if holed.all() or not holed.any():
        return cached(rows, filled=bool(holed.any()))
    complete, patched = cached(rows[~holed], filled=False), cached(rows[holed], filled=True)
    together = np.empty((len(rows), *complete.shape[1:]), np.float32)
    together[~holed], together[holed] = complete, patched
    return together


def _holed(pack: Pack, rows: Int64s) -> Bools:
    """Whether each of the tiles has an invalid pixel; read in blocks of 256."""
    if pack.valid is None:
        return np.zeros(len(rows), bool)
    blocks = (rows[start : start + 256] for start in range(0, len(rows), 256))
    return np.concatenate([~pack.valid[part].all(axis=(1, 2, 3)) for part in blocks])


@dataclass(frozen=True)
class Tiles:
    """Rows of a pack with their labels; `labels[i]` belongs to `rows[i]`."""

    pack: Pack
    rows: Int64s
    labels: Int64s


class FrozenViews:
    """Outputs of the frozen stages for every training tile and view, computed once."""

    def __init__(self, model: TileClassifier, tiles: Tiles, views: Sequence[int]) -> None:
        """Run the frozen stages over all tiles in each view, in blocks of 64."""
        self.views = tuple(views)
        self.parts = [
            [_stacked(_frozen_blocks(model, tiles, v), s) for s in range(len(model.inputs))]
            for v in self.views
        ]

    def take(self, positions: Tensor, choice: Tensor) -> list[Frozen]:
        """Frozen results of tiles at `positions`, each in the view numbered by `choice`."""
        chosen = []
        for size in range(len(self.parts[0])):
            picked = [self.parts[v][size] for v in choice.tolist()]
            pooled = torch.stack([p.pooled[i] for p, i in zip(picked, positions, strict=True)])
            maps = torch.stack([p.maps[i] for p, i in zip(picked, positions, strict=True)])
            if maps.ndim == MAP_AXES:
                maps = maps.contiguous(memory_format=torch.channels_last)
            chosen.append(Frozen(pooled, maps))
        return chosen


def _frozen_blocks(model: TileClassifier, tiles: Tiles, view: int) -> Iterator[list[Frozen]]:
    device = next(model.parameters()).device
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    for start in range(0, len(tiles.rows), 64):
        image = batch(tiles.pack, tiles.rows[start : start + 64], fill=fill, device=device)["image"]
        yield model.frozen_part(turn_view(image, view))


def _stacked(blocks: Iterator[list[Frozen]], size: int) -> Frozen:
    parts = [block[size] for block in blocks]
    return Frozen(torch.cat([h.pooled for h in parts]), torch.cat([h.maps for h in parts]))


def frozen_bytes(model: TileClassifier, tiles: Tiles, views: int) -> int:
    """Memory that caching every view of the frozen stages' maps would take, in bytes."""
    probe = Tiles(tiles.pack, tiles.rows[:1], tiles.labels[:1])
    parts = next(_frozen_blocks(model, probe, 0))
    return 4 * views * len(tiles.rows) * sum(p.maps.numel() + p.pooled.numel() for p in parts)


def cacheable_views(kind: Augmentation) -> tuple[int, ...]:
    """The views that an augmentation draws from, if it only turns and flips; () otherwise.

    >>> len(cacheable_views(Augmentation())), cacheable_views(Augmentation(noise=0.1))
    (8, ())
    """
    if kind.beyond_views or kind.flips != kind.quarter_turns:
        return ()
    return tuple(range(VIEWS)) if kind.flips else (0,)
