"""The backbones on offer, built for any bands and filled from weights.

The only module that imports torchvision.models. Tensors are called as torchvision calls them in
weight files, and `stages.<stage>.…` in the network itself. What a backbone is, and how it is
frozen, stands in `stages`; it is offered from here as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torchvision.models
from torch import nn

from geotl.errors import ModelError, WeightsError, nearest
from geotl.fitting import FirstConv, load_weights, random_report, silence_other_bands
from geotl.published import is_published, published_file, torchgeo_names, torchvision_names
from geotl.stages import (
    Backbone,
    BackboneSpec,
    SteadyBatchNorm2d,
    freeze,
    hold_batchnorm,
    parameter_groups,
    skeleton,
    stage_position,
)
from geotl.weights import WeightFile, WeightReport, read_weight_file

__all__ = [
    "REGISTRY",
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


def _resnet_stages(name: str) -> dict[str, nn.Sequential]:
    network = torchvision.models.get_model(name, weights=None, norm_layer=SteadyBatchNorm2d)
    parts = ("conv1", "bn1", "relu", "maxpool")
    stem = nn.Sequential(OrderedDict((part, getattr(network, part)) for part in parts))
    return {"stem": stem} | {f"layer{i}": getattr(network, f"layer{i}") for i in range(1, 5)}


def _vgg_stages(name: str) -> dict[str, nn.Sequential]:
    """The five blocks, each up to its pooling, its layers numbered as torchvision does."""
    network = torchvision.models.get_model(name, weights=None, init_weights=False)
    blocks: dict[str, nn.Sequential] = {}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, layer in network.features.named_children():
        plain = isinstance(layer, nn.BatchNorm2d)
        layers[number] = SteadyBatchNorm2d(layer.num_features) if plain else layer
        if isinstance(layer, nn.MaxPool2d):
            blocks[f"block{len(blocks) + 1}"] = nn.Sequential(layers)
            layers = OrderedDict()
    return blocks


def _lenet_stages() -> dict[str, nn.Sequential]:
    """LeNet-5 with a dense C3, all convolutional; activation after average pooling."""

    def stage(into: int, out: int, kernel: int, pool: bool) -> nn.Sequential:
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(into, out, kernel))
        if pool:
            layers["pool"] = nn.AvgPool2d(2)
        layers["tanh"] = nn.Tanh()
        return nn.Sequential(layers)

    return {
        "c1": stage(1, 6, 5, True),
        "c3": stage(6, 16, 5, True),
        "c5": stage(16, 120, 5, False),
        "f6": stage(120, 84, 1, False),
    }


def _resnet(name: str, title: str, widths: tuple[int, ...], parameters: int) -> BackboneSpec:
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    strides = (4, 4, 8, 16, 32)
    return BackboneSpec(
        name, "resnet", title, stages, channels=widths, strides=strides, least_px=strides,
        prefixes=("", "layer1.", "layer2.", "layer3.", "layer4."), head=("fc.",),
        parameters=parameters, weights=torchvision_names(name), build=partial(_resnet_stages, name),
    )  # fmt: skip


def _vgg(name: str, title: str, parameters: int) -> BackboneSpec:
    strides = (2, 4, 8, 16, 32)
    return BackboneSpec(
        name, "vgg", title, tuple(f"block{i}" for i in range(1, 6)),
        channels=(64, 128, 256, 512, 512), strides=strides, least_px=strides,
        prefixes=("features.",) * 5, head=("classifier.",),
        parameters=parameters, weights=torchvision_names(name), build=partial(_vgg_stages, name),
    )  # fmt: skip


def _lenet(name: str, title: str, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name, "lenet", title, ("c1", "c3", "c5", "f6"),
        channels=(6, 16, 120, 84), strides=(2, 4, 4, 4), least_px=(6, 16, 32, 32),
        prefixes=("c1.", "c3.", "c5.", "f6."), head=("output.",),
        parameters=parameters, weights=(), build=_lenet_stages,
    )  # fmt: skip


REGISTRY: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        _resnet("resnet18", "ResNet-18 (He 2016)", (64, 64, 128, 256, 512), 11_689_512),
        _resnet("resnet34", "ResNet-34 (He 2016)", (64, 64, 128, 256, 512), 21_797_672),
        _resnet("resnet50", "ResNet-50 (He 2016)", (64, 256, 512, 1024, 2048), 25_557_032),
        _vgg("vgg16", "VGG-16 (Simonyan 2015), pooled head", 138_357_544),
        _vgg("vgg16_bn", "VGG-16 with batch normalisation, pooled head", 138_365_992),
        _lenet("lenet5", "LeNet-5 (LeCun 1998, dense C3), all convolutional", 61_706),
    )
}


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
            kernels, "rgb_only" keeps red's, green's and blue's and gives other bands none,
            "random" starts afresh.
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
        return source
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
    lines = [
        f"{spec.name}: {spec.title}",
        f"{spec.parameters:,} parameters with its stock head; tiles of at least {spec.min_px} px",
        f"{'stage':<7}{'channels':>8}  stride  least px  parameters",
    ]
    for stage, width, stride, least in zip(
        spec.stages, spec.channels, spec.strides, spec.least_px, strict=True
    ):
        lines.append(f"{stage:<7}{width:>8}{stride:>8}{least:>10}{counts[stage]:>12,}")
    known = ("none", *spec.weights, *torchgeo_names(spec))
    lines.append(f"weights: {', '.join(known)}, or a .pth or .safetensors file")
    return "\n".join(lines)


def _all_backbones() -> str:
    lines = [f"{'name':<10}{'parameters':>12}  {'stages':<34}  title"]
    for spec in REGISTRY.values():
        stages = " ".join(spec.stages)
        lines.append(f"{spec.name:<10}{spec.parameters:>12,}  {stages:<34}  {spec.title}")
    return "\n".join([*lines, "geotl backbones NAME shows stages, sizes and weights"])


def _parameters_by_stage(name: str) -> dict[str, int]:
    """Parameters of each stage at its stock number of bands."""
    with torch.device("meta"):
        stages = REGISTRY[name].build()
    return {stage: sum(p.numel() for p in m.parameters()) for stage, m in stages.items()}
