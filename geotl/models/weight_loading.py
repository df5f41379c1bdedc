"""Filling a backbone from a weight file, and saying what became of every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from geotl.errors import WeightsError
from geotl.language import msg
from geotl.models.backbone import Backbone, BackboneSpec, first_conv_of, silence_bands, skeleton
from geotl.models.first_conv import (
    RGB,
    RGB_NM,
    Bands,
    describe_mix,
    mean_matrix,
    mix_kernels,
    mixing_matrix,
    repetition_matrix,
    rgb_only_matrix,
    rgb_positions,
    same_bands,
)
from geotl.models.weights import (
    Slot,
    Status,
    TensorRow,
    WeightFile,
    WeightReport,
    check_values,
    is_folded,
    lacking,
    table_rows,
)

FirstConv = Literal["wavelength", "repeat", "mean", "zero", "rgb_only", "random"]
NEVER_FROZEN = msg("so its stage cannot be frozen in fine-tuning")


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a backbone begins with, and how they meet its bands and stages.

    Attributes:
        source: "none" (random), a torchvision name such as ResNet18_Weights.IMAGENET1K_V1
            or torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO, "pretrained" or timm:NAME.TAG (all
            through the library's own loader and cache), or a .pth or .safetensors file.
        first_conv: adaptation of the first convolution to the bands: "wavelength" mixes the file's
            kernels, "repeat" deals them out in turn, "mean" gives each band their mean, "zero"
            keeps red's, green's and blue's and starts other bands at zero, "rgb_only" keeps them
            and gives other bands no part for good, "random" starts at random.
        fresh: stages that start at random whatever the file has for them.
        sha256: the digest the file must have; None for any.
    """

    source: str = "none"
    first_conv: FirstConv = "wavelength"
    fresh: Sequence[str] = ()
    sha256: str | None = None


RANDOM = InitialWeights()


def random_report(backbone: Backbone, spec: BackboneSpec) -> WeightReport:
    """The table of a backbone that was given no weights."""
    state = backbone.state_dict()
    rows = tuple(
        TensorRow(tensor, "fresh", None, tuple(state[name].shape), stage)
        for name, tensor, stage, _ in skeleton(spec)
        if name in state
    )
    return WeightReport("none", None, rows, notes=(msg("all weights start at random"),))


def _slots(spec: BackboneSpec, stages: Sequence[str], fresh: Sequence[str]) -> tuple[Slot, ...]:
    def fate(stage: str) -> Literal["load", "fresh", "cut"]:
        return "cut" if stage not in stages else "fresh" if stage in fresh else "load"

    return tuple(
        Slot(tensor, stage, shape, fate(stage), any_bands=place == 0)
        for place, (_, tensor, stage, shape) in enumerate(skeleton(spec))
    )


def load_weights(
    backbone: Backbone,
    spec: BackboneSpec,
    source: WeightFile,
    *,
    first_conv: FirstConv,
    fresh: Sequence[str],
    others: Sequence[BackboneSpec],
) -> WeightReport:
    """Copy what fits into the backbone, and report the fate of every tensor.

    Args:
        backbone: filled in place; its random stages are noted on it.
        spec: entry of the backbone.
        source: tensors under the weight file's names.
        first_conv: see `InitialWeights`.
        fresh: stages that stay random.
        others: entries to search for the network that a misfit belongs to.

    Raises:
        WeightsError: another architecture, or a kept stage lacks tensors.
        BandError: `rgb_only` or `zero` without red, green and blue.
    """
    slots = _slots(spec, backbone.stage_names, fresh)
    table, faults = table_rows(source, slots, spec.head)
    if faults or lacking(table, slots) or not _anything(table, slots):
        raise _misfit(spec, source, table, slots, faults, others=others)
    rows, notes = list(table), list(source.notes)
    names = [row.tensor for row in rows if row.status == "loaded"]
    check_values(source, names)
    kernels = None
    if rows[0].status == "loaded":
        rows[0], values, note = _first_row(backbone, source, rows[0], first_conv)
        names, notes = names[1:], notes + note
        kernels = None if values is None else (rows[0].tensor, values)
    _copy(backbone, spec, source, names, kernels)
    if first_conv == "rgb_only":
        silence_other_bands(backbone)
    starts_at_zero = first_conv == "zero" and rows[0].status == "adapted"
    to_learn = rows[0].status == "fresh" or (starts_at_zero and _other_bands(backbone))
    random = set(fresh) | ({spec.stages[0]} if to_learn else set())
    backbone.random_stages = frozenset(random & set(backbone.stage_names))
    folded = is_folded(source, names)
    if folded:
        notes.append(
            msg("batch normalisation is folded into the convolutions, so it is frozen in training")
        )
    rows += [TensorRow(name, "unused", None, None, None) for name in source.outside]
    return WeightReport(
        source.source,
        source.sha256,
        tuple(rows),
        source.normalisation,
        folded,
        tuple(notes),
        source.lineage,
    )


def _first_row(
    backbone: Backbone, source: WeightFile, row: TensorRow, first_conv: FirstConv
) -> tuple[TensorRow, Tensor | None, list[str]]:
    """The first kernels' line in the table, their values if not random, and a note."""
    shape = tuple(first_conv_of(backbone).weight.shape)
    if first_conv == "random":
        note = msg("first convolution: starts at random, {frozen}", frozen=NEVER_FROZEN)
        return replace(row, status="fresh", network_shape=shape), None, [note]
    values, note = _first_kernels(backbone, source, row.tensor, first_conv)
    status: Status = "adapted" if note else "loaded"
    return replace(row, status=status, network_shape=shape), values, [note] if note else []


def _copy(
    backbone: Backbone,
    spec: BackboneSpec,
    source: WeightFile,
    names: Sequence[str],
    kernels: tuple[str, Tensor] | None,
) -> None:
    """Copy the named tensors, and the first convolution's kernels under their own name."""
    own_names = {tensor: name for name, tensor, _, _ in skeleton(spec)}
    state = backbone.state_dict()
    values = [(name, source.tensors[name]) for name in names]
    for name, value in [*values, *([kernels] if kernels else [])]:
        state[own_names[name]].copy_(value)


def _first_kernels(
    backbone: Backbone, source: WeightFile, name: str, first_conv: FirstConv
) -> tuple[Tensor, str]:
    """The file's first kernels for the backbone's bands, and in words how they were made.

    Raises:
        WeightsError: the file does not state the bands of its kernels.
        BandError: `rgb_only` or `zero` without red, green and blue.
    """
    weight = source.tensors[name]
    there = _source_bands(source, weight.shape[1])
    here = (backbone.bands, backbone.wavelengths)
    matrix = _mixing(first_conv, there, here)
    if np.array_equal(matrix, np.eye(*matrix.shape)):
        return weight, ""
    mix = describe_mix(matrix, there[0], here[0])
    if first_conv == "zero" and _other_bands(backbone):
        mix = msg(
            "{mix}; bands that start at zero are used only once trained, {frozen}",
            mix=mix,
            frozen=NEVER_FROZEN,
        )
    note = msg("first convolution ({first_conv}): {mix}", first_conv=first_conv, mix=mix)
    return mix_kernels(weight, matrix), note


def _mixing(first_conv: FirstConv, there: Bands, here: Bands) -> np.ndarray:
    """Share of each of the file's kernels in each band, [bands, kernels]."""
    if first_conv in ("rgb_only", "zero"):
        return rgb_only_matrix(there, here)
    if first_conv == "repeat":
        return repetition_matrix(there, here)
    if first_conv == "mean":
        return mean_matrix(there, here)
    return mixing_matrix(there[1], here[1], same_bands(there, here))


def _source_bands(source: WeightFile, count: int) -> Bands:
    """Names and wavelengths of the bands that a file's first kernels are for."""
    if source.bands is not None and source.wavelengths is not None:
        if len(source.bands) == count:
            return source.bands, source.wavelengths
        raise WeightsError(
            f"{source.source}: its first convolution takes {count} bands, not the "
            f"{len(source.bands)} it is for ({', '.join(source.bands)}); fetch the file again"
        )
    if count == len(RGB):
        return RGB, RGB_NM
    if count == 1:
        return ("grey",), (None,)
    raise WeightsError(
        f"{source.source}: its first convolution takes {count} bands that the file does not name; "
        "set model.first_conv to random, or give a geotl model file, which names them"
    )


def _anything(rows: Sequence[TensorRow], slots: Sequence[Slot]) -> bool:
    """Whether the file gives anything that was requested."""
    wanted = any(slot.fate == "load" for slot in slots)
    return not wanted or any(row.status == "loaded" for row in rows)


def _misfit(
    spec: BackboneSpec,
    source: WeightFile,
    rows: Sequence[TensorRow],
    slots: Sequence[Slot],
    faults: Sequence[str],
    *,
    others: Sequence[BackboneSpec],
) -> WeightsError:
    """Error for a file of another architecture, or one that lacks tensors of a stage."""
    empty = lacking(rows, slots)
    foreign = bool(faults) or not _anything(rows, slots)
    likely = _likely([s for s in others if s.name != spec.name], source, complete=not foreign)
    if foreign or likely:
        why = faults[0] if faults else f"it lacks {len(empty)} tensors, such as {empty[0].tensor}"
        advice = f"set model.backbone to {likely}" if likely else "set the backbone it was made for"
        return WeightsError(
            f"{source.source}: a file of another architecture, not {spec.name} ({why}); "
            f"{advice}, or give another file"
        )
    stages = list(dict.fromkeys(slot.stage for slot in empty))
    before = spec.stages[: spec.stages.index(stages[0])]
    cut = f"cut them away with model.truncate_after={before[-1]} or " if before else ""
    return WeightsError(
        f"{source.source}: lacks {len(empty)} tensors of {', '.join(stages)} (such as "
        f"{empty[0].tensor}); {cut}start them at random with "
        f"model.allow_random=[{','.join(stages)}]"
    )


def _likely(others: Sequence[BackboneSpec], source: WeightFile, *, complete: bool) -> str | None:
    """The most likely backbone of a file: no faults and the fewest missing tensors."""
    candidates = []
    for spec in others:
        slots = _slots(spec, spec.stages, ())
        rows, faults = table_rows(source, slots, spec.head)
        if not faults and _anything(rows, slots):
            candidates.append((len(lacking(rows, slots)), spec.name))
    candidates.sort()
    return candidates[0][1] if candidates and not (complete and candidates[0][0]) else None


def silence_other_bands(backbone: Backbone) -> None:
    """Make every band but red, green and blue count for nothing, however long it is trained."""
    silence_bands(backbone, _other_bands(backbone))


def _other_bands(backbone: Backbone) -> list[int]:
    """Positions of the bands other than red, green and blue."""
    colours = rgb_positions(backbone.bands, backbone.wavelengths)
    return sorted(set(range(len(backbone.bands))) - set(colours))
