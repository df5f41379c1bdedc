"""Every backbone by name: families of networks, their ordered stages, and how one is built."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import nn
from torchvision.models.googlenet import InceptionAux as GoogLeNetAuxiliary
from torchvision.models.inception import InceptionAux as InceptionV3Auxiliary

from geotl.console import aligned
from geotl.errors import WeightsError
from geotl.models.backbone import (
    Auxiliary,
    Backbone,
    BackboneSpec,
    freeze,
    hold_batchnorm,
    parameter_groups,
    skeleton,
    stage_position,
    steady,
)
from geotl.models.backbone_names import check_backbone_name
from geotl.models.normalisation import of_pictures
from geotl.models.pretrained import is_published, published_file, torchgeo_names, torchvision_names
from geotl.models.swin import swin
from geotl.models.timm_networks import is_timm, timm_spec
from geotl.models.timm_weights import PRETRAINED, renamed, with_own_positions
from geotl.models.weight_loading import (
    RANDOM,
    FirstConv,
    InitialWeights,
    load_weights,
    random_report,
    silence_other_bands,
)
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

CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # what torchvision's transform_input comes to

GOOGLENET_PARTS = {
    "stem": ("conv1", "maxpool1", "conv2", "conv3", "maxpool2"),
    "inception3": ("inception3a", "inception3b"),
    "inception4a": ("maxpool3", "inception4a"),
    "inception4b_d": ("inception4b", "inception4c", "inception4d"),
    "inception4e": ("inception4e",),
    "inception5": ("maxpool4", "inception5a", "inception5b"),
}
INCEPTION_PARTS = {
    "stem": (
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
        "maxpool1",
        "Conv2d_3b_1x1",
        "Conv2d_4a_3x3",
        "maxpool2",
    ),
    "mixed5": ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    "mixed6": ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    "mixed7": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
ALEXNET_LAYERS = {"conv1": 3, "conv2": 6, "conv3": 8, "conv4": 10, "conv5": 13}
SQUEEZENET_LAYERS = {"stem": 3, "fire2_3": 5, "fire4_5": 8, "fire6_7": 11, "fire8_9": 13}
_NARROW, _WIDE = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)


def _grouped(network: nn.Module, parts: Mapping[str, Sequence[str]]) -> dict[str, nn.Sequential]:
    """Stages of a network's parts, each called as the network calls it."""
    return {
        stage: nn.Sequential(OrderedDict((part, getattr(network, part)) for part in names))
        for stage, names in parts.items()
    }


def _layered(network: Any, ends: Mapping[str, int]) -> dict[str, nn.Sequential]:
    """Stages of `features`, each up to (not with) a layer's number; numbers stay torchvision's."""
    layers = list(network.features.named_children())
    starts = [0, *ends.values()]
    return {
        stage: nn.Sequential(OrderedDict(layers[start:end]))
        for (stage, end), start in zip(ends.items(), starts, strict=False)
    }


def _resnet_stages(name: str) -> dict[str, nn.Sequential]:
    network = steady(torchvision.models.get_model(name, weights=None))
    stem = _grouped(network, {"stem": ("conv1", "bn1", "relu", "maxpool")})
    return stem | {f"layer{i}": getattr(network, f"layer{i}") for i in range(1, 5)}


def _vgg_stages(name: str) -> dict[str, nn.Sequential]:
    """The five blocks, each up to its pooling."""
    network: Any = steady(torchvision.models.get_model(name, weights=None, init_weights=False))
    pools = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]
    return _layered(network, {f"block{n}": end + 1 for n, end in enumerate(pools, 1)})


def _inception_stages(name: str, parts: Mapping[str, Sequence[str]]) -> dict[str, nn.Sequential]:
    """GoogLeNet's or Inception v3's stages; their batch normalisation keeps its eps of 0.001."""
    network = torchvision.models.get_model(name, weights=None, init_weights=False, aux_logits=False)
    return _grouped(steady(network), parts)


def _feature_stages(name: str, ends: Mapping[str, int]) -> dict[str, nn.Sequential]:
    return _layered(torchvision.models.get_model(name, weights=None), ends)


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


def _googlenet_auxiliary(channels: int, num_classes: int) -> nn.Module:
    """Its pool is adaptive, so that maps of any size will do."""
    head: nn.Module = GoogLeNetAuxiliary(channels, num_classes)
    return head


def _inception_auxiliary(channels: int, num_classes: int) -> nn.Module:
    """Maps come to the 17x17 px it was made for: as they are from 299 px, repeated from fewer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(17), InceptionV3Auxiliary(channels, num_classes))


def _resnet(depth: int, widths: tuple[int, ...], parameters: int) -> BackboneSpec:
    name, strides = f"resnet{depth}", (4, 4, 8, 16, 32)
    return BackboneSpec(
        name,
        "resnet",
        f"ResNet-{depth} (He 2016)",
        ("stem", "layer1", "layer2", "layer3", "layer4"),
        channels=widths,
        strides=strides,
        least_px=strides,
        prefixes=("", "layer1.", "layer2.", "layer3.", "layer4."),
        head=("fc.",),
        parameters=parameters,
        weights=torchvision_names(name),
        build=partial(_resnet_stages, name),
    )


def _vgg(depth: int, normalised: bool, parameters: int) -> BackboneSpec:
    name, strides = f"vgg{depth}_bn" if normalised else f"vgg{depth}", (2, 4, 8, 16, 32)
    extra = ", batch-normalised" if normalised else ""
    return BackboneSpec(
        name,
        "vgg",
        f"VGG-{depth} (Simonyan 2015){extra}",
        tuple(f"block{i}" for i in range(1, 6)),
        channels=(64, 128, 256, 512, 512),
        strides=strides,
        least_px=strides,
        prefixes=("features.",) * 5,
        head=("classifier.",),
        parameters=parameters,
        weights=torchvision_names(name),
        build=partial(_vgg_stages, name),
    )


LENET5 = BackboneSpec(
    "lenet5",
    "lenet",
    "LeNet-5 (LeCun 1998, dense C3), all convolutional",
    ("c1", "c3", "c5", "f6"),
    channels=(6, 16, 120, 84),
    strides=(2, 4, 4, 4),
    least_px=(6, 16, 32, 32),
    prefixes=("c1.", "c3.", "c5.", "f6."),
    head=("output.",),
    parameters=61_706,
    weights=(),
    build=_lenet_stages,
)

ALEXNET = BackboneSpec(
    "alexnet",
    "alexnet",
    "AlexNet (Krizhevsky 2012, 2014)",
    tuple(ALEXNET_LAYERS),
    channels=(64, 192, 384, 256, 256),
    strides=(8, 16, 16, 16, 32),
    least_px=(15, 31, 31, 31, 63),
    prefixes=("features.",) * 5,
    head=("classifier.",),
    parameters=61_100_840,
    weights=torchvision_names("alexnet"),
    build=partial(_feature_stages, "alexnet", ALEXNET_LAYERS),
)

SQUEEZENET = BackboneSpec(
    "squeezenet1_1",
    "squeezenet",
    "SqueezeNet 1.1 (Iandola 2016)",
    tuple(SQUEEZENET_LAYERS),
    channels=(64, 128, 256, 384, 512),
    strides=(4, 4, 8, 16, 16),
    least_px=(5, 5, 9, 17, 17),
    prefixes=("features.",) * 5,
    head=("classifier.",),
    parameters=1_235_496,
    weights=torchvision_names("squeezenet1_1"),
    build=partial(_feature_stages, "squeezenet1_1", SQUEEZENET_LAYERS),
)

GOOGLENET = BackboneSpec(
    "googlenet",
    "inception",
    "GoogLeNet (Szegedy 2015), batch-normalised",
    tuple(GOOGLENET_PARTS),
    channels=(192, 480, 512, 528, 832, 1024),
    strides=(8, 8, 16, 16, 16, 32),
    least_px=(7, 7, 15, 15, 15, 15),
    prefixes=("",) * 6,
    head=("fc.", "aux1.", "aux2."),
    parameters=6_624_904,
    weights=torchvision_names("googlenet"),
    build=partial(_inception_stages, "googlenet", GOOGLENET_PARTS),
    normalisation=CENTRED,
    auxiliary=(
        Auxiliary("inception4a", 0.3, partial(_googlenet_auxiliary, 512)),
        Auxiliary("inception4b_d", 0.3, partial(_googlenet_auxiliary, 528)),
    ),
)

INCEPTION_V3 = BackboneSpec(
    "inception_v3",
    "inception",
    "Inception v3 (Szegedy 2016)",
    tuple(INCEPTION_PARTS),
    channels=(192, 288, 768, 2048),
    strides=(8, 8, 16, 32),
    least_px=(27, 27, 43, 75),
    prefixes=("",) * 4,
    head=("fc.", "AuxLogits."),
    parameters=23_834_568,
    weights=torchvision_names("inception_v3"),
    build=partial(_inception_stages, "inception_v3", INCEPTION_PARTS),
    normalisation=CENTRED,
    auxiliary=(Auxiliary("mixed6", 0.4, partial(_inception_auxiliary, 768)),),
)

REGISTRY: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        LENET5,
        ALEXNET,
        _vgg(11, False, 132_863_336),
        _vgg(11, True, 132_868_840),
        _vgg(13, False, 133_047_848),
        _vgg(13, True, 133_053_736),
        _vgg(16, False, 138_357_544),
        _vgg(16, True, 138_365_992),
        _vgg(19, False, 143_667_240),
        _vgg(19, True, 143_678_248),
        GOOGLENET,
        INCEPTION_V3,
        _resnet(18, _NARROW, 11_689_512),
        _resnet(34, _NARROW, 21_797_672),
        _resnet(50, _WIDE, 25_557_032),
        _resnet(101, _WIDE, 44_549_160),
        _resnet(152, _WIDE, 60_192_808),
        SQUEEZENET,
        swin("t", "tiny", 96, 28_351_570),
        swin("b", "base", 128, 87_930_848),
    )
}


def get_backbone(name: str) -> BackboneSpec:
    """The entry of that name.

    A name that begins with `timm:` is one of timm's networks.

    Raises:
        ModelError: there is none.
    """
    if is_timm(name):
        return timm_spec(name)
    check_backbone_name(name)
    return REGISTRY[name]


def build_backbone(
    name: str,
    bands: Sequence[str],
    wavelengths: Sequence[float | None] | None = None,
    *,
    initial: InitialWeights = RANDOM,
    cut_after: str | None = None,
    seed: int = 0,
) -> tuple[Backbone, WeightReport]:
    """Build a backbone for these bands and load its weights.

    Args:
        name: a key of REGISTRY, or timm:NAME.
        bands: names of the input bands, in order.
        wavelengths: central wavelengths in nm, None where there is none.
        initial: the weights it begins with; random ones unless given.
        cut_after: the last remaining stage; None for all.
        seed: seed of everything random here; the global generators are not changed.

    Raises:
        ModelError: unknown backbone or stage.
        BandError: bands that do not fit.
        WeightsError: weights that do not fit; every tensor missing from the file must lie in a
            stage that is cut away or named in `initial.fresh`.
    """
    spec = get_backbone(name)
    nm = tuple(wavelengths) if wavelengths is not None else (None,) * len(bands)
    backbone = Backbone(spec, bands, nm, cut_after=cut_after, seed=seed)
    for stage in initial.fresh:
        stage_position(spec.stages, stage)
    if initial.source == "none":
        if initial.first_conv == "rgb_only":
            silence_other_bands(backbone)
        return backbone, random_report(backbone, spec)
    source = _read_source(spec, initial.source)
    if initial.sha256 is not None and initial.sha256.lower() != source.sha256:
        raise WeightsError(
            f"{source.source}: sha256 is {source.sha256}, not {initial.sha256}; another file, or "
            "damaged: fetch it again or correct model.sha256"
        )
    report = load_weights(
        backbone,
        spec,
        source,
        first_conv=initial.first_conv,
        fresh=initial.fresh,
        others=tuple(REGISTRY.values()),
    )
    return backbone, report


def _read_source(spec: BackboneSpec, weights: str) -> WeightFile:
    """A weight file under torchvision's tensor names, from its name or path.

    Raises:
        WeightsError: it cannot be had, or is of another architecture.
    """
    if is_published(weights):
        return with_own_positions(spec, published_file(spec, weights))
    source = read_weight_file(Path(weights))
    if source.backbone is None:
        published = spec.normalisation
        with_normalisation = (
            source if published is None else replace(source, normalisation=of_pictures(*published))
        )
        return with_own_positions(spec, renamed(spec, with_normalisation))
    if source.backbone != spec.name:
        raise WeightsError(
            f"{weights}: a geotl model with another architecture, {source.backbone}, not "
            f"{spec.name}; set model.backbone to {source.backbone} or give another file"
        )
    names = {name: tensor for name, tensor, _, _ in skeleton(spec)}
    tensors = {names.get(name, name): value for name, value in source.tensors.items()}
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
        *aligned(rows, left=(0,)),
    ]
    if spec.auxiliary:
        places = " and ".join(entry.stage for entry in spec.auxiliary)
        lines.append(f"auxiliary classifiers on {places} while these are trained")
    if spec.multiple_px > 1:
        lines.append(f"tiles are squares with a side that is a multiple of {spec.multiple_px} px")
    if spec.read:
        lines.append(f"read unless model.feature_stages names others: {', '.join(spec.read)}")
    default = (PRETRAINED,) if spec.family == "timm" and spec.weights else ()
    weight_names = ("none", *default, *spec.weights, *torchgeo_names(spec))
    lines.append(f"weights: {', '.join(weight_names)}, or a .pth or .safetensors file")
    return "\n".join(lines)


def _all_backbones() -> str:
    rows = [("name", "parameters", "least px", "title", "stages")]
    rows += [
        (s.name, f"{s.parameters:,}", str(s.min_px), s.title, " ".join(s.stages))
        for s in REGISTRY.values()
    ]
    lines = aligned(rows, left=(0, 3, 4))
    all_words = (
        "parameters are counted with the stock head, in place of which a linear one on pooled "
        "features is trained;\ngeotl backbones NAME shows stages, sizes and weights, also of "
        "timm:NAME for one of timm's networks"
    )
    return "\n".join([*lines, all_words])


def _parameters_by_stage(name: str) -> dict[str, int]:
    """Parameters of each stage at its stock number of bands."""
    with torch.device("meta"):
        stages = get_backbone(name).build()
    return {stage: sum(p.numel() for p in m.parameters()) for stage, m in stages.items()}
