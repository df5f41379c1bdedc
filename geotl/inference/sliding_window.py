"""A model's predictions for many windows of one block: window by window, or over the whole block.

Exact: every window goes through the network as a tile would. Dense: the backbone runs once over the
block, its features are pooled over each window, and the head is applied to these. The two differ
where a window's edge, padded with zeros in the one, sees its surroundings in the other; a
correction of the features, measured on windows computed in both modes, reduces the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd, lcm
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geotl.arrays import Bools, Float32s, Int64s
from geotl.errors import DataError
from geotl.inference.applicability import Applicability
from geotl.inference.dense_correction import Correction
from geotl.models.band_statistics import band_statistics_of_windows
from geotl.models.classifier import (
    TileClassifier,
    over_views,
    pool_windows,
    turn_view,
    view_numbers,
)
from geotl.models.device import Precision, autocast, settled
from geotl.models.receptive_field import unbounded
from geotl.models.renderings import rendered

Mode = Literal["exact", "dense"]
HALO_PX = 64  # of surroundings that a dense block sees beyond its windows


@dataclass(frozen=True)
class Sweep:
    """Prediction of windows with a torch network.

    Attributes:
        network: network in evaluation mode, on its device.
        px: side of a window in pixels.
        views: flips and quarter turns averaged.
        mode: window by window (exact), or over the whole block (dense).
        area: measures dissimilarity, None not to.
        precision: number format of the network.
        batch: windows per batch in exact mode.
        correction: correction of the features in dense mode, None for none.
    """

    network: TileClassifier
    px: int
    views: int
    mode: Mode
    area: Applicability | None
    precision: Precision = "auto"
    batch: int = 128
    correction: Correction | None = None

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels."""
        fill: Float32s = self.network.normalise.fill.cpu().numpy()
        return fill

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.network.head.out_features

    @property
    def device(self) -> str:
        """Kind of device that computes."""
        return self.network.normalise.fill.device.type

    @property
    def engine(self) -> str:
        """Engine of the network, with its version."""
        return f"torch {torch.__version__}"

    @property
    def dense(self) -> Sweep | None:
        """The sweep itself: a network can run once over a whole block."""
        return self

    def halo_px(self, step: int) -> int:
        """Pixels around a block that dense mode needs: a multiple of the step; 0 in exact mode."""
        return 0 if self.mode == "exact" else -(-HALO_PX // step) * step

    def predict_windows(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Predicted:
        """Predictions for windows of a block; see `predict_windows`."""
        return predict_windows(self, self.on_device(image), rows, cols, step)

    def on_device(self, image: Float32s) -> Tensor:
        """Pixels where the network is."""
        return torch.from_numpy(image).to(self.network.normalise.fill.device)


@dataclass(frozen=True)
class Predicted:
    """Calibrated probabilities [r,q,K] and dissimilarity index [r,q] (0 where not measured)."""

    probabilities: Float32s
    index: Float32s


class DenseError(DataError):
    """Dense mode is impossible; `needs` states what it would need."""

    def __init__(self, message: str, needs: str) -> None:
        """Keep the message and what dense mode would need."""
        super().__init__(message)
        self.needs = needs


class WindowPredictor(Protocol):
    """Whatever predicts the classes of the windows of a block of a scene.

    Mapping reads a block, fills its invalid pixels with `fill`, calls `predict_windows` for the
    windows in it and writes the results; it knows nothing else of a model. Three there are:
    `Sweep`, a torch network, `onnx_model.ServedSweep`, an exported file, and
    `pixel_predictor.PixelPredictor`, members on single pixels. What sees more than its windows
    states it; see `Surrounded`.

    Another kind of model provides:

    - `predict_windows`, which gives calibrated probabilities of its windows, where a pixel is a
      window with a side and step of 1, and an index of 0 where it measures no dissimilarity;
    - `classes` and `fill`, as many as its contract has classes and bands;
    - `views` of 1, `mode` "exact", `area` None and `dense` None, unless it turns windows,
      measures dissimilarity or runs over a whole block;
    - `precision`, `device` and `engine`, which are part of what a map's pixels depend on: other
      words make an interrupted map begin again.

    The same block must always give the same answer, or a map that was interrupted
    would differ from one that was not.
    """

    @property
    def views(self) -> int:
        """Flips and quarter turns averaged."""

    @property
    def mode(self) -> Mode:
        """Window by window, or over the whole block, for which blocks need surroundings."""

    @property
    def dense(self) -> Sweep | None:
        """The network that can also predict a whole block; None where there is none."""

    @property
    def area(self) -> Applicability | None:
        """Area of applicability, None where dissimilarity is not measured."""

    @property
    def precision(self) -> str:
        """Number format of the network."""

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def device(self) -> str:
        """Kind of device that computes."""

    @property
    def engine(self) -> str:
        """Engine of the network, with its version."""

    def predict_windows(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Predicted:
        """Predict the windows at some rows and columns of a block.

        Args:
            image: raw pixels [C,H,W] in the model's own digital numbers, invalid ones filled.
            rows: first pixel row [r] of each row of windows in the block, ascending.
            cols: first pixel column [q] of each column of windows, ascending.
            step: pixels between windows on the step; the last of a scene may lie off it.

        Returns:
            Probabilities [r,q,K] and dissimilarity index [r,q].
        """


@runtime_checkable
class Surrounded(Protocol):
    """A predictor whose answers depend on pixels around its windows states this in addition."""

    def halo_px(self, step: int) -> int:
        """Pixels around a block's windows that are read with them, where the scene has them.

        Args:
            step: pixels between windows.
        """


def halo_of(predictor: WindowPredictor, step: int) -> int:
    """Pixels around a block's windows that a predictor wants to see; 0 where it states none."""
    return predictor.halo_px(step) if isinstance(predictor, Surrounded) else 0


@runtime_checkable
class OnLattice(Protocol):
    """A predictor whose answers depend on where blocks begin states this in addition."""

    @property
    def lattice_px(self) -> int:
        """Blocks begin at multiples of this."""


def lattice_of(predictor: WindowPredictor) -> int:
    """Pixels that blocks begin at multiples of; 1 where a predictor states none."""
    return predictor.lattice_px if isinstance(predictor, OnLattice) else 1


@torch.inference_mode()
def predict_windows(
    sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s, step: int
) -> Predicted:
    """The network's predictions for the windows at some rows and columns of a block.

    Args:
        sweep: network and mode.
        image: raw pixels float32 [C,H,W] on the network's device, invalid ones filled.
        rows: first pixel row of each row of windows in the block, ascending.
        cols: first pixel column of each column of windows.
        step: pixels between regular windows; in dense mode those off the step are exact.
    """
    if sweep.mode == "exact":
        return _exact(sweep, image, rows, cols)
    regular_r, regular_c = _regular(rows, step), _regular(cols, step)
    dense = _dense(sweep, image, rows[regular_r], cols[regular_c], step)
    if regular_r.all() and regular_c.all():
        return dense
    k = dense.probabilities.shape[-1]
    result = Predicted(
        np.zeros((len(rows), len(cols), k), np.float32),
        np.zeros((len(rows), len(cols)), np.float32),
    )
    _put(result, dense, regular_r, regular_c)
    if not regular_c.all():
        _put(
            result,
            _exact(sweep, image, rows, cols[~regular_c]),
            np.ones(len(rows), bool),
            ~regular_c,
        )
    if not regular_r.all():
        _put(
            result,
            _exact(sweep, image, rows[~regular_r], cols),
            ~regular_r,
            np.ones(len(cols), bool),
        )
    return result


@torch.inference_mode()
def features_at(sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s, step: int) -> Tensor:
    """Features [r*q,V,D] of windows on the step, neither standardised nor corrected.

    The arguments are those of `predict_windows`; all windows in one batch, so they should be few.
    """
    if sweep.mode == "dense":
        return _dense_features(sweep, image, rows, cols, step)
    return torch.cat(list(_exact_features(sweep, image, rows, cols)))


@torch.inference_mode()
def classes_of(sweep: Sweep, features: Tensor) -> Int64s:
    """Classes [N] of features [N,V,D] that are not standardised."""
    predictions = _probabilities(replace(sweep, area=None), sweep.network.standardise(features))
    return np.asarray(predictions.probabilities.argmax(axis=-1))


def check_dense(network: TileClassifier, px: int, step: int) -> None:
    """Make sure that windows' features can be cut out of a block's.

    Raises:
        DenseError: a network whose pixels depend on the whole image, a stage whose pixels do not
            lie evenly on the windows, a step off its grid, or a block that cannot be resampled
            evenly.
    """
    if why := unbounded(network.backbone):
        raise DenseError(
            f"dense mode: {network.backbone.name} {why}; choose --mode exact",
            f"a network that sees only a part of the window, unlike {network.backbone.name}",
        )
    steps = f"a --stride-px that is a multiple of {dense_step(network, px)} px"
    for size in network.sizes:
        side = size or px
        if (side * step) % px:
            raise DenseError(
                f"dense mode: a stride of {step} px is {side * step / px:.4g} px at the network's "
                f"size of {side}; choose a --stride-px that makes it an integer, or --mode exact",
                steps,
            )
        moved = side * step // px
        probe = torch.zeros(1, len(network.backbone.bands), side, side + moved)
        with torch.inference_mode():
            shapes = _shapes(network, probe.to(next(network.parameters()).device))
        for stage in network.spec.stages:
            stride = network.backbone.strides[stage]
            high, wide = shapes[stage]
            if moved % stride or side % stride:
                fault = f"stride of {step}" if moved % stride else f"window of {px}"
                raise DenseError(
                    f"dense mode: stage {stage} has one pixel in {stride * px / side:.4g} of the "
                    f"scene's, of which a {fault} px is no multiple; choose another --stride-px, "
                    "or --mode exact",
                    f"tiles whose side is a multiple of {stride} px" if side % stride else steps,
                )
            if (high, wide) != (side // stride, (side + moved) // stride):
                raise DenseError(
                    f"dense mode: stage {stage} of {network.backbone.name} does not keep its edges "
                    f"({high} px of {side} at stride {stride}); choose --mode exact",
                    f"a network that keeps its edges, unlike {network.backbone.name}",
                )


def dense_step(network: TileClassifier, px: int) -> int:
    """Steps in pixels that are multiples of this lie on every stage's grid."""
    wide = [px * network.backbone.strides[stage] for stage in network.spec.stages]
    return lcm(*(n // gcd(size or px, n) for size in network.sizes for n in wide))


def _shapes(network: TileClassifier, probe: Tensor) -> dict[str, tuple[int, int]]:
    outputs = network.backbone(probe)
    return {name: (x.shape[-2], x.shape[-1]) for name, x in outputs.items()}


def _regular(firsts: Int64s, step: int) -> Bools:
    """Windows that lie on the step, counted from the first."""
    return np.asarray((firsts - firsts[0]) % step == 0)


def _put(predictions: Predicted, part: Predicted, rows: Bools, cols: Bools) -> None:
    where = np.ix_(rows, cols)
    predictions.probabilities[where], predictions.index[where] = part.probabilities, part.index


def _exact(sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s) -> Predicted:
    parts = [
        _probabilities(sweep, sweep.network.standardise(some))
        for some in _exact_features(sweep, image, rows, cols)
    ]
    shape = len(rows), len(cols)
    return Predicted(
        np.concatenate([p.probabilities for p in parts]).reshape(*shape, -1),
        np.concatenate([p.index for p in parts]).reshape(shape),
    )


def _exact_features(sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s) -> Iterator[Tensor]:
    """Features [n,V,D], not standardised, of windows batch by batch."""
    # Pixels are standardised once for the block, not once for every window over them, and laid out
    # as convolutions want them, so that windows are copied only.
    network = sweep.network
    standard = network.normalise(image[None])[0]
    full = _resizes(sweep) or network.spec.statistics
    if settled(sweep.precision, image.device) == "bfloat16" and not full:
        standard = standard.bfloat16()  # as the first convolution rounds it, but once a pixel
    standard = standard.permute(1, 2, 0).contiguous()
    for batch in _batches(standard, rows, cols, sweep.px, sweep.batch):
        with autocast(standard.device, sweep.precision):
            features = over_views(network.described, batch, sweep.views)
        yield features


def _resizes(sweep: Sweep) -> bool:
    return any(size not in {None, sweep.px} for size in sweep.network.sizes)


def _batches(block: Tensor, rows: Int64s, cols: Int64s, px: int, batch: int) -> Iterator[Tensor]:
    """Windows [N,C,px,px] of a block [H,W,C], channels last in memory."""
    places = [(int(r), int(c)) for r in rows for c in cols]
    for start in range(0, len(places), batch):
        part = places[start : start + batch]
        windows = torch.stack([block[r : r + px, c : c + px] for r, c in part])
        yield windows.permute(0, 3, 1, 2)


def _probabilities(sweep: Sweep, features: Tensor) -> Predicted:
    """Probabilities of standardised features [N,V,D], views averaged as logits, and their index."""
    logits = sweep.network.classify(features).double().mean(dim=1)
    probabilities = torch.softmax(logits / sweep.network.temperature.double(), dim=1)
    index = np.zeros(len(features), np.float32)
    if sweep.area is not None:
        mean = features.float().mean(dim=1).cpu().numpy()
        index = sweep.area.index(mean).astype(np.float32)
    return Predicted(probabilities.float().cpu().numpy(), index)


@dataclass(frozen=True)
class _Lattice:
    """Regular windows of a block, and the part of it that they see with their surroundings.

    `span` is (first row, rows, first column, columns) of that part; `lead` how far the first window
    lies inside it.
    """

    rows: int
    cols: int
    step: int
    span: tuple[int, int, int, int]
    lead: tuple[int, int]


def _dense(sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s, step: int) -> Predicted:
    """All windows on the step from (rows[0], cols[0])."""
    features = _dense_features(sweep, image, rows, cols, step)
    if sweep.correction is not None:
        features = sweep.correction.applied(features)
    predictions = _probabilities(sweep, sweep.network.standardise(features))
    shape = len(rows), len(cols)
    return Predicted(
        predictions.probabilities.reshape(*shape, -1), predictions.index.reshape(shape)
    )


def _dense_features(sweep: Sweep, image: Tensor, rows: Int64s, cols: Int64s, step: int) -> Tensor:
    """Features [r*q,V,D], not standardised, from one pass over the block a view."""
    top, above, high = _context(rows, image.shape[1], sweep.px, step)
    left, before, wide = _context(cols, image.shape[2], sweep.px, step)
    lattice = _Lattice(len(rows), len(cols), step, (top, high, left, wide), (above, before))
    views = [_dense_view(sweep, image, lattice, view) for view in view_numbers(sweep.views)]
    return torch.stack(views, dim=1)


def _context(firsts: Int64s, length: int, px: int, step: int) -> tuple[int, int, int]:
    """Start of the block read along an axis, windows' start in it, and its length.

    The halo is a multiple of the step, so that the stages' pixels stay where they are.
    """
    begin, end = int(firsts[0]), int(firsts[-1]) + px
    halo = -(-HALO_PX // step) * step
    before = min(halo, begin // step * step)
    after = min(halo, (length - end) // step * step)
    return begin - before, before, end + after - (begin - before)


def _dense_view(sweep: Sweep, image: Tensor, lattice: _Lattice, view: int) -> Tensor:
    """Features [r*q, D], not standardised, of one view of every window."""
    network = sweep.network
    top, high, left, wide = lattice.span
    block = network.normalise(image[None, :, top : top + high, left : left + wide])
    pooled: list[Tensor] = []
    for rendering, size in network.inputs:
        side = size or sweep.px
        x = turn_view(_resized(rendered(block, rendering), side, sweep.px), view)
        x = x.contiguous(memory_format=torch.channels_last)
        with autocast(image.device, sweep.precision):
            for name in network.backbone.stages:
                x, outputs = network.run_stage(name, x)
                for output in outputs:
                    maps = _turned_back(output.float(), view)
                    pooled.append(_pooled(sweep, name, maps, lattice, side))
    if network.spec.statistics:
        part = block[:, :, lattice.lead[0] :, lattice.lead[1] :]
        statistics = band_statistics_of_windows(part, sweep.px, lattice.step)
        pooled.append(_of_lattice(statistics, lattice))
    return torch.cat(pooled, dim=1)


def _resized(block: Tensor, side: int, px: int) -> Tensor:
    if side == px:
        return block
    high, wide = (n * side // px for n in block.shape[-2:])
    return F.interpolate(
        block, (high, wide), mode="bilinear", align_corners=False, antialias=side < px
    )


def _turned_back(maps: Tensor, view: int) -> Tensor:
    """Undo `turn_view`."""
    back = torch.rot90(maps, -(view % 4), (-2, -1)) if view % 4 else maps
    return torch.flip(back, (-1,)) if view >= 4 else back


def _pooled(sweep: Sweep, stage: str, maps: Tensor, lattice: _Lattice, side: int) -> Tensor:
    """Features [r*q, d] of every window from a stage's map of the block."""
    stride = sweep.network.backbone.strides[stage]
    cells, hop = side // stride, side * lattice.step // sweep.px // stride
    begin = [n * side // sweep.px // stride for n in lattice.lead]
    part = maps[:, :, begin[0] :, begin[1] :]
    return _of_lattice(pool_windows(part, sweep.network.spec.pool, cells, hop), lattice)


def _of_lattice(values: Tensor, lattice: _Lattice) -> Tensor:
    """Features [r*q, d] of the regular windows, of those of all windows [1,d,R,Q]."""
    return values[0, :, : lattice.rows, : lattice.cols].flatten(1).T
