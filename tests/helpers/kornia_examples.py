"""An example of each of Kornia's augmentations, and the tables of docs/KORNIA.md made from them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from geotl.errors import DataError
from geotl.training.kornia_names import accepted, refused
from geotl.training.kornia_steps import check_steps

NEEDED = {  # arguments that Kornia has no default for, or whose default changes nothing
    "ColorJiggle": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "ColorJitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "RandomAffine": {"degrees": 20.0, "translate": [0.1, 0.1]},
    "RandomBrightness": {"brightness": [0.7, 0.9]},
    "RandomContrast": {"contrast": [0.7, 0.9]},
    "RandomCrop": {"padding": 4},
    "RandomElasticTransform": {"alpha": [4.0, 4.0], "sigma": [8.0, 8.0]},
    "RandomFisheye": {"center_x": [-0.3, 0.3], "center_y": [-0.3, 0.3], "gamma": [0.9, 1.0]},
    "RandomGamma": {"gamma": [0.5, 0.8]},
    "RandomGaussianBlur": {"kernel_size": [5, 5], "sigma": [1.0, 2.0]},
    "RandomGaussianNoise": {"std": 0.1},
    "RandomHue": {"hue": [0.1, 0.3]},
    "RandomMotionBlur": {"kernel_size": 5, "angle": 35.0, "direction": 0.5},
    "RandomRain": {"number_of_drops": [20, 30], "drop_height": [3, 5], "drop_width": [-2, 2]},
    "RandomRotation": {"degrees": [10.0, 20.0]},
    "RandomRotation90": {"times": [1, 3]},
    "RandomSaturation": {"saturation": [0.3, 0.6]},
    "RandomShear": {"shear": [5.0, 10.0]},
    "RandomTranslate": {"translate_x": [0.1, 0.2], "translate_y": [0.1, 0.2]},
}
RGB = {  # take three bands alone
    "ColorJiggle",
    "ColorJitter",
    "RandomHue",
    "RandomJPEG",
    "RandomPlanckianJitter",
    "RandomRGBShift",
    "RandomSaturation",
    "RandomSnow",
}
ONE_OR_THREE = {"RandomRain", "RandomSaltAndPepperNoise"}
SEVERAL = {"RandomChannelDropout"}  # do not take a single band

BEHAVIOUR = {
    "moves": "moves pixels; validity moves with them",
    "changes": "changes values; validity stays",
    "erases": "makes pixels invalid",
}


def takes(name: str, bands: int) -> bool:
    """Whether an augmentation takes tiles of so many bands, as the lists above have it."""
    if name in RGB:
        return bands == 3
    if name in ONE_OR_THREE:
        return bands in (1, 3)
    return bands > 1 or name not in SEVERAL


def _bands(name: str) -> str:
    """What an augmentation takes when it is tried."""

    def works(bands: int) -> bool:
        try:
            check_steps([{name: NEEDED.get(name, {})}], bands, (32, 32))
        except DataError:
            return False
        return True

    taken = tuple(bands for bands in (1, 2, 3, 10) if works(bands))
    words = {(1, 2, 3, 10): "any", (2, 3, 10): "2 or more", (1, 3): "1 or 3", (3,): "3"}
    return words[taken]


def accepted_table() -> Iterator[str]:
    """A row for each augmentation: what it does, the bands it takes, an example."""
    yield "| name | what it does | bands | example |"
    yield "|---|---|---|---|"
    for name, kind in accepted().items():
        given = ", ".join(f"{k}: {json.dumps(v)}" for k, v in NEEDED.get(name, {}).items())
        example = f"`{{{name}: {{{given}}}}}`" if given else f"`{name}`"
        yield f"| {name} | {BEHAVIOUR[kind.behaviour]} | {_bands(name)} | {example} |"


def refused_table() -> Iterator[str]:
    """A row for each reason, with the names that it refuses."""
    reasons: dict[str, list[str]] = {}
    for name, reason in refused().items():
        reasons.setdefault(reason, []).append(name)
    yield "| refused, because | names |"
    yield "|---|---|"
    for reason, names in reasons.items():
        yield f"| {reason} | {', '.join(names)} |"
