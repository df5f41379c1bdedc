"""What lies between a probe and its fine-tuned network, and which of it is kept."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from geotl.models.backbone import freeze, parameter_groups
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.averaging import between
from geotl.training.tuning import choose_share, middle_share

pytestmark = pytest.mark.usefixtures("one_thread")


def pair() -> tuple[TileClassifier, TileClassifier]:
    """A network frozen up to its stem, and the same after what stands for a training."""
    bands = ("red", "green", "blue")
    backbone, _ = build_backbone(
        "resnet18", bands, (665.0, 560.0, 490.0), cut_after="layer1", seed=3
    )
    spec = FeatureSpec(("layer1",), views=1)
    start = TileClassifier(
        backbone, Normalise([90.0] * 3, [50.0] * 3), spec, 3, frozen_until="stem"
    )
    freeze(backbone, "stem", allow_random=True)
    trained = copy.deepcopy(start)
    with torch.no_grad():
        for tensor in trained.backbone.stages["layer1"].state_dict().values():
            tensor.copy_(tensor + 1)
        trained.head.weight.mul_(3)
    return start, trained


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_weights_and_statistics_lie_on_the_line_and_frozen_bits_stay(share: float) -> None:
    start, trained = pair()
    first, last = copy.deepcopy(start.state_dict()), copy.deepcopy(trained.state_dict())
    made = between(start, trained, share).state_dict()
    for name, tensor in made.items():
        if tensor.is_floating_point():
            line = (1 - share) * first[name].double() + share * last[name].double()
            np.testing.assert_allclose(tensor.double(), line, rtol=1e-6, atol=1e-6, err_msg=name)
        if name.startswith("backbone.stages.stem") or share in (0.0, 1.0):
            end = first if share < 1 and tensor.is_floating_point() else last
            np.testing.assert_array_equal(tensor, end[name], err_msg=name)
    moved = "backbone.stages.layer1.0.bn1.running_var"
    assert not torch.equal(first[moved], last[moved])
    for network, before in ((start, first), (trained, last)):  # neither end is changed
        for name, tensor in network.state_dict().items():
            np.testing.assert_array_equal(tensor, before[name], err_msg=name)


def test_the_share_of_least_held_out_loss_is_kept_and_a_diverged_training_never() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(60) % 3
    signal = np.eye(3)[truth]
    logits = {s: random.normal(0, 1, (60, 3)) + k * signal for s, k in ((0.0, 1.0), (0.5, 3.0))}
    broken = np.full((60, 3), np.nan)
    tuning = choose_share({**logits, 1.0: broken}, truth)
    assert tuning.share == 0.5
    assert set(tuning.fold_loss) == set(tuning.fold_accuracy) == {0.0, 0.5}
    assert tuning.fold_loss[0.5] < tuning.fold_loss[0.0]
    assert tuning.temperature > 0
    assert choose_share({0.0: logits[0.0], 1.0: broken}, truth).share == 0.0


def test_a_training_of_less_loss_that_classifies_clearly_fewer_tiles_is_not_kept() -> None:
    truth = np.zeros(100, np.int64)
    probe = np.tile([0.2, 0.0], (100, 1))  # all correct
    probe[:10, 1] = 9.0  # but for ten, of which it is very sure
    trained = np.tile([1.0, 0.0], (100, 1))
    for wrong, kept in ((11, 1.0), (20, 0.0)):
        trained[:wrong] = [0.0, 0.1]
        tuning = choose_share({0.0: probe, 1.0: trained}, truth)
        assert tuning.fold_loss[1.0] < tuning.fold_loss[0.0]
        assert tuning.share == kept


def test_several_splits_agree_on_the_median_share() -> None:
    assert middle_share([1.0, 0.0, 0.5]) == 0.5
    assert middle_share([None, None]) is None


def test_the_head_may_have_a_rate_of_its_own() -> None:
    _, network = pair()
    rates = {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.01}
    for head_lr, wanted in ((None, 0.1), (0.0, 0.0), (0.3, 0.3)):
        groups = parameter_groups(network.backbone, network.head, **rates, head_lr=head_lr)
        found = {str(g["name"]).partition(",")[0]: g["lr"] for g in groups}
        assert found == {"head": wanted, "layer1": pytest.approx(0.05)}
