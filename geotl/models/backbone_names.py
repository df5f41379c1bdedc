"""The names of the backbones, which can be checked without importing a network's library."""

from __future__ import annotations

from geotl.errors import ModelError, nearest

TIMM_PREFIX = "timm:"
NAMES = (
    "lenet5",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "squeezenet1_1",
    "swin_v2_t",
    "swin_v2_b",
)


def check_backbone_name(name: str) -> None:
    """Make sure that a backbone has this name; names of timm's networks are not looked up.

    Raises:
        ModelError: there is none; the message names the nearest.

    >>> check_backbone_name("resnet18")
    >>> check_backbone_name("resnet81")
    Traceback (most recent call last):
    ...
    geotl.errors.ModelError: backbone 'resnet81' is not known; did you mean 'resnet18'? timm's \
networks are named timm:NAME
    """
    if not name.startswith(TIMM_PREFIX) and name not in NAMES:
        raise ModelError(
            f"backbone {name!r} is not known; "
            + nearest(name, NAMES, "timm's networks are named timm:NAME")
        )
