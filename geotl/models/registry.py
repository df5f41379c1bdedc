"""The backbones on offer, built for any bands and filled from weights.

With `families` the only module that imports torchvision.models. Tensors are called as
torchvision calls them in weight files, and `stages.<stage>.…` in the network itself. What a
backbone is, and how it is frozen, stands in `stages`; it is offered from here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from geotl.errors import ModelError, WeightsError, nearest
from geotl.models.backbone import (
    Auxiliary,
    Backbone,
    BackboneSpec,
    freeze,
    hold_batchnorm,
    parameter_groups,
    skeleton,
    stage_position,
)
from geotl.models.families import REGISTRY
from geotl.models.normalisation import of_pictures
from geotl.models.pretrained import is_published, published_file, torchgeo_names
from geotl.models.weight_loading import FirstConv, load_weights, random_report, silence_other_bands
from geotl.models.weights import WeightFile, WeightReport, read_weight_file

__all__ = [
    "REGISTRY",
    "Auxiliary",
    "Backbone",
    "BackboneSpec",
    "FirstConv",
    "WeightReport",
    "build_backbone",
    "describe_backbone",
    "freeze",
    "get_backbone",
    "hold_batchnorm",
    "parameter_groups",
]


def get_backbone(name: str) -> BackboneSpec:
    """The entry of that name.

    Raises:
        ModelError: there is none.
    """
    if name not in REGISTRY:
        raise ModelError(f"backbone {name!r} is not known; {nearest(name, REGISTRY)}")
    return REGISTRY[name]


def build_backbone(
    name: str,
    bands: Sequence[str],
    wavelengths: Sequence[float | None] | None = None,
    *,
    weights: str = "none",
    cut_after: str | None = None,
    first_conv: FirstConv = "wavelength",
    fresh: Sequence[str] = (),
    sha256: str | None = None,
    seed: int = 0,
) -> tuple[Backbone, WeightReport]:
    """Build a backbone for these bands and load its weights.

    Args:
        name: a key of REGISTRY.
        bands: names of the input bands, in order.
        wavelengths: their centres in nm, None where there is none.
        weights: "none" (random), a torchvision name such as ResNet18_Weights.IMAGENET1K_V1
            or torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO (through the library's own loader
            and cache), or a .pth or .safetensors file.
        cut_after: the last stage kept; None keeps all.
        first_conv: how the first convolution meets the bands: "wavelength" mixes the file's
            kernels, "repeat" deals them out in turn, "mean" gives each band their mean, "zero"
            keeps red's, green's and blue's and starts other bands at zero, "rgb_only" keeps them
            and gives other bands no part for good, "random" starts afresh.
        fresh: stages that start at random whatever the file holds for them.
        sha256: the digest the file must have.
        seed: of everything random here; the global generators are left alone.

    Raises:
        ModelError: unknown backbone or stage.
        BandError: bands that do not fit.
        WeightsError: weights that do not fit; every tensor missing from the file must lie in a
            stage that is cut away or named in `fresh`.
    """
    spec = get_backbone(name)
    nm = tuple(wavelengths) if wavelengths is not None else (None,) * len(bands)
    backbone = Backbone(spec, bands, nm, cut_after=cut_after, seed=seed)
    for stage in fresh:
        stage_position(spec.stages, stage)
    if weights == "none":
        if first_conv == "rgb_only":
            silence_other_bands(backbone)
        return backbone, random_report(backbone, spec)
    source = _read_source(spec, weights)
    if sha256 is not None and sha256.lower() != source.sha256:
        raise WeightsError(
            f"{source.source}: sha256 is {source.sha256}, not {sha256}; another file, or damaged: "
            "fetch it again or correct model.sha256"
        )
    report = load_weights(
        backbone, spec, source, first_conv=first_conv, fresh=fresh, others=tuple(REGISTRY.values())
    )
    return backbone, report


def _read_source(spec: BackboneSpec, weights: str) -> WeightFile:
    """A weight file under torchvision's tensor names, from its name or path.

    Raises:
        WeightsError: it cannot be had, or is of another architecture.
    """
    if is_published(weights):
        return published_file(spec, weights)
    source = read_weight_file(Path(weights))
    if source.backbone is None:
        own = spec.normalisation
        return source if own is None else replace(source, normalisation=of_pictures(*own))
    if source.backbone != spec.name:
        raise WeightsError(
            f"{weights}: a geotl model with another architecture, {source.backbone}, not "
            f"{spec.name}; set model.backbone to {source.backbone} or give another file"
        )
    names = {own: tensor for own, tensor, _, _ in skeleton(spec)}
    tensors = {names.get(own, own): held for own, held in source.tensors.items()}
    return replace(source, tensors=tensors)


def describe_backbone(name: str | None = None) -> str:
    """A printable table: of one backbone's stages, or (None) of all backbones.

    Raises:
        ModelError: no backbone of that name.

    >>> print(describe_backbone("lenet5"))
    lenet5: LeNet-5 (LeCun 1998, dense C3), all convolutional
    61,706 parameters with its stock head; tiles of at least 32 px
    stage  channels  stride  least px  parameters
    c1            6       2         6         156
    c3           16       4        16       2,416
    c5          120       4        32      48,120
    f6           84       4        32      10,164
    weights: none, or a .pth or .safetensors file
    """
    if name is None:
        return _all_backbones()
    spec = get_backbone(name)
    counts = _parameters_by_stage(name)
    rows = [("stage", "channels", "stride", "least px", "parameters")]
    rows += [
        (stage, str(width), str(stride), str(least), f"{counts[stage]:,}")
        for stage, width, stride, least in zip(
            spec.stages, spec.channels, spec.strides, spec.least_px, strict=True
        )
    ]
    lines = [
        f"{spec.name}: {spec.title}",
        f"{spec.parameters:,} parameters with its stock head; tiles of at least {spec.min_px} px",
        *_aligned(rows, left=(0,)),
    ]
    if spec.auxiliary:
        places = " and ".join(entry.stage for entry in spec.auxiliary)
        lines.append(f"auxiliary classifiers on {places} while these are trained")
    known = ("none", *spec.weights, *torchgeo_names(spec))
    lines.append(f"weights: {', '.join(known)}, or a .pth or .safetensors file")
    return "\n".join(lines)


def _all_backbones() -> str:
    rows = [("name", "parameters", "least px", "title", "stages")]
    rows += [
        (s.name, f"{s.parameters:,}", str(s.min_px), s.title, " ".join(s.stages))
        for s in REGISTRY.values()
    ]
    lines = _aligned(rows, left=(0, 3, 4))
    told = (
        "parameters are counted with the stock head, in place of which a linear one on pooled "
        "features is trained;\ngeotl backbones NAME shows stages, sizes and weights"
    )
    return "\n".join([*lines, told])


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Rows of cells as lines of columns; those in `left` start flush, the others end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _parameters_by_stage(name: str) -> dict[str, int]:
    """Parameters of each stage at its stock number of bands."""
    with torch.device("meta"):
        stages = REGISTRY[name].build()
    return {stage: sum(p.numel() for p in m.parameters()) for stage, m in stages.items()}
