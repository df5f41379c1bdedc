"""Resuming equals not stopping; frozen stages stay; decay reaches matrices alone."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from geotl.data.tile_array import Pack
from geotl.models.backbone import freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.learner import Learner, Tiles, cacheable_views, epoch_order, fit
from geotl.training.settings import Augmentation, Training, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiles(tmp_path: Path) -> Tiles:
    random = np.random.default_rng(0)
    labels = np.arange(12, dtype=np.int64) % 3
    images = random.integers(0, 60, (12, 3, 32, 32), dtype=np.uint8)
    images += (labels * 60).astype(np.uint8)[:, None, None, None]
    nothing = (None,) * 12
    pack = Pack(
        images, None, ("red", "green", "blue"), "f" * 64, tmp_path, nothing, nothing, nothing
    )
    return Tiles(pack, np.arange(12, dtype=np.int64), labels)


def network(frozen: str | None = None, dropout: float = 0.3) -> TileClassifier:
    bands = ("red", "green", "blue")
    backbone, _ = build_backbone(
        "resnet18", bands, (665.0, 560.0, 490.0), cut_after="layer1", seed=3
    )
    torch.manual_seed(1)
    spec = FeatureSpec(("layer1",), views=1)
    made = TileClassifier(
        backbone, Normalise([90.0] * 3, [50.0] * 3), spec, 3, dropout=dropout, frozen_until=frozen
    )
    freeze(backbone, frozen, allow_random=True)
    return made.to(memory_format=torch.channels_last)


def training(augmentation: Augmentation | None = None, **more: object) -> Training:
    plain = {
        "epochs": 3,
        "batch_size": 4,
        "precision": "float32",
        "checkpoint_every_steps": 1,
    }
    settings = TrainSettings(**(plain | more))  # type: ignore[arg-type]
    return Training(settings, augmentation or Augmentation(noise=0.1))


def bits(model: torch.nn.Module) -> dict[str, bytes]:
    return {n: t.detach().contiguous().numpy().tobytes() for n, t in model.state_dict().items()}


class KilledError(Exception):
    """Stands for a process that ends."""


KORNIA = Augmentation(kornia=["RandomElasticTransform", {"RandomGaussianNoise": {"std": 0.05}}])


@pytest.mark.parametrize(
    ("kill_at", "judged", "kind"),
    [
        *(((1, 0), judged, None) for judged in (False, True)),
        *(((1, 1), judged, None) for judged in (False, True)),
        *(((0, 2), judged, None) for judged in (False, True)),
        ((1, 1), True, KORNIA),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    tiles: Tiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: tuple[int, int],
    judged: bool,
    kind: Augmentation | None,
) -> None:
    """Killed at the start of an epoch (its end was reached) and within one."""
    held_out = tiles if judged else None
    straight = network()
    whole = fit(
        Learner(straight, tiles, held_out, training(kind)), folder=tmp_path / "a", quiet=True
    )
    killed = network()
    step = Learner.training_step

    def until(self: Learner, held: object, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == kill_at:
            raise KilledError
        return step(self, held, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "training_step", until)
        with pytest.raises(KilledError):
            fit(Learner(killed, tiles, held_out, training(kind)), folder=tmp_path / "b", quiet=True)
    resumed = network()
    torch.manual_seed(999)
    learner = Learner(resumed, tiles, held_out, training(kind))
    history = fit(learner, folder=tmp_path / "b", resume=True, quiet=True)
    assert bits(resumed) == bits(straight)
    assert history == whole
    assert bits(straight) != bits(network())


def test_frozen_stages_keep_every_bit_and_buffer(tiles: Tiles, tmp_path: Path) -> None:
    model = network(frozen="stem")
    before = bits(model)
    fit(Learner(model, tiles, None, training()), folder=tmp_path / "a", quiet=True)
    model.train()
    after = bits(model)
    stem = [n for n in before if n.startswith("backbone.stages.stem")]
    assert any("running_mean" in n for n in stem)
    assert all(before[n] == after[n] for n in stem)
    assert any(before[n] != after[n] for n in before if "layer1" in n)


def test_cached_frozen_views_train_like_computed_ones(tiles: Tiles, tmp_path: Path) -> None:
    learner = Learner(network("stem"), tiles, None, training(augmentation=Augmentation()))
    learner.setup("fit")
    assert learner.cache is not None
    learner.model.eval()
    taken = learner.cache.take(torch.tensor([2, 5]), torch.tensor([0, 3]))
    from geotl.models.classifier import turn_view

    image = torch.from_numpy(np.asarray(tiles.pack.images[[2, 5]])).float()
    turned = torch.stack([turn_view(image[0], 0), turn_view(image[1], 3)])
    direct = learner.model.frozen_part(turned)
    torch.testing.assert_close(taken[0].maps, direct[0].maps)


def test_only_views_are_cached() -> None:
    assert cacheable_views(Augmentation(rotate_deg=10)) == ()
    assert cacheable_views(Augmentation(kornia=["RandomVerticalFlip"])) == ()
    assert cacheable_views(Augmentation(flips=False, quarter_turns=False)) == (0,)


def test_decay_reaches_trainable_matrices_alone(tiles: Tiles) -> None:
    learner = Learner(network("stem"), tiles, None, training(weight_decay=0.5))
    before = {n: p.detach().clone() for n, p in learner.named_parameters()}
    optimizer = learner.configure_optimizers()["optimizer"]
    for parameter in learner.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in learner.named_parameters():
        decays = parameter.requires_grad and parameter.ndim >= 2
        assert torch.equal(parameter, before[name]) != decays, name


def test_an_epochs_order_covers_every_tile_once() -> None:
    order = np.concatenate(epoch_order(13, 4, seed=1, epoch=2))
    assert sorted(order.tolist()) == list(range(13))
    assert not np.array_equal(order, np.concatenate(epoch_order(13, 4, seed=1, epoch=3)))


def test_early_stopping_restores_the_best_epoch(
    tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses .5 .7-style: best at epoch 2, patience 2 ends the training after epoch 4."""
    losses = iter([0.5, 0.4, 0.3, 0.31, 0.32, 0.1])

    def told(self: Learner, positions: torch.Tensor, _: int) -> None:
        self.log("val_loss", next(losses), batch_size=len(positions))

    monkeypatch.setattr(Learner, "validation_step", told)
    learner = Learner(network(), tiles, tiles, training(epochs=6, patience=2))
    history = fit(learner, folder=tmp_path / "a", quiet=True)
    assert history.best_epoch == 2
    assert len(history.epochs) == 5


def test_lightning_is_the_engine() -> None:
    assert issubclass(Learner, lightning.LightningModule)


def test_an_interrupt_is_handed_on_and_interrupts_stay_heard(
    tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning itself would end the process with exit code 1."""

    def interrupt(self: Learner, *_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Learner, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(Learner(network(), tiles, None, training()), folder=tmp_path / "a", quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
