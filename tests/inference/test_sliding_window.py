"""Windows looked at all at once say what each says by itself, where edges have no say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from geotl.errors import DataError
from geotl.inference.applicability import area_of_applicability
from geotl.inference.dense_correction import fitted
from geotl.inference.sliding_window import (
    Sweep,
    check_dense,
    dense_step,
    features_at,
    predict_windows,
)
from geotl.models.backbone import Backbone, BackboneSpec
from geotl.models.classifier import (
    FeatureSpec,
    Normalise,
    TileClassifier,
    over_views,
)

pytestmark = pytest.mark.usefixtures("one_thread")
PX = 16


def pointwise() -> dict[str, nn.Sequential]:
    """Two stages of 1x1 convolutions, each at half the resolution of what is before."""
    return {
        "near": nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AvgPool2d(2)),
        "far": nn.Sequential(nn.Conv2d(6, 5, 1), nn.Tanh(), nn.AvgPool2d(2)),
    }


SPEC = BackboneSpec(
    "pointwise",
    "lenet",
    "1x1 convolutions alone",
    ("near", "far"),
    (6, 5),
    (2, 4),
    (2, 4),
    ("near.", "far."),
    (),
    0,
    (),
    pointwise,
)


def network(**spec) -> TileClassifier:
    torch.manual_seed(0)
    body = Backbone(SPEC, ["a", "b", "c"], [None] * 3, seed=2)
    told = FeatureSpec(("near", "far"), **spec)
    made = TileClassifier(body, Normalise([100.0] * 3, [30.0] * 3), told, 4).eval()
    with torch.no_grad():
        made.feature_mean.normal_(0, 0.2)
        made.feature_sd.uniform_(0.5, 2)
        made.temperature.fill_(1.7)
        made.head.weight.normal_()
    return made


def steady_at_edges(height: int, width: int) -> torch.Tensor:
    """Noise [3,H,W] that is level within 4 pixels of every multiple of 8, where windows end."""
    random = torch.Generator().manual_seed(5)
    coarse = torch.randn((3, height // 8 + 2, width // 8 + 2), generator=random) * 40 + 100
    fine = coarse.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    return fine[:, 4 : 4 + height, 4 : 4 + width].contiguous()


@pytest.mark.parametrize(
    "spec",
    [
        *(
            {"pool": pool, "views": v}
            for pool, v in product(["mean", "mean_sd", "mean_log", "root_mean"], [1, 2, 4, 8])
        ),
        {"unit_length": True, "views": 4},
        {"input_px": (16, 32)},
        {"input_px": (8, 32), "views": 8},
        {"statistics": True, "views": 4},
        {"statistics": True, "unit_length": True, "input_px": (16, 32)},
    ],
)
def test_dense_equals_exact_where_edges_have_no_say(spec):
    made = network(**spec)
    known = torch.randn(40, made.head.in_features).numpy()
    area = area_of_applicability(known, np.arange(40) % 4)
    resized = "input_px" in spec
    image = steady_at_edges(88, 104) if resized else 100 + 40 * torch.randn(3, 90, 101)
    rows, cols = (np.arange(0, n - PX + 1, 8) for n in image.shape[1:])
    if not resized:  # windows moved back to the edge are off the step
        rows, cols = np.append(rows, 90 - PX), np.append(cols, 101 - PX)
    exact, dense = (
        predict_windows(
            Sweep(made, PX, spec.get("views", 1), mode, area, "float32", batch),
            image,
            rows,
            cols,
            8,
        )
        for mode, batch in (("exact", 7), ("dense", 7))
    )
    assert exact.probabilities.std() > 0.01
    np.testing.assert_allclose(dense.probabilities, exact.probabilities, atol=1e-5)
    np.testing.assert_allclose(dense.index, exact.index, rtol=1e-3)


@pytest.mark.parametrize("views", [1, 4])
def test_where_edges_have_no_say_there_is_nothing_to_correct(views):
    made, image = network(unit_length=True), 100 + 40 * torch.randn(3, 88, 104)
    rows, cols = (np.arange(0, n - PX + 1, 8) for n in image.shape[1:])
    dense, exact = (
        features_at(Sweep(made, PX, views, mode, None, "float32", 7), image, rows, cols, 8)
        for mode in ("dense", "exact")
    )
    found = fitted("shift and scale", dense, exact)
    torch.testing.assert_close(found.scale, torch.ones_like(found.scale), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.shift, torch.zeros_like(found.shift), atol=1e-4, rtol=0)


def test_exact_is_what_the_network_says_of_each_window_in_whatever_batches():
    made = network(views=1)
    image = 100 + 40 * torch.randn(3, 40, 48)
    rows, cols = np.array([0, 9, 24]), np.array([3, 32])
    found = [
        predict_windows(Sweep(made, PX, 1, "exact", None, "float32", n), image, rows, cols, 8)
        for n in (1, 4, 100)
    ]
    for i, j in product(range(3), range(2)):
        tile = image[None, :, rows[i] : rows[i] + PX, cols[j] : cols[j] + PX]
        with torch.inference_mode():
            wanted = torch.softmax(made(tile) / made.temperature, dim=1)[0]
        for said in found:
            np.testing.assert_allclose(said.probabilities[i, j], wanted, atol=1e-6)


def test_views_are_averaged_as_logits():
    made = network(views=8)
    tile = 100 + 40 * torch.randn(1, 3, PX, PX)
    with torch.inference_mode():
        turned = [torch.rot90(t, k, (-2, -1)) for t in (tile, tile.flip(-1)) for k in range(4)]
        logits = torch.stack([made(t) for t in turned]).mean(dim=0)
        wanted = torch.softmax(logits / made.temperature, dim=1)[0]
    sweep = Sweep(made, PX, 8, "exact", None, "float32")
    found = predict_windows(sweep, tile[0], np.array([0]), np.array([0]), 8)
    np.testing.assert_allclose(found.probabilities[0, 0], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "px", "step", "told"),
    [
        ({}, 16, 6, "stride of 6"),
        ({}, 18, 8, "window of 18"),
        ({"input_px": (24,)}, 16, 7, "integer"),
        ({}, 16, 8, None),
        ({"input_px": (32,)}, 16, 2, None),
    ],
)
def test_where_dense_mode_does_not_go_is_one_line_with_the_remedy(spec, px, step, told):
    if told is None:
        check_dense(network(**spec), px, step)
        return
    with pytest.raises(DataError, match=rf"{told}.*(--stride-px|--mode exact)"):
        check_dense(network(**spec), px, step)


@pytest.mark.parametrize(("sizes", "px"), [((None,), 16), ((24,), 16), ((16, 32), 16)])
def test_a_step_that_dense_mode_needs_is_the_least_that_goes(sizes, px):
    made = network(input_px=sizes) if sizes != (None,) else network()
    goes = []
    for step in range(1, px + 1):
        try:
            check_dense(made, px, step)
        except DataError:
            continue
        goes.append(step)
    assert goes == [step for step in range(1, px + 1) if step % dense_step(made, px) == 0]


def test_a_network_that_cuts_its_edges_off_is_refused():
    valid = {"one": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())}
    spec = BackboneSpec(
        "unpadded", "lenet", "", ("one",), (4,), (1,), (3,), ("one.",), (), 0, (), lambda: valid
    )
    body = Backbone(spec, ["a", "b", "c"], [None] * 3)
    made = TileClassifier(body, Normalise([0.0] * 3, [1.0] * 3), FeatureSpec(("one",)), 2).eval()
    with pytest.raises(DataError, match="does not keep its edges"):
        check_dense(made, 16, 8)


@pytest.mark.parametrize("views", [1, 4])
def test_pixels_rounded_once_a_block_give_the_bits_of_windows_rounded_each(views):
    made, image = network(), steady_at_edges(40, 48)
    rows, cols = np.array([0, 8, 24]), np.array([0, 16, 32])
    found = features_at(Sweep(made, PX, views, "exact", None, "bfloat16"), image, rows, cols, 8)
    windows = torch.stack([image[:, r : r + PX, c : c + PX] for r in rows for c in cols])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        wanted = over_views(made.features, windows, views)
    assert torch.equal(made.standardise(found), wanted)
