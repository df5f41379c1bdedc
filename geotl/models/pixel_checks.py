"""Whether the header and the arrays of a pixel model's file go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotl.models.contract_checks import (
    check_above_zero,
    check_labels,
    check_notes,
    check_plain,
    check_shape,
    demand,
)
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_model import LinearMember, PixelModel
from geotl.models.tensor_file import Arrays, check_finite

MAX_WINDOW_PX = 1023


@dataclass(frozen=True)
class _Part:
    """The fields of a member, or of a network, in a header."""

    kind: str | None = None
    backbone: str | None = None
    blocks: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    composites: tuple[tuple[int, ...], ...] = ()


def check_header(header: Mapping[str, Any]) -> None:
    """Check that the header of a file of pixels is possible.

    Raises:
        KeyError: something is missing.
        ValueError: something cannot be.
    """
    contract, features, members = header["contract"], header["features"], header["members"]
    check_features(features)
    check_notes(header["notes"])
    bands = [*contract["bands"], *contract.get("extra_bands", ())]
    demand(list(features["bands"]) == bands, "features.bands are not those of the contract")
    networks = {name: header.get(name) for name in ("network", "decoder")}
    for name, one in {**members, **networks}.items():
        check_plain(_Part | None, one, name)
    taken = [i for each in (networks["network"] or {}).get("composites", ()) for i in each]
    demand(all(0 <= i < len(contract["bands"]) for i in taken), "composites of bands not there")
    for what in ("temperatures", "weights"):
        check_plain(tuple[float, ...], [header[what][name] for name in members], what)
        demand(header[what].keys() == members.keys(), f"{what} name other members")
    check_above_zero("temperatures", list(header["temperatures"].values()))
    shares = [*header["weights"].values()]
    demand(min(shares) >= 0 < sum(shares), "weights are negative, or all 0")


def check_features(features: Any) -> None:
    """Check that plain values define the features of pixels.

    Raises:
        ValueError: they do not.
    """
    check_plain(PixelFeatures, features, "features")
    bands = len(features["bands"])
    for name in ("wavelengths", "mean", "sd"):
        demand(len(features[name]) == bands, f"features.{name} are not {bands}, one for each band")
    check_above_zero("features.sd", features["sd"])
    demand(0 <= features.get("extra", 0) < bands, "features.extra; allowed: fewer than bands")
    wide = max(features.get("windows_px", ()), default=1)
    demand(wide <= MAX_WINDOW_PX, f"a window of {wide} px; allowed: up to {MAX_WINDOW_PX}")


def check_tensors(tensors: Arrays, classes: int) -> None:
    """Make sure that a file's arrays go together.

    Raises:
        KeyError: some are not there.
        ValueError: they do not, or hold numbers that no model has.
    """
    check_finite({k: v for k, v in tensors.items() if k != "training.places"})
    rows = len(tensors["training.features"])
    check_shape(tensors, "training.features", (rows, None))
    check_shape(tensors, "training.labels", (rows,))
    check_shape(tensors, "training.folds", (rows,))
    check_shape(tensors, "training.places", (rows, 2))
    check_shape(tensors, "log_priors", (classes,))
    check_labels(tensors["training.labels"], classes)


def check_members(model: PixelModel) -> None:
    """Check that each member uses existing features, and predicts all classes.

    Raises:
        KeyError: a block of features that the model does not have.
        ValueError: arrays of another shape.
    """
    widths = {block: len(names) for block, names in model.names.items()}
    for name, member in model.members.items():
        width, classes = sum(widths[block] for block in member.blocks), len(model.classes)
        arrays = vars(member)
        if isinstance(member, LinearMember):
            check_shape(arrays, "weight", (classes, width))
            check_shape(arrays, "bias", (classes,))
            continue
        check_shape(arrays, "shares", (len(arrays["feature"]), classes))
        demand(bool(arrays["feature"].max() < width), f"{name} splits features that do not exist")
        demand(bool(arrays["shares"].min() >= 0), f"{name} has shares below 0")
