"""The families of backbones: how torchvision's networks are cut into ordered stages.

With `backbones` the only module that imports torchvision.models. Each stage's smallest tile
follows from the sizes of its convolutions and pools without padding, and is proved by a test.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torchvision.models
from torch import nn
from torchvision.models.googlenet import InceptionAux as GoogLeNetAuxiliary
from torchvision.models.inception import InceptionAux as InceptionV3Auxiliary

from geotl.models.backbone import Auxiliary, BackboneSpec, SteadyBatchNorm2d
from geotl.models.pretrained import torchvision_names

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


def steady(module: nn.Module) -> nn.Module:
    """Put `SteadyBatchNorm2d` in the place of every batch normalisation, its settings kept."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            own = SteadyBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            setattr(module, name, own)
        else:
            steady(child)
    return module


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


_NARROW, _WIDE = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)

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
    )
}
