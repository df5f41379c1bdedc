"""A tiny model and scenes that it can map: squares of three classes that differ in their bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from helpers.tiles import write_tile

from geotl.imagery.sensors import get_sensor
from geotl.models import model_file
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier, over_views
from geotl.models.model_file import Contract, ModelFile, TrainingSamples
from geotl.models.registry import build_backbone

BANDS = ("B02", "B03", "B04", "B08")
CLASSES = ("field, wet", "town", "water")
COLOURS = ("#11aa22", "#cc3344", "#2244ee")
LEVEL = np.array([[600, 900, 700, 3200], [1400, 1500, 1900, 2300], [500, 400, 300, 200]])
PX = 32
CORNER = (500000.0, 4600000.0)


def made_pixels(classes: np.ndarray, side: int, *, noise: float = 60, seed: int = 3) -> np.ndarray:
    """Digital numbers uint16 [4,H,W] of squares of `side` pixels."""
    pixels = LEVEL[classes].transpose(2, 0, 1).repeat(side, axis=1).repeat(side, axis=2)
    random = np.random.default_rng(seed)
    return (pixels + random.normal(0, noise, pixels.shape)).clip(1).astype(np.uint16)


def made_tiles(count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Tiles [N,4,32,32] of one class each, and their labels."""
    labels = np.repeat(np.arange(3), count)
    tiles = [made_pixels(np.array([[k]]), PX, seed=i) for i, k in enumerate(labels)]
    return np.stack(tiles), labels


def made_model(
    path: Path,
    *,
    backbone: str = "resnet18",
    cut_after: str = "layer1",
    stages: tuple[str, ...] = ("layer1",),
    spec: dict | None = None,
    sensor: str = "sentinel2_l2a",
    bands: tuple[str, ...] = BANDS,
    scale: float = 1.0,
    learned: tuple[np.ndarray, np.ndarray] | None = None,
) -> Path:
    """A model file: random network, its head by the mean features of made tiles, or others'."""
    tiles, labels = learned or made_tiles()
    tiles = (tiles[:, : len(bands)] * scale).astype(tiles.dtype if scale == 1 else np.uint8)
    known = get_sensor(sensor)
    nm = known.wavelengths(bands)
    body, _ = build_backbone(backbone, bands, nm, cut_after=cut_after, seed=1)
    told = FeatureSpec(stages, **({"views": 2} | (spec or {})))
    wide = tiles.transpose(1, 0, 2, 3).reshape(len(bands), -1)
    normalise = Normalise(wide.mean(axis=1), wide.std(axis=1), nodata=known.nodata)
    network = TileClassifier(body, normalise, told, len(CLASSES)).eval()
    with torch.inference_mode():
        image = torch.from_numpy(tiles.astype(np.float32))
        raw = over_views(network.features, image, told.views)
        network.set_feature_scale(raw.reshape(-1, raw.shape[-1]))
        seen = over_views(network.features, image, told.views).mean(dim=1)
        centres = torch.stack([seen[labels == k].mean(dim=0) for k in range(len(CLASSES))])
        network.head.weight.copy_(centres)
        network.head.bias.copy_(-0.5 * centres.square().sum(dim=1))
        network.temperature.copy_(torch.tensor(float(seen.shape[1])))
        logits = over_views(network, image, told.views).mean(dim=1)
    contract = Contract(
        backbone,
        cut_after,
        None,
        tuple(bands),
        nm,
        known,
        None,
        PX,
        "pad_or_crop",
        CLASSES,
        COLOURS,
        network.spec,
    )
    training_samples = TrainingSamples(
        tiles,
        np.ones(tiles.shape, bool),
        logits.numpy().astype(np.float32),
        seen.numpy(),
        labels,
        np.arange(len(tiles)) % 2,
        boxes(len(tiles)),
    )
    notes = {
        "recipe": "title: made\n",
        "versions": {"geotl": "0", "torch": "1"},
        "training": {"crs": ["EPSG:32633"] * len(tiles)},
    }
    model_file.save(path, ModelFile(network, contract, training_samples, notes))
    return path


def boxes(count: int) -> np.ndarray:
    """Footprints of tiles of 10-m pixels."""
    left = CORNER[0] + 10 * PX * np.arange(count)
    top = np.full(count, CORNER[1])
    return np.stack([left, top - 10 * PX, left + 10 * PX, top], axis=1)


def checkers(rows: int, cols: int) -> np.ndarray:
    """Water and field by turns."""
    return 2 * (np.add.outer(np.arange(rows), np.arange(cols)) % 2)


def patches(rows: int, cols: int, seed: int = 5) -> np.ndarray:
    """Classes at random."""
    return np.random.default_rng(seed).integers(0, 3, (rows, cols))


def write_scene(path: Path, pixels: np.ndarray, **profile) -> Path:
    """The scene as a GeoTIFF with band names."""
    return write_tile(path, pixels, names=list(BANDS), **profile)
