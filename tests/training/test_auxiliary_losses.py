"""Auxiliary classifiers: added losses while their stages train, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geotl.data.tile_array import Pack
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import REGISTRY, build_backbone, freeze
from geotl.training.learner import Learner, Tiles, fit
from geotl.training.losses import AuxiliaryHeads, active_auxiliaries
from geotl.training.settings import Augmentation, Training, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

BANDS, NM = ("red", "green", "blue"), (665.0, 560.0, 490.0)


def tiles(folder: Path, px: int = 24) -> Tiles:
    images = np.random.default_rng(0).integers(0, 255, (6, 3, px, px), dtype=np.uint8)
    nothing = (None,) * 6
    pack = Pack(images, None, BANDS, "f" * 64, folder, nothing, nothing, nothing)
    return Tiles(pack, np.arange(6, dtype=np.int64), np.arange(6, dtype=np.int64) % 2)


def network(frozen: str | None = None, cut: str | None = None) -> TileClassifier:
    backbone, _ = build_backbone("googlenet", BANDS, NM, cut_after=cut, seed=3)
    freeze(backbone, frozen, allow_random=True)
    torch.manual_seed(1)
    spec = FeatureSpec(backbone.stage_names[-1:], views=1)
    return TileClassifier(
        backbone, Normalise([90.0] * 3, [50.0] * 3), spec, 2, frozen_until=frozen
    ).to(memory_format=torch.channels_last)


def training(augmentation: Augmentation | None = None, **more: object) -> Training:
    plain = {
        "epochs": 2,
        "batch_size": 3,
        "precision": "float32",
        "checkpoint_every_steps": 1,
    }
    settings = TrainSettings(**(plain | more))  # type: ignore[arg-type]
    return Training(settings, augmentation or Augmentation(noise=0.1))


@pytest.mark.parametrize("name", [n for n, s in REGISTRY.items() if s.auxiliary])
@pytest.mark.parametrize("classes", [2, 10])
def test_classifiers_take_maps_of_any_size(name: str, classes: int) -> None:
    spec = REGISTRY[name]
    for entry in spec.auxiliary:
        head, channels = entry.build(classes), spec.channels[spec.stages.index(entry.stage)]
        for side in (1, 2, 17, 20):
            assert head(torch.rand(2, channels, side, side)).shape == (2, classes)


def test_the_papers_weights_and_places() -> None:
    assert [a.weight for a in REGISTRY["googlenet"].auxiliary] == [0.3, 0.3]
    assert [a.stage for a in REGISTRY["googlenet"].auxiliary] == ["inception4a", "inception4b_d"]
    assert [(a.stage, a.weight) for a in REGISTRY["inception_v3"].auxiliary] == [("mixed6", 0.4)]


@pytest.mark.parametrize(
    ("frozen", "cut", "weight", "expected"),
    [
        (None, None, None, {"inception4a": 0.3, "inception4b_d": 0.3}),
        (None, None, 0.1, {"inception4a": 0.1, "inception4b_d": 0.1}),
        (None, None, 0.0, {}),
        ("inception3", None, None, {"inception4a": 0.3, "inception4b_d": 0.3}),
        ("inception4a", None, None, {"inception4b_d": 0.3}),
        ("inception4e", None, None, {}),
        (None, "inception4b_d", None, {"inception4a": 0.3}),
    ],
)
def test_only_trained_inner_stages_get_one(frozen, cut, weight, expected) -> None:
    backbone = network(frozen, cut).backbone
    heads = AuxiliaryHeads(backbone, 2, weight=weight, seed=0)
    assert heads.weights == expected
    assert set(heads.heads) == set(expected)
    assert [a.stage for a in active_auxiliaries(backbone, weight)] == list(expected)


def test_the_loss_is_the_papers_sum(tmp_path: Path) -> None:
    learner = Learner(network(), tiles(tmp_path), None, training())
    learner.auxiliary.eval()  # no dropout
    image = torch.rand(2, 3, 24, 24) * 255
    truth = torch.tensor([0, 1])
    model = learner.model.eval()
    _, tapped = model.finish_tapped(model.frozen_part(image), learner.auxiliary.stages)
    found = learner.auxiliary.loss(tapped, lambda logits: F.cross_entropy(logits, truth))
    outputs = model.backbone(model.normalise(image))
    expected = sum(
        0.3 * F.cross_entropy(learner.auxiliary.heads[stage](outputs[stage]), truth)
        for stage in ("inception4a", "inception4b_d")
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_they_train_and_leave_no_trace_in_the_network(tmp_path: Path) -> None:
    source = tiles(tmp_path)
    plain, helped = network(), network()
    names = set(helped.state_dict())
    fit(Learner(plain, source, None, training(auxiliary=0.0)), folder=tmp_path / "a", quiet=True)
    state = torch.get_rng_state()
    Learner(helped, source, None, training())
    assert torch.equal(torch.get_rng_state(), state)
    history = fit(Learner(helped, source, None, training()), folder=tmp_path / "b", quiet=True)
    assert set(helped.state_dict()) == names
    assert not any("auxiliary" in name for name in names)
    assert len(history.epochs) == 2
    last = "backbone.stages.inception4a.inception4a.branch1.conv.weight"
    assert not torch.equal(plain.state_dict()[last], helped.state_dict()[last])
    held = torch.load(tmp_path / "b" / "last.ckpt", weights_only=True)["state_dict"]
    fresh = AuxiliaryHeads(network().backbone, 2, weight=None, seed=0).state_dict()
    trained = {n: t for n, t in held.items() if n.startswith("auxiliary.")}
    assert {n.removeprefix("auxiliary.") for n in trained} == set(fresh)
    assert not torch.equal(
        trained["auxiliary.heads.inception4a.fc2.weight"], fresh["heads.inception4a.fc2.weight"]
    )


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch) -> None:
    """Their weights and dropout resume with the rest."""
    source = tiles(tmp_path)
    straight, killed, resumed = network("inception3"), network("inception3"), network("inception3")
    fit(Learner(straight, source, None, training()), folder=tmp_path / "a", quiet=True)
    step = Learner.training_step

    def until(self: Learner, held: object, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 1):
            raise KeyError("killed")
        return step(self, held, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "training_step", until)
        with pytest.raises(KeyError, match="killed"):
            fit(Learner(killed, source, None, training()), folder=tmp_path / "b", quiet=True)
    torch.manual_seed(999)
    fit(Learner(resumed, source, None, training()), folder=tmp_path / "b", resume=True, quiet=True)
    for name, tensor in straight.state_dict().items():
        held = resumed.state_dict()[name]
        assert tensor.contiguous().numpy().tobytes() == held.contiguous().numpy().tobytes(), name


def test_the_reported_training_loss_is_the_main_classifiers(tmp_path: Path, monkeypatch) -> None:
    """So that it can be laid beside the held-out loss."""
    monkeypatch.setattr(AuxiliaryHeads, "loss", lambda *_: torch.tensor(1e4))
    learner = Learner(network(), tiles(tmp_path), None, training())
    history = fit(learner, folder=tmp_path / "a", quiet=True)
    assert all(epoch["train_loss"] < 1e3 for epoch in history.epochs)
