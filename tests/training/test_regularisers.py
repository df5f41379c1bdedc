"""Every regulariser at once: resuming equals not stopping, and what is frozen stays."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import BANDS, network

from geotl.data.tile_array import Pack, batch
from geotl.errors import ModelError
from geotl.models.backbone import hold_batchnorm
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.averaging import WeightAverage, adapt_batchnorm
from geotl.training.batches import balanced
from geotl.training.features import Tiles
from geotl.training.heads import logistic
from geotl.training.learner import Learner, fit
from geotl.training.losses import class_weights, cross_entropy, decaying, l2_penalty, smoothed
from geotl.training.schedules import cosine, one_cycle, rate_factor
from geotl.training.settings import Augmentation, Light, Training, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

ALL_ON = Training(
    TrainSettings(
        epochs=4,
        batch_size=4,
        precision="float32",
        checkpoint_every_steps=1,
        patience=0,
        schedule="cosine",
        unfreeze_every=1,
        l2=1e-3,
        label_smoothing=0.1,
        class_weights="balanced",
        balanced_sampling=True,
        swa_from=0.5,
    ),
    Augmentation(
        rotate_deg=20,
        scale=(0.8, 1.2),
        crop=0.8,
        noise=0.1,
        blur=0.7,
        brightness=0.2,
        contrast=0.2,
        band_dropout=0.2,
        erase=0.5,
        mixup=0.3,
        cutmix=1.0,
    ),
    light=Light(10.0),
)


@pytest.fixture
def tiles(tmp_path: Path) -> Tiles:
    """Eleven tiles of 3 uneven classes, four bands, with holes."""
    random = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    images = random.integers(20, 80, (11, 4, 32, 32), dtype=np.uint8)
    images += (labels * 60).astype(np.uint8)[:, None, None, None]
    valid = np.ones(images.shape, bool)
    valid[::2, :, :5] = False
    valid[1::3, 2, 10:20, 10:20] = False
    none = (None,) * 11
    pack = Pack(images, valid, BANDS, "f" * 64, tmp_path, none, none, none)
    return Tiles(pack, np.arange(11), labels)


def digest(model: torch.nn.Module, prefix: str = "") -> str:
    """SHA-256 of parameters and buffers whose names begin so."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(prefix):
            found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


class KilledError(Exception):
    """Stands for a process that ends."""


@pytest.mark.parametrize("kill_at", [(1, 1), (2, 0), (3, 1), (3, 2)])
def test_everything_on_resumes_to_the_same_bits(
    tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: tuple[int, int]
) -> None:
    """Killed while stages wait, at and after the start of the averaging."""
    straight, killed, resumed = network(), network(), network()
    fit(Learner(straight, tiles, None, ALL_ON), folder=tmp_path / "a", quiet=True)
    step = Learner.training_step

    def until(self: Learner, held: object, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == kill_at:
            raise KilledError
        return step(self, held, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "training_step", until)
        with pytest.raises(KilledError):
            fit(Learner(killed, tiles, None, ALL_ON), folder=tmp_path / "b", quiet=True)
    torch.manual_seed(999)
    learner = Learner(resumed, tiles, None, ALL_ON)
    history = fit(learner, folder=tmp_path / "b", resume=True, quiet=True)
    assert digest(resumed) == digest(straight) != digest(network())
    assert history.best_epoch == 3
    again = network()
    learner = Learner(again, tiles, None, ALL_ON)
    fit(learner, folder=tmp_path / "b", resume=True, quiet=True)  # it is finished
    assert digest(again) == digest(straight)


@pytest.mark.parametrize("held", [False, True])
def test_trap_1_frozen_stages_keep_parameters_and_buffers(
    tiles: Tiles, tmp_path: Path, held: bool
) -> None:
    model = network()
    if held:
        hold_batchnorm(model.backbone)
    before, rest = digest(model, "backbone.stages.stem"), digest(model, "backbone.stages.layer")
    assert any("running_mean" in n for n in model.backbone.stages["stem"].state_dict())
    fit(Learner(model, tiles, None, ALL_ON.changed(epochs=2)), folder=tmp_path / "a", quiet=True)
    assert digest(model, "backbone.stages.stem") == before
    model.train()
    image = batch(tiles.pack, tiles.rows[:4], fill=np.full(4, 90.0))["image"]
    with torch.no_grad():
        model(image)
    assert digest(model, "backbone.stages.stem") == before
    assert digest(model, "backbone.stages.layer") != rest


def test_stages_wait_for_their_epoch_bit_for_bit(tiles: Tiles, tmp_path: Path) -> None:
    training = ALL_ON.changed(unfreeze_every=2, swa_from=None, epochs=5)
    seen: dict[int, dict[str, str]] = {}
    step = Learner.training_step

    class Watched(Learner):
        def training_step(self, held: object, batch_idx: int) -> torch.Tensor:
            if batch_idx == 0:
                seen[self.current_epoch] = {
                    part: digest(self.model, part)
                    for part in ("head", "backbone.stages.layer2", "backbone.stages.layer1")
                }
            return step(self, held, batch_idx)

    model = network()
    fit(Watched(model, tiles, None, training), folder=tmp_path / "a", quiet=True)
    moved = {part: [seen[e][part] != seen[e + 1][part] for e in range(4)] for part in seen[0]}
    assert moved == {
        "head": [True] * 4,
        "backbone.stages.layer2": [False, False, True, True],
        "backbone.stages.layer1": [False, False, False, False],
    }
    assert model.backbone.frozen == ("stem",)
    assert digest(model, "backbone.stages.layer1") != seen[4]["backbone.stages.layer1"]


def test_manifold_mixup_and_waiting_stages_are_the_same_with_and_without_the_cache(
    tiles: Tiles, tmp_path: Path
) -> None:
    kind = Augmentation(flips=False, quarter_turns=False, mixup=0.4, mixup_of="features")
    kept = []
    for cached in (True, False):
        model = network(dropout=0.0)
        settings = TrainSettings(
            epochs=3,
            batch_size=4,
            precision="float32",
            unfreeze_every=1,
            cache_views=cached,
            optimizer="sgd",
        )
        training = Training(settings, kind)
        learner = Learner(model, tiles, None, training)
        learner.setup("fit")
        assert (learner.cache is not None) == cached
        fit(Learner(model, tiles, None, training), folder=tmp_path / str(cached), quiet=True)
        kept.append(model.state_dict())
    for name, value in kept[0].items():
        torch.testing.assert_close(value, kept[1][name], rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("cached", [True, False])
def test_what_learns_is_in_training_mode_whatever_ran_before(tiles: Tiles, cached: bool) -> None:
    """Features computed before, and the frozen stages' cache, leave evaluation mode behind."""
    model = network().eval()
    training = Training(TrainSettings(precision="float32", cache_views=cached))
    learner = Learner(model, tiles, None, training)
    learner.setup("fit")
    assert model.dropout.training
    assert model.backbone.stages["layer1"][0].bn1.training
    assert not model.backbone.stages["stem"].training


def test_mixed_tiles_are_not_cached(tiles: Tiles) -> None:
    for kind, cached in (({"mixup": 0.4}, False), ({"cutmix": 1.0}, False), ({}, True)):
        training = replace(ALL_ON, augmentation=Augmentation(**kind))
        learner = Learner(network(), tiles, None, training)
        learner.setup("fit")
        assert (learner.cache is not None) == cached


def test_the_average_is_that_of_the_epochs_ends(tiles: Tiles, tmp_path: Path) -> None:
    training = Training(TrainSettings(epochs=4, batch_size=4, precision="float32", swa_from=0.5))
    ends: list[dict[str, torch.Tensor]] = []
    model = network()
    rest = Learner.optimizer_step

    def noting(self: Learner, *args: object, **more: object) -> None:
        rest(self, *args, **more)
        if args[1] == self.batches - 1:
            ends.append({n: p.detach().clone() for n, p in self.model.named_parameters()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "optimizer_step", noting)
        fit(Learner(model, tiles, tiles, training), folder=tmp_path / "a", quiet=True)
    assert len(ends) == 4  # no early stop
    for name, parameter in model.named_parameters():
        mean = (ends[2][name].double() + ends[3][name].double()) / 2
        torch.testing.assert_close(parameter.detach().double(), mean, rtol=1e-6, atol=1e-7)


def test_averages_of_earlier_versions_are_read_and_have_the_same_bits() -> None:
    """Their checkpoints held the buffers `count` and `mean_0`, `mean_1`, …, summed by hand."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(7, 5), "b": torch.nn.Linear(5, 3)})
    model["b"].bias.requires_grad_(False)
    average = WeightAverage(list(model.parameters()))
    trained = [p for p in model.parameters() if p.requires_grad]
    means = [torch.zeros_like(p.data) for p in trained]
    for count in (1, 2, 3, 4):
        with torch.no_grad():
            for parameter, mean in zip(trained, means, strict=True):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
                mean.add_((parameter - mean) / torch.tensor(count))
        average.add()
    earlier = {"count": torch.tensor(4)} | {f"mean_{i}": mean for i, mean in enumerate(means)}
    again = WeightAverage(list(model.parameters()))
    again.load_state_dict(earlier)
    for mean, one, two in zip(means, average.module, again.module, strict=True):
        assert torch.equal(mean, one)
        assert torch.equal(mean, two)
    again.give()
    assert all(torch.equal(p, m) for p, m in zip(trained, means, strict=True))


def test_averaged_weights_get_statistics_of_their_own(tiles: Tiles, tmp_path: Path) -> None:
    """Measured again on the same passes, nothing changes; of the last epoch's they differ."""
    training = ALL_ON.changed(unfreeze_every=0)
    model = network()
    fit(Learner(model, tiles, None, training), folder=tmp_path / "a", quiet=True)
    last = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)["state_dict"]
    name = "backbone.stages.layer1.0.bn1.running_mean"
    measured = model.state_dict()[name].clone()
    assert not torch.allclose(last[f"model.{name}"], measured, rtol=1e-3)
    learner = Learner(model, tiles, None, training)
    learner.settle()
    torch.testing.assert_close(model.state_dict()[name], measured)


def test_l2_as_the_lecture_writes_it_is_sgds_decay_of_twice_lambda(tiles: Tiles) -> None:
    """Zero loss, three steps with momentum: the same weights, and only matrices change."""
    penalty, ends = 0.013, []
    for l2, decay in ((penalty, 0.0), (0.0, 2 * penalty)):
        model = network().double()
        training = ALL_ON.changed(l2=l2, weight_decay=decay, optimizer="sgd", swa_from=None)
        optimizer = Learner(model, tiles, None, training).configure_optimizers()["optimizer"]
        before = [p.detach().clone() for p in model.parameters()]
        for group in optimizer.param_groups:
            group["lr"] = 0.3
        for _ in range(3):
            optimizer.zero_grad()
            loss = sum(0 * p.sum() for p in model.parameters() if p.requires_grad)
            (loss + (l2_penalty(decaying(model.parameters()), l2) if l2 else 0)).backward()
            optimizer.step()
        for (name, p), old in zip(model.named_parameters(), before, strict=True):
            assert torch.equal(p, old) != (p.requires_grad and p.ndim >= 2), name
        ends.append([p.detach() for p in model.parameters()])
        assert all(p.requires_grad and p.ndim >= 2 for p in decaying(model.parameters()))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-8)


def test_l2_adds_exactly_twice_lambda_w_to_a_steps_gradient(tiles: Tiles) -> None:
    grads = []
    for l2 in (0.0, 0.01):
        learner = Learner(network(dropout=0.0), tiles, None, ALL_ON.changed(l2=l2, swa_from=None))
        learner.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        learner._trainer = type("T", (), {"current_epoch": 3, "barebones": False})()  # type: ignore[assignment]
        learner.train()
        learner.training_step(None, 0)["loss"].backward()
        grads.append({n: p.grad for n, p in learner.named_parameters() if p.grad is not None})
    names = dict(learner.named_parameters())
    assert any("layer1" in n for n in grads[0])
    for name, plain in grads[0].items():
        added = 2 * 0.01 * names[name] if names[name].ndim >= 2 else torch.zeros_like(plain)
        torch.testing.assert_close(grads[1][name] - plain, added.detach(), rtol=1e-4, atol=2e-7)


def test_weighted_soft_cross_entropy_is_torchs() -> None:
    logits, labels = torch.randn(20, 4), torch.arange(20) % 4
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    ours = cross_entropy(logits, smoothed(labels, 4, 0.0), weights)
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, labels, weights))
    ours = cross_entropy(logits, smoothed(labels, 4, 0.1))
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


def test_balanced_weights_are_sklearns_and_the_logistic_head_takes_them() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_class_weight

    random = np.random.default_rng(0)
    labels = np.array([0] * 40 + [1] * 6 + [3] * 4)
    wanted = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    found = class_weights("balanced", labels, 4)
    np.testing.assert_allclose(found[[0, 1, 3]], wanted)
    x = random.normal(size=(50, 1, 5)) + labels[:, None, None] * 0.3
    plain = logistic(x, labels, 1.0, num_classes=4)
    ours = logistic(x, labels, 1.0, num_classes=4, weights="balanced")
    theirs = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(x[:, 0], labels)
    np.testing.assert_allclose(ours.weight[[0, 1, 3]], theirs.coef_, rtol=1e-4, atol=1e-5)
    assert np.abs(plain.weight - ours.weight).max() > 0.01


def test_balanced_sampling_draws_classes_alike_and_tiles_in_turn() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [2] * 7)
    drawn = balanced(labels, np.random.default_rng(3))
    assert len(drawn) == 30
    assert np.bincount(labels[drawn]).tolist() == [10, 10, 10]
    times = np.bincount(drawn, minlength=30)
    assert times[:20].max() == 1
    assert set(times[20:23]) == {3, 4}
    assert set(times[23:]) == {1, 2}
    assert not np.array_equal(drawn, balanced(labels, np.random.default_rng(4)))


@pytest.mark.parametrize("total", [2, 4, 7, 41, 100, 361])
def test_one_cycle_is_torchs(total: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total, pct_start=0.3, final_div_factor=4e3, cycle_momentum=False
    )
    for step in range(total):
        assert one_cycle(step, total) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        if step < total - 1:
            schedule.step()


def test_rates_rise_fall_and_stay_level_where_weights_are_averaged() -> None:
    rates = [rate_factor(s, 101, "cosine", 0.1, None) for s in range(101)]
    assert np.argmax(rates) == 10
    assert rates[10] == 1
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[5] == pytest.approx(6 / 11)
    assert [cosine(s, 1, 0.1) for s in range(1)] == [1.0]
    for kind in ("one_cycle", "cosine"):
        level = [rate_factor(s, 101, kind, 0.1, (60, 0.4)) for s in range(101)]
        assert level[60:] == [0.4] * 41
        assert level[0] < 0.4
        assert min(level[20:]) == 0.4


def test_adabn_takes_the_tiles_statistics(tiles: Tiles) -> None:
    model = network(None)
    kept = digest(model, "head"), [p.detach().clone() for p in model.parameters()]
    adapt_batchnorm(model, tiles.pack, tiles.rows, folded=False, seed=0)
    assert digest(model, "head") == kept[0]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept[1], strict=True))
    image = batch(tiles.pack, tiles.rows, fill=np.full(4, 90.0))["image"]
    stem = model.backbone.stages["stem"]
    with torch.no_grad():
        raw = stem[0](model.normalise(image))
    torch.testing.assert_close(stem[1].running_mean, raw.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stem[1].running_var, raw.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not model.training
    assert stem[1].momentum == 0.1


def test_adabn_is_refused_where_there_is_nothing_to_measure(tiles: Tiles) -> None:
    with pytest.raises(ModelError, match=r"folded.*model\.adabn=none"):
        adapt_batchnorm(network(None), tiles.pack, tiles.rows, folded=True, seed=0)
    backbone, _ = build_backbone("lenet5", BANDS, (None,) * 4)
    spec = FeatureSpec(backbone.stage_names[1:])
    plain = TileClassifier(backbone, Normalise([0.0] * 4, [1.0] * 4), spec, 3)
    with pytest.raises(ModelError, match="does not exist in this lenet5"):
        adapt_batchnorm(plain, tiles.pack, tiles.rows, folded=False, seed=0)
