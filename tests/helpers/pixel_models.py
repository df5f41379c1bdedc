"""Small models of pixels, fitted in a moment: linear members, a forest, and their fusion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers.map_fixtures import BANDS, CLASSES, COLOURS, made_pixels, patches
from safetensors import safe_open
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from geotl.imagery.sensors import Sensor, get_sensor
from geotl.models.deep_features import DEEP, DeepFeatures
from geotl.models.forest import ForestMember
from geotl.models.pixel_decoder import DECODER, DecoderKind, PixelDecoder
from geotl.models.pixel_features import BlockFeatures, PixelFeatures
from geotl.models.pixel_file import (
    PixelContract,
    PixelModelFile,
    TrainingPixels,
    save_pixel_model,
)
from geotl.models.pixel_model import LinearMember, PixelModel
from geotl.models.registry import build_backbone
from geotl.models.tensor_file import KEY

L2A = get_sensor("sentinel2_l2a")
WEIGHTS = {"bands": 0.25, "wide": 0.5, "forest": 0.25, "idle": 0.0}


def linear_member(
    blocks: tuple[str, ...], features: Mapping[str, np.ndarray], labels: np.ndarray
) -> LinearMember:
    """Logistic regression on features [D,n] by block."""
    rows = np.concatenate([features[name] for name in blocks]).T
    fit = LogisticRegression(C=0.01, max_iter=200).fit(rows, labels)
    return LinearMember(blocks, fit.coef_.astype(float), fit.intercept_.astype(float))


def forest_member(
    blocks: tuple[str, ...], features: Mapping[str, np.ndarray], labels: np.ndarray, **kwargs: Any
) -> ForestMember:
    """A random forest on features [D,n] by block."""
    rows = np.concatenate([features[name] for name in blocks]).T
    told = {"n_estimators": 12, "random_state": 0} | kwargs
    trees = [one.tree_ for one in RandomForestClassifier(**told).fit(rows, labels).estimators_]
    first = np.cumsum([0, *(tree.node_count for tree in trees)])
    join = np.concatenate
    leaf = [tree.children_left < 0 for tree in trees]
    return ForestMember(
        blocks,
        first[:-1].astype(np.int64),
        join([np.where(no, -1, t.feature) for t, no in zip(trees, leaf, strict=True)]).astype(
            np.int32
        ),
        join([tree.threshold for tree in trees]).astype(np.float32),
        *(
            join(
                [
                    np.where(no, 0, getattr(t, side) + start)
                    for t, no, start in zip(trees, leaf, first, strict=False)
                ]
            ).astype(np.int32)
            for side in ("children_left", "children_right")
        ),
        join([tree.value[:, 0] / tree.value[:, 0].sum(1, keepdims=True) for tree in trees]).astype(
            np.float32
        ),
    )


def made_fusion(
    features: PixelFeatures,
    values: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    **forest: Any,
) -> PixelModel:
    """Members on bands and on what surrounds a pixel, and one that takes no part."""
    both = tuple(block for block in values if block != DEEP)
    members = {
        "bands": linear_member(("bands",), values, labels),
        "wide": linear_member(tuple(values), values, labels),
        "forest": forest_member(both, values, labels, **forest),
    }
    members["idle"] = members["bands"]
    return PixelModel(
        features,
        tuple(classes),
        members,
        {"bands": 1.3, "wide": 0.8, "forest": 1.0, "idle": 1.0},
        WEIGHTS,
        np.zeros(len(classes)),
    )


def made_file(
    fusion: PixelModel,
    training: TrainingPixels,
    colours: Sequence[str],
    notes: Mapping[str, Any] | None = None,
    sensor: Sensor = L2A,
) -> PixelModelFile:
    """A pixel model with its contract, of 10-m pixels."""
    of = fusion.features
    contract = PixelContract(
        of.bands, of.wavelengths, sensor, None, fusion.classes, tuple(colours), 10.0
    )
    told = {"recipe": "title: made\n", "versions": {"geotl": "0"}, "metrics": {}}
    return PixelModelFile(fusion, contract, training, {**told, **(notes or {})})


def small_network(
    stages: tuple[str, ...] = ("stem", "fire4_5"), composites: tuple[tuple[int, ...], ...] = ()
) -> DeepFeatures:
    """SqueezeNet at random, to its third stage of stride 8."""
    bands = [BANDS[i] for i in composites[0]] if composites else BANDS
    backbone, _ = build_backbone(
        "squeezenet1_1", bands, L2A.wavelengths(bands), cut_after=stages[-1], seed=3
    )
    return DeepFeatures.of(backbone, stages, composites)


def small_decoder(kind: DecoderKind = "unet", seed: int = 4) -> PixelDecoder:
    """A decoder of three classes on ResNet-18 to its second layer, at random."""
    backbone, _ = build_backbone(
        "resnet18", BANDS, L2A.wavelengths(BANDS), cut_after="layer2", seed=seed
    )
    return PixelDecoder(backbone, kind, len(CLASSES), seed=seed).settle()


def without_checksum(path: Path) -> dict[str, str]:
    """A model file's metadata as earlier versions wrote it."""
    with safe_open(str(path), framework="numpy") as stream:
        header = json.loads(stream.metadata()[KEY])
    return {KEY: json.dumps({k: v for k, v in header.items() if k != "checksum"})}


def deep_at(
    deep: DeepFeatures | PixelDecoder, block: BlockFeatures, rows: np.ndarray, cols: np.ndarray
) -> np.ndarray:
    """A network's features [D,n] of pixels of a whole scene, beyond whose edge nothing counts."""
    wide = np.pad(block.standardised(), ((0, 0), *[(deep.halo, deep.halo)] * 2))
    return deep.at(wide, rows + deep.halo, cols + deep.halo)


def made_pixel_model(
    path: Path,
    *,
    windows_px: tuple[int, ...] = (3, 7, 15),
    notes: Mapping[str, Any] | None = None,
    deep: DeepFeatures | None = None,
    missing_bands: str = "exclude",
    decoder: PixelDecoder | None = None,
) -> Path:
    """A model file that tells the three classes of the made scenes."""
    truth = patches(6, 6, seed=9).repeat(12, 0).repeat(12, 1)
    pixels = made_pixels(patches(6, 6, seed=9), 12, seed=8)
    wide = pixels.reshape(len(BANDS), -1).astype(float)
    features = PixelFeatures(
        BANDS,
        L2A.wavelengths(BANDS),
        tuple(wide.mean(axis=1).tolist()),
        tuple(wide.std(axis=1).tolist()),
        1000.0,
        windows_px,
        missing_bands,
    )
    random = np.random.default_rng(2)
    rows, cols = random.integers(0, 72, (2, 300))
    block = BlockFeatures(features, pixels, np.ones(pixels.shape, bool))
    values = block.at(rows, cols)
    if deep is not None:
        values[DEEP] = deep_at(deep, block, rows, cols)
    labels = truth[rows, cols]
    training = TrainingPixels(
        np.concatenate(list(values.values())).T.copy(),
        labels,
        np.arange(300) % 3,
        np.stack([500005.0 + 10 * cols, 4599995.0 - 10 * rows], axis=1),
    )
    fusion = replace(made_fusion(features, values, labels, CLASSES), deep=deep, decoder=decoder)
    if decoder is not None:
        count = len(CLASSES)
        own = LinearMember((DECODER,), np.eye(count), np.zeros(count))
        fusion = replace(
            fusion,
            members={**fusion.members, "decoder_unet": own},
            temperatures={**fusion.temperatures, "decoder_unet": 0.5},
            weights={**fusion.weights, "decoder_unet": 0.5},
        )
    told = {"training": {"crs": ["EPSG:32633"]}, **(notes or {})}
    save_pixel_model(path, made_file(fusion, training, COLOURS, told))
    return path
