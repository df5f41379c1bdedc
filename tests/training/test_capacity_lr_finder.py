"""Learning by heart is read in evaluation mode; a range test finds a rate and leaves no trace."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from geotl.errors import DataError
from geotl.models.backbone import freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.capacity import Memorised, memorise, noise_tiles
from geotl.training.features import Tiles
from geotl.training.lr_finder import range_test
from geotl.training.settings import Training, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def made(name: str, bands: int, *, cut: str | None = None, dropout: float = 0.0) -> TileClassifier:
    backbone, _ = build_backbone(
        name, [f"b{i}" for i in range(bands)], [None] * bands, cut_after=cut, seed=0
    )
    torch.manual_seed(0)
    last = backbone.stage_names[-1]
    normalise = Normalise([100.0] * bands, [5.0] * bands)
    return TileClassifier(backbone, normalise, FeatureSpec((last,), views=1), 10, dropout=dropout)


def noise(bands: int, px: int = 32) -> Tiles:
    return noise_tiles(np.full(bands, 100.0), np.full(bands, 5.0), px, 10)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()  # nan, which stands for no nodata, equals itself as bytes


def test_noise_is_standard_to_the_network_and_its_labels_are_random() -> None:
    tiles = noise(3)
    standard = made("lenet5", 3).normalise(torch.from_numpy(tiles.pack.images))
    assert standard.mean().abs() < 0.01
    assert (standard.std() - 1).abs() < 0.01
    assert len(tiles.rows) == 64
    assert set(tiles.labels) == set(range(10))
    assert (noise(3).labels == tiles.labels).all()
    assert (noise_tiles(np.zeros(3), np.ones(3), 32, 10, seed=1).labels != tiles.labels).any()


def test_lenet_with_tanh_learns_64_tiles_of_noise_by_heart() -> None:
    network = made("lenet5", 1, dropout=0.5)
    found = memorise(network, noise(1), steps=60)
    assert found.by_heart
    assert found.steps <= 42  # as the lecture's own figure
    assert found.path[-1][2] == 1.0
    image = torch.from_numpy(noise(1).pack.images)
    said = network.eval()(image).argmax(1).numpy()
    assert (said == noise(1).labels).all()  # the network itself, in use


def test_a_resnet_that_looks_perfect_in_training_mode_fails_in_evaluation_mode() -> None:
    """COVERAGE, trap 2: a check that read training mode would pass here."""
    found = memorise(made("resnet18", 3), noise(3), steps=2)
    step, training, use = found.path[-1]
    assert (step, training) == (2, 1.0)
    assert use < 0.3
    assert not found.by_heart
    assert found.looked_perfect == 2


def test_what_training_mode_says_never_makes_a_pass() -> None:
    flattered = Memorised(64, 2, ((1, 0.1, 0.1), (2, 1.0, 0.19)))
    assert not flattered.by_heart
    assert flattered.accuracy == 0.19
    assert Memorised(64, 3, ((3, 0.9, 1.0),)).by_heart


def test_frozen_stages_keep_every_bit_while_tiles_are_learnt() -> None:
    network = made("resnet18", 3, cut="layer1")
    freeze(network.backbone, "stem", allow_random=True)
    network.frozen_until = "stem"
    before = copy.deepcopy(network.backbone.stages["stem"].state_dict())
    memorise(network, noise(3, px=8), steps=2)
    after = network.backbone.stages["stem"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_too_few_steps_are_no_pass() -> None:
    assert not memorise(made("lenet5", 1), noise(1), steps=1).by_heart


def test_the_range_test_falls_then_diverges_and_leaves_no_trace() -> None:
    network = made("lenet5", 1, dropout=0.2).train()
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    training = Training(TrainSettings(batch_size=16, lr_decay=1.0))
    found = range_test(network, noise(1), training, steps=80)
    after = network.state_dict()
    assert all(bits(before[name]) == bits(after[name]) for name in before)
    assert torch.equal(random, torch.get_rng_state())
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    again = range_test(network, noise(1), training, steps=80)
    assert again == found
    ratio = np.diff(np.log(found.rates))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    assert found.rates[0] == pytest.approx(1e-6)
    assert found.smooth[-1] > min(found.smooth)
    if found.steepest is not None:
        assert 1e-5 < found.steepest < 0.3


def test_a_training_that_cannot_fall_gets_no_suggestion() -> None:
    """Of noise with a rate far too low throughout nothing is learnt."""
    training = Training(TrainSettings(batch_size=16))
    found = range_test(made("lenet5", 1), noise(1), training, steps=20, lowest=1e-9, highest=1e-8)
    assert found.steepest is None
    assert found.tenth is None


@pytest.mark.parametrize(("steps", "lowest"), [(5, 1e-6), (50, 2.0), (50, 0.0)])
def test_a_sweep_that_is_none_is_refused(steps: int, lowest: float) -> None:
    with pytest.raises(DataError, match="at least 20 steps"):
        range_test(made("lenet5", 1), noise(1), Training(), steps=steps, lowest=lowest)


def test_a_rate_of_the_head_moves_the_stages_in_their_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[float]] = []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *args: object) -> object:
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    training = Training(TrainSettings(batch_size=32, lr=0.01, lr_decay=0.5))
    range_test(made("lenet5", 1), noise(1), training, steps=20)
    assert math.isclose(seen[0][0], 1e-6, rel_tol=1e-6)
    assert min(seen[0]) == pytest.approx(1e-6 * 0.5**4)
    assert seen[10][0] / seen[0][0] == pytest.approx(seen[10][-1] / seen[0][-1])
