"""Features of a frozen network: computed once per view, cached under their fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from geotl.arrays import Bools, Float32s, Int64s
from geotl.console import Progress
from geotl.data.tile_array import Pack, batch
from geotl.io.files import whole_file
from geotl.models.classifier import TileClassifier, over_views
from geotl.models.device import Precision, autocast, settled


def state_fingerprint(model: TileClassifier, *, filled: bool = True) -> str:
    """SHA-256 over what determines a model's features: weights, statistics, specification.

    Args:
        model: the network.
        filled: whether some pixel is invalid; else what such pixels are filled with, which is of
            each draw's training tiles, plays no part.
    """
    digest = hashlib.sha256(repr((model.spec, model.sizes)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        counts = filled or name != "normalise.fill"
        if name.startswith(("backbone.", "normalise.")) and counts:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def raw_features(
    model: TileClassifier,
    pack: Pack,
    rows: Int64s,
    *,
    precision: Precision = "auto",
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Float32s:
    """Features before standardisation, [len(rows), views, D] float32, of packed tiles."""
    device = next(model.parameters()).device
    model.eval()
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    out: list[Float32s] = []
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        image = batch(pack, part, fill=fill, device=device)["image"]
        with autocast(device, precision):
            features = over_views(
                lambda view: model.finish(model.frozen_part(view)), image, model.spec.views
            )
        out.append(features.float().cpu().numpy())
        if progress:
            progress(min(start + batch_size, len(rows)), len(rows))
    return np.concatenate(out)


def cached_features(
    model: TileClassifier,
    pack: Pack,
    rows: Int64s,
    folder: Path,
    *,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Float32s:
    """`raw_features`, kept in `folder` under the fingerprint of model, tiles and rows.

    Tiles with invalid pixels are kept apart: theirs hang on what those are filled with, which is of
    each draw's training tiles, so that repeated draws compute no more than these anew.
    """
    fmt = settled(precision, next(model.parameters()).device)

    def kept(some: Int64s, *, filled: bool) -> Float32s:
        state = state_fingerprint(model, filled=filled)
        told = f"{state}{pack.fingerprint}{fmt}{torch.get_num_threads()}"
        key = hashlib.sha256(told.encode() + some.tobytes()).hexdigest()[:32]
        path = folder / f"features-{key}.npy"
        if not path.exists():
            features = raw_features(model, pack, some, precision=precision, progress=progress)
            with whole_file(path) as part, part.open("wb") as stream:
                np.save(stream, features, allow_pickle=False)
        held: Float32s = np.load(path, mmap_mode="r", allow_pickle=False)
        return held

    holed = _holed(pack, rows)
    if holed.all() or not holed.any():
        return kept(rows, filled=bool(holed.any()))
    whole, patched = kept(rows[~holed], filled=False), kept(rows[holed], filled=True)
    together = np.empty((len(rows), *whole.shape[1:]), np.float32)
    together[~holed], together[holed] = whole, patched
    return together


def _holed(pack: Pack, rows: Int64s) -> Bools:
    """Whether each of the tiles has an invalid pixel; read in blocks of 256."""
    if pack.valid is None:
        return np.zeros(len(rows), bool)
    blocks = (rows[start : start + 256] for start in range(0, len(rows), 256))
    return np.concatenate([~pack.valid[part].all(axis=(1, 2, 3)) for part in blocks])
