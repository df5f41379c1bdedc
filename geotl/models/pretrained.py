"""Weights that torchvision and torchgeo publish: by name, through their own loaders and cache.

torchgeo is an extra and takes seconds to import, so it is only imported where it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
import torchvision.models
from torch import nn

from geotl.errors import WeightsError, nearest
from geotl.imagery.sensors import SENSORS, Sensor, Unit, known_band
from geotl.io.files import sha256_of
from geotl.language import msg
from geotl.models.backbone import BackboneSpec
from geotl.models.first_conv import RGB
from geotl.models.normalisation import IMAGENET, Normalisation, WeightUnit, of_pictures
from geotl.models.timm_networks import PREFIX, is_timm
from geotl.models.timm_weights import is_timm_weights, timm_file
from geotl.models.weights import WeightFile, refusal, tensors_of

_NAME = re.compile(r"(?:torchgeo:)?\w+_Weights\.\w+")
_INSTALL = "pip install 'geotl[torchgeo]'"

# timm's networks -> torchgeo's lists of weights for them.
_TORCHGEO_LISTS = {
    "resnet18": "ResNet18_Weights",
    "resnet50": "ResNet50_Weights",
    "resnet152": "ResNet152_Weights",
    "vit_small_patch16_224": "ViTSmall16_Weights",
    "vit_base_patch16_224": "ViTBase16_Weights",
    "vit_large_patch16_224": "ViTLarge16_Weights",
    "vit_huge_patch14_224": "ViTHuge14_Weights",
    "vit_small_patch14_dinov2": "ViTSmall14_DINOv2_Weights",
    "vit_base_patch14_dinov2": "ViTBase14_DINOv2_Weights",
}
# Prefixes of torchgeo's entries -> sensor of their bands.
_SENSORS = {
    "SENTINEL2_": "sentinel2_l1c",
    "LANDSAT_TM_TOA_": "landsat5_toa",
    "LANDSAT_ETM_TOA_": "landsat7_toa",
    "LANDSAT_ETM_SR_": "landsat7_sr",
    "LANDSAT_OLI_TIRS_TOA_": "landsat8_toa",
    "LANDSAT_OLI_SR_": "landsat8_sr",
    "FMOW_RGB_": "rgb",
    "NAIP_RGB_": "rgb",
}
# (data set, level, unit) -> value = number in its files * scale + offset. The library does not
# give it; these come from the source of each set:
# SSL4EO-S12: Earth Engine's COPERNICUS/S2 of 2020 and 2021, before baseline 04.00.
# SSL4EO-L: 8 bits over reflectance 0 to 0.4 (top of atmosphere) or 0 to 0.3 (surface) and 248.15 to
# 318.15 K (torchgeo's experiments/ssl4eo/landsat/compress_*.sh, 256 steps).
# CrisisLandMark (CLOSP) and SSL4Eco: surface reflectance in ten-thousandths (Earth Engine's
# COPERNICUS/S2_SR_HARMONIZED, BigEarthNet v2).
# fMoW and the true-colour images of SatlasPretrain (its Normalization.md): 8-bit pictures.
_SCALES: dict[tuple[str, str, Unit], tuple[float, float]] = {
    ("SSL4EO-S12", "l1c", "reflectance"): (1e-4, 0.0),
    ("SSL4EO-L", "toa", "reflectance"): (0.4 / 256, 0.0),
    ("SSL4EO-L", "toa", "kelvin"): (70 / 256, 248.15),
    ("SSL4EO-L", "sr", "reflectance"): (0.3 / 256, 0.0),
    ("fMoW Dataset", "rgb", "share"): (1 / 255, 0.0),
    ("CrisisLandMark", "l1c", "reflectance"): (1e-4, 0.0),
    ("SSL4Eco Dataset", "l1c", "reflectance"): (1e-4, 0.0),
    ("SatlasPretrain", "l1c", "reflectance"): (1e-4, 0.0),
    ("SatlasPretrain", "l1c", "share"): (1 / 255, 0.0),
    ("SatlasPretrain", "rgb", "share"): (1 / 255, 0.0),
}
_TRUE_COLOUR = ("B04", "B03", "B02")
# Earth Engine's COPERNICUS/S1_GRD, of which SSL4EO-S12 is made, is backscatter in decibels.
_BACKSCATTER = ("SSL4EO-S12", ("VV", "VH"))
# SeCo (seco_downloader.py, seco_dataset.py of its authors): surface reflectance 0 to 1 as 8 bits,
# each band stretched from its quantiles to 0..1, then ImageNet's mean and sd. torchgeo's transforms
# give the quantiles in the other order of bands, and 0..255 where the authors have 0..1.
_SECO_QUANTILES = {"B04": (0.0, 129.0), "B03": (2.0, 103.0), "B02": (3.0, 88.0)}
_VALUES_KEPT = ("Resize", "CenterCrop", "Identity")


def torchvision_names(network: str) -> tuple[str, ...]:
    """Names of torchvision's weights for one of its networks.

    >>> torchvision_names("resnet18")
    ('ResNet18_Weights.IMAGENET1K_V1',)
    """
    return tuple(str(entry) for entry in torchvision.models.get_model_weights(network))


def torchgeo_names(spec: BackboneSpec) -> tuple[str, ...]:
    """Names of torchgeo's weights for a backbone; none where torchgeo is not installed."""
    if torchgeo_list(spec) is None or find_spec("torchgeo") is None:
        return ()
    entries = _torchgeo_entries(spec, "").values()
    return tuple(dict.fromkeys(f"torchgeo:{entry}" for entry in entries))


def torchgeo_list(spec: BackboneSpec) -> str | None:
    """Name of torchgeo's list of weights for a backbone; None if it has none."""
    if is_timm(spec.name):
        return _TORCHGEO_LISTS.get(spec.name.removeprefix(PREFIX).partition(".")[0])
    return spec.weights[0].partition(".")[0] if spec.weights else None


def is_published(weights: str) -> bool:
    """Whether this is the name of published weights rather than a file's.

    >>> is_published("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"), is_published("w.pth")
    (True, False)
    """
    return _NAME.fullmatch(weights) is not None or is_timm_weights(weights)


def published_file(spec: BackboneSpec, weights: str) -> WeightFile:
    """Published weights under the tensor names of the backbone's library.

    A name without `torchgeo:` means torchvision's weights, or torchgeo's where torchvision has
    none of that name (both call their lists ResNet18_Weights).

    Raises:
        WeightsError: no such weights for this backbone, torchgeo is not installed, or the file
            is not in the cache and cannot be fetched.
    """
    if spec.family == "timm" and is_timm_weights(weights):
        return timm_file(spec, weights)
    library, _, name = weights.rpartition(":")
    group, _, member = name.partition(".")
    ours = group == torchgeo_list(spec)
    if not library and not is_timm(spec.name):
        is_group = group in {entry.partition(".")[0] for entry in spec.weights}
        if name in spec.weights or (is_group and member == "DEFAULT"):
            return _torchvision_file(spec, torchvision.models.get_weight(name))
    entries = _torchgeo_entries(spec, weights) if ours else {}
    if member in entries:
        return _torchgeo_file(entries[member])
    own_names = ", ".join(spec.weights) or "it has none"
    more = f"; of torchgeo's, {nearest(member, entries)}" if entries else ""
    raise WeightsError(
        f"weights {weights}: none of {spec.name}'s ({own_names}{more}); take one of these or set "
        "model.backbone to the network they are for"
    )


def _torchgeo_entries(spec: BackboneSpec, asked: str) -> Mapping[str, Any]:
    """List torchgeo's weights for a backbone, by the last part of their names.

    Raises:
        WeightsError: torchgeo cannot be imported.
    """
    try:
        from torchgeo import models
    except ImportError as error:
        raise WeightsError(
            f"weights {asked}: not the library's ({', '.join(spec.weights)}), and torchgeo, which "
            f"may have them, cannot be imported ({error}); {_INSTALL}"
        ) from error
    group = getattr(models, str(torchgeo_list(spec)), None)
    return {} if group is None else dict(group.__members__)


def _torchvision_file(spec: BackboneSpec, entry: Any) -> WeightFile:
    """An entry of torchvision's, for red, green and blue in 0..1."""
    steps = entry.transforms()
    mean, sd = spec.normalisation or (steps.mean, steps.std)
    return _cached_file(entry, str(entry), of_pictures(mean, sd))


def _torchgeo_file(entry: Any) -> WeightFile:
    """An entry of torchgeo's: bands, scaling and citation are its own, tensors its file's."""
    starts = (name for start, name in _SENSORS.items() if entry.name.startswith(start))
    sensor = SENSORS.get(next(starts, ""))
    count = int(entry.meta["in_chans"])
    entry_bands = tuple(map(str, entry.meta.get("bands") or RGB))
    if len(entry_bands) != count:
        raise WeightsError(
            f"weights {entry}: needs {count} bands and names {len(entry_bands)}; choose other "
            "weights"
        )
    # a name that the sensor does not know (NDVI) stays as it is, without a wavelength
    bands = tuple((sensor and known_band(sensor, name)) or name for name in entry_bands)
    return _cached_file(entry, f"torchgeo:{entry}", _known(entry, sensor, bands))


def _known(entry: Any, sensor: Sensor | None, bands: tuple[str, ...]) -> Normalisation:
    """Mean and standard deviation in an entry's transforms, in units of the bands."""
    if entry.meta.get("dataset") == "SeCo Dataset":
        return _seco(bands)
    folded = fold_transforms(entry.transforms, len(bands))
    dataset = entry.meta.get("dataset", "") if folded else ""
    scales = [_scale(dataset, sensor, band) for band in bands]
    figures = folded or [(0.0, 1.0)] * len(bands)
    return Normalisation(
        bands,
        tuple(_wavelength(sensor, band) for band in bands),
        tuple(m * by + zero for (m, _), (by, zero, _) in zip(figures, scales, strict=True)),
        tuple(sd * by for (_, sd), (by, _, _) in zip(figures, scales, strict=True)),
        tuple(unit for _, _, unit in scales),
    )


def _seco(bands: Sequence[str]) -> Normalisation:
    """Mean and standard deviation of SeCo's authors, as reflectance."""
    sensor = SENSORS["sentinel2_l1c"]
    ends = [_SECO_QUANTILES[band] for band in bands]
    given = list(zip(ends, IMAGENET.mean, IMAGENET.sd, strict=True))
    measured: WeightUnit = "reflectance"
    return Normalisation(
        tuple(bands),
        sensor.wavelengths(bands),
        tuple((low + mean * (high - low)) / 255 for (low, high), mean, _ in given),
        tuple(sd * (high - low) / 255 for (low, high), _, sd in given),
        (measured,) * len(bands),
    )


def _wavelength(sensor: Sensor | None, name: str) -> float | None:
    return sensor.band(name).wavelength_nm if sensor and known_band(sensor, name) else None


def _scale(dataset: str, sensor: Sensor | None, band: str) -> tuple[float, float, WeightUnit]:
    """Scale and offset of the numbers that weights saw in a band, and what they then measure."""
    if dataset == _BACKSCATTER[0] and band in _BACKSCATTER[1]:
        return 1.0, 0.0, "decibel"
    if sensor is None or known_band(sensor, band) is None:
        return 1.0, 0.0, "unknown"
    level, unit = sensor.name.rpartition("_")[2], sensor.unit(band)
    if dataset == "SatlasPretrain" and band in _TRUE_COLOUR:
        unit = "share"
    scale = _SCALES.get((dataset, level, unit))
    return (*scale, unit) if scale else (1.0, 0.0, "unknown")


def fold_transforms(transforms: nn.Module, count: int) -> list[tuple[float, float]] | None:
    """The (mean, sd) of each band that equals a chain of normalising steps.

    Resizing and cropping change no value and are passed over; a step of another kind makes it
    None.

    >>> from torchvision.transforms import v2
    >>> steps = nn.Sequential(v2.Normalize([10.0], [2.0]), v2.Normalize([0.5, 1.0], [4.0, 5.0]))
    >>> fold_transforms(steps, 2)
    [(11.0, 8.0), (12.0, 10.0)]
    """
    mean, sd = np.zeros(count), np.ones(count)
    for step in transforms if isinstance(transforms, nn.Sequential) else [transforms]:
        kind = type(step).__name__
        if kind == "Normalize":  # ((x - mean) / sd - m) / s = (x - (mean + sd m)) / (sd s)
            mean = mean + sd * np.asarray(step.mean, float)
            sd = sd * np.asarray(step.std, float)
        elif kind not in _VALUES_KEPT:
            return None
    return list(zip(mean.tolist(), sd.tolist(), strict=True))


def _cached_file(entry: Any, source: str, normalisation: Normalisation) -> WeightFile:
    """An entry's file, fetched into the hub's cache by the library's own loader if need be.

    Raises:
        WeightsError: it cannot be had, or is damaged.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:
        state = entry.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (URLError, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"weights {source}: not in the cache and not to be had from {entry.url} ({error}); "
            f"put the file at {path}, or give a local .pth or .safetensors file"
        ) from error
    except Exception as error:  # damaged pickles raise errors of every kind; none may pass
        raise refusal(path, error) from error
    digest, notes = sha256_of(path), _credit(entry.meta)
    published = re.search(r"-([0-9a-f]{8})\.", path.name)
    if published is not None and not digest.startswith(published.group(1)):
        notes = (*notes, msg("{file} is not the file published under that name", file=path.name))
    return WeightFile(
        source,
        digest,
        tensors_of(path, state),
        bands=normalisation.bands,
        wavelengths=normalisation.wavelengths,
        normalisation=normalisation,
        notes=notes,
    )


def _credit(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """A note on an entry's data, paper and licence.

    >>> _credit({"dataset": "SSL4EO-S12", "publication": "https://arxiv.org/abs/2211.07044"})
    ('weights: dataset SSL4EO-S12, publication https://arxiv.org/abs/2211.07044',)
    """
    keys = ("dataset", "ssl_method", "publication", "repo", "license")
    credits_given = [f"{key} {meta[key]}" for key in keys if meta.get(key)]
    return (msg("weights: {names}", names=", ".join(credits_given)),) if credits_given else ()
