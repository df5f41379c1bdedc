"""Training on Lightning: reproducible to the bit, resumable anywhere, frozen stages cached.

Order, augmentation and dropout of a batch follow from (seed, epoch, batch) alone. A run that
was killed and resumed, at an epoch's end or within one, so equals the uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from geotl.arrays import Int64s
from geotl.console import Log, ProgressLine, complain
from geotl.data.tile_array import batch
from geotl.errors import OutputError
from geotl.io.cache_entries import write_checked
from geotl.models.backbone import freeze, parameter_groups
from geotl.models.classifier import Frozen, TileClassifier
from geotl.training.augment import augment
from geotl.training.averaging import WeightAverage, measuring, moving_norms
from geotl.training.batches import Mix, derived_seed, draw_mix, epoch_order, mix_tiles, mix_values
from geotl.training.checkpoint_files import (
    AVERAGED,
    BEST,
    FINISHED,
    LAST,
    EpochLog,
    clear,
    read_checkpoint,
    read_finished,
    start_of,
    write_checkpoint,
)
from geotl.training.features import FrozenViews, Tiles, cacheable_views, frozen_bytes
from geotl.training.losses import (
    AuxiliaryHeads,
    class_weights,
    cross_entropy,
    decaying,
    l2_penalty,
    smoothed,
)
from geotl.training.settings import Training
from geotl.training.trainer import (
    EpochLine,
    batch_counter,
    checkpoints,
    interrupts,
    optimised,
    quiet_lightning,
    trainer_for,
)

__all__ = ["History", "Learner", "Tiles", "cacheable_views", "epoch_order", "fit"]

CACHE_BYTES = 2 << 30  # above this the frozen stages are computed again in each epoch


@dataclass(frozen=True)
class History:
    """One line per epoch, and the epoch (from 0) whose held-out loss was least."""

    epochs: list[dict[str, float]]
    best_epoch: int


class Learner(lightning.LightningModule):
    """One training: the model, its tiles, and what a batch of an epoch is."""

    def __init__(
        self, model: TileClassifier, train: Tiles, held_out: Tiles | None, training: Training
    ) -> None:
        """Take the model as it is; what is frozen was set before.

        Args:
            model: trained in place; what is frozen in it stays, bit for bit.
            train: the training tiles.
            held_out: tiles inside the training labels that choose the epoch.
            training: how.
        """
        super().__init__()
        settings, seed = training.settings, training.seed
        self.model, self.settings, self.augmentation = model, settings, training.augmentation
        self.seed, self.light = seed, training.light
        self.train_tiles, self.held_out = train, held_out
        classes = model.head.out_features
        self.auxiliary = AuxiliaryHeads(
            model.backbone, classes, weight=settings.auxiliary, seed=seed
        )
        self.cache: FrozenViews | None = None
        self.batches = len(epoch_order(len(train.rows), settings.batch_size, seed, 0))
        weights = class_weights(training.class_weights, train.labels, classes)
        self.class_weights = None if weights is None else torch.from_numpy(weights).float()
        averaged = settings.swa_epoch is not None
        self.average = WeightAverage(list(model.parameters())) if averaged else None
        self.chooses_epoch = held_out is not None and not averaged and not training.every_epoch

    def setup(self, stage: str) -> None:
        """Compute the frozen stages once, where the augmentation allows and memory suffices.

        Lightning trains in whatever mode it finds, and features may have been computed before in
        evaluation mode: so the mode is set here. Frozen stages and fixed statistics ignore it.
        """
        views = cacheable_views(self.augmentation)
        cacheable = self.settings.cache_views and self.model.frozen_until and views
        if cacheable and self.cache is None:
            self.model.eval()
            if frozen_bytes(self.model, self.train_tiles, len(views)) <= CACHE_BYTES:
                self.cache = FrozenViews(self.model, self.train_tiles, views)
        self.train()

    def held_out_loader(self) -> DataLoader[Any] | None:
        """Positions of the held-out tiles, in blocks; None without any."""
        if self.held_out is None:
            return None
        return DataLoader(np.arange(len(self.held_out.rows)), batch_size=128)  # type: ignore[arg-type]

    def order(self, epoch: int) -> list[Int64s]:
        """Positions of the tiles in each batch of an epoch."""
        settings, labels = self.settings, self.train_tiles.labels
        return epoch_order(
            len(labels),
            settings.batch_size,
            self.seed,
            epoch,
            labels=labels if settings.balanced_sampling else None,
        )

    def training_step(self, _: Any, batch_idx: int) -> dict[str, Any]:
        """Cost of one batch, with its loss, hits and number of tiles for `EpochLog`."""
        cost, loss, hits = self.batch_loss(self.current_epoch, batch_idx)
        self.log_dict(
            {"train_loss": loss, "train_accuracy": hits.float().mean()},
            on_step=False,
            on_epoch=True,
            batch_size=len(hits),
        )
        return {"loss": cost, "counts": (loss.detach(), hits.sum(), len(hits))}

    def batch_loss(self, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a batch costs, penalties included, its loss alone, and which tiles were right."""
        self.thaw(epoch)
        positions = self.order(epoch)[number]
        origin = derived_seed(self.seed, epoch, number)
        torch.manual_seed(origin)  # dropout draws from the global generator
        mix = self._mix(len(positions), origin)
        parts = self.parts(positions, origin, mix)
        features, tapped = self.model.finish_tapped(parts, self.auxiliary.stages)
        logits = self.model.classify(self.model.standardise(features))
        truth = torch.from_numpy(self.train_tiles.labels[positions]).to(logits.device)
        loss, main = self._loss(logits, truth, mix)
        cost = loss
        if self.settings.l2 > 0:
            cost = cost + l2_penalty(decaying(self.model.parameters()), self.settings.l2)
        cost = cost + self.auxiliary.loss(tapped, lambda output: self._loss(output, truth, mix)[0])
        return cost, loss, logits.argmax(1) == main

    def _mix(self, count: int, origin: int) -> Mix | None:
        kind = self.augmentation
        if not (kind.mixup or kind.cutmix):
            return None
        height, width = self.train_tiles.pack.images.shape[-2:]
        random = np.random.default_rng([origin, 1])
        return draw_mix(count, (height, width), kind.mixup, kind.cutmix, random)

    def _loss(self, logits: Tensor, truth: Tensor, mix: Mix | None) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and the class that has the largest share in each tile."""
        smoothing = self.settings.label_smoothing
        if mix is None and self.class_weights is None and not smoothing:
            return F.cross_entropy(logits, truth), truth
        shares = smoothed(truth, logits.shape[1], smoothing)
        if mix is not None:
            shares = mix_values(shares, mix)
        return cross_entropy(logits, shares, self.class_weights), shares.argmax(1)

    def parts(self, positions: Int64s, origin: int, mix: Mix | None = None) -> list[Frozen]:
        """Outputs of the frozen stages for a batch, augmented and mixed as its origin says.

        Mixed after the frozen stages, both what they hand on and what was pooled from them is
        the hidden representation that manifold mixup mixes (Verma et al. 2019).
        """
        model, kind = self.model, self.augmentation
        generator = torch.Generator().manual_seed(origin)
        hidden = mix is not None and mix.box is None and kind.mixup_of == "features"
        if self.cache is not None:
            choice = torch.randint(len(self.cache.views), (len(positions),), generator=generator)
            frozen = self.cache.take(torch.from_numpy(positions), choice)
        else:
            fill, sd = model.normalise.fill, model.normalise.sd
            block = batch(
                self.train_tiles.pack,
                self.train_tiles.rows[positions],
                fill=fill.cpu().numpy().astype(np.float64),
                device=fill.device,
            )
            block = augment(block, kind, generator, band_sd=sd, fill=fill, light=self.light)
            if mix is not None and not hidden:
                block = mix_tiles(block, mix, fill)
            frozen = model.frozen_part(block["image"])
        if mix is None or not hidden:
            return frozen
        return [Frozen(mix_values(p.pooled, mix), mix_values(p.maps, mix)) for p in frozen]

    def thaw(self, epoch: int | None) -> None:
        """Unfreeze the stages of this epoch, from the head back; None: all that are trained at all.

        Gradual unfreezing, Howard & Ruder 2018, section 3.3: the head first, then one stage more
        every `unfreeze_every` epochs. What waits is frozen like the rest, buffers included.
        """
        every, backbone = self.settings.unfreeze_every, self.model.backbone
        if not every:
            return
        names = backbone.stage_names
        ever = names.index(self.model.frozen_until) + 1 if self.model.frozen_until else 0
        waiting = ever if epoch is None else max(ever, len(names) - epoch // every)
        if len(backbone.frozen) != waiting:
            freeze(backbone, names[waiting - 1] if waiting else None, allow_random=True)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step; after an epoch's last one, take the weights into their average."""
        super().optimizer_step(*args, **kwargs)
        first, last = self.settings.swa_epoch, int(args[1]) == self.batches - 1
        if self.average is not None and first is not None and last and self.current_epoch >= first:
            self.average.add()

    def settle(self) -> None:
        """Put the averaged weights in place and measure batch normalisation for them.

        One pass over the training tiles, varied as in training (Izmailov et al. 2018, section
        3.2). Frozen stages and fixed statistics are not touched.
        """
        if self.average is None:
            return
        self.average.give()
        self.model.eval()
        with measuring(moving_norms(self.model.backbone)):
            for number, positions in enumerate(self.order(self.settings.epochs)):
                origin = derived_seed(self.seed, self.settings.epochs, number)
                self.model.finish(self.parts(positions, origin))
        self.model.eval()

    def validation_step(self, positions: Tensor, _: int) -> None:
        """Loss and accuracy on held-out training labels."""
        if self.held_out is None:
            return
        part = positions.cpu().numpy()
        fill = self.model.normalise.fill
        block = batch(
            self.held_out.pack,
            self.held_out.rows[part],
            fill=fill.cpu().numpy().astype(np.float64),
            device=fill.device,
        )
        logits = self.model(block["image"])
        truth = torch.from_numpy(self.held_out.labels[part]).to(logits.device)
        hits = (logits.argmax(1) == truth).float().mean()
        self.log_dict(
            {"val_loss": F.cross_entropy(logits, truth), "val_accuracy": hits},
            batch_size=len(part),
        )

    def configure_optimizers(self) -> Any:
        """Rates geometric by stage, decay on matrices alone, one schedule per training."""
        settings = self.settings
        groups = parameter_groups(
            self.model.backbone,
            torch.nn.ModuleList([self.model.head, self.auxiliary]),
            lr=settings.lr,
            lr_decay=settings.lr_decay,
            weight_decay=settings.weight_decay,
            head_lr=settings.head_lr,
        )
        total, first = settings.epochs * self.batches + 1, settings.swa_epoch
        level = None if first is None else (first * self.batches, settings.swa_lr)
        return optimised(groups, settings, total, level)


def fit(
    learner: Learner,
    *,
    folder: Path,
    stop_after: int | None = None,
    resume: bool = False,
    quiet: bool = False,
    log: Log = complain,
) -> History:
    """Train in place; with held-out tiles, stop early and restore the best epoch's weights.

    Args:
        learner: the network, its tiles and its training.
        folder: checkpoints and logs.
        stop_after: epochs to run of the schedule, None for all.
        resume: go on from the last checkpoint in `folder`, if there is one.
        quiet: no progress.
        log: called with a line where a checkpoint cannot be read.

    With weights averaged (`swa_from`) every epoch is run and the average is what is kept: no
    epoch is chosen. Nor is it where the training runs every epoch: the last one's are kept.
    """
    best_epoch = learner.chooses_epoch
    done = read_finished(folder / FINISHED, log) if resume else None
    if done is not None and (history := _given_back(learner, folder, done, log)):
        return history
    start = start_of(folder, log, best_epoch=best_epoch) if resume else None
    if start is None:
        clear(folder)
    done = _train(learner, folder, stop_after, start=start, quiet=quiet)
    write_checked(folder / FINISHED, done)
    history = _given_back(learner, folder, done, log)
    if history is None:
        raise OutputError(
            f"{folder / done['kept']}: cannot be read after it was written; check the disk, and go "
            "on with --resume"
        )
    return history


def _train(
    learner: Learner, folder: Path, stop_after: int | None, *, start: Path | None, quiet: bool
) -> dict[str, Any]:
    """Train, from a checkpoint if there is one; the file that is kept, and its epochs' losses."""
    settings, device = learner.settings, next(learner.model.parameters()).device
    best_epoch = learner.chooses_epoch
    epochs_seen = EpochLog()
    callbacks: list[Callback] = [EpochLine(ProgressLine(quiet=quiet)), epochs_seen]
    callbacks += checkpoints(folder, settings.checkpoint_every_steps, best_epoch)
    if best_epoch and settings.patience:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    epochs = min(stop_after or settings.epochs, settings.epochs)
    with quiet_lightning():
        trainer = trainer_for(folder, epochs, settings.precision, device, callbacks)
        with interrupts(trainer):
            trainer.fit(
                learner,
                train_dataloaders=batch_counter(learner.batches),
                val_dataloaders=learner.held_out_loader(),
                ckpt_path=None if start is None else str(start),
                weights_only=True,
            )
    learner.to(device)  # Lightning leaves it on the CPU
    learner.thaw(None)
    chosen = BEST if best_epoch else LAST
    if learner.average is not None:
        chosen = _averaged(learner, folder / AVERAGED, trainer.current_epoch - 1).name
    return {"kept": chosen, "history": list(epochs_seen.lines())}


def _averaged(learner: Learner, path: Path, epoch: int) -> Path:
    """Settle a learner on its averaged weights and keep them as a checkpoint."""
    learner.settle()
    write_checkpoint(path, {"state_dict": learner.state_dict(), "epoch": epoch})
    return path


def _given_back(
    learner: Learner, folder: Path, done: Mapping[str, Any], log: Log
) -> History | None:
    """Load the weights of a finished training into a learner; None where they are damaged."""
    state = read_checkpoint(folder / done["kept"], log)
    if state is None:
        return None
    learner.load_state_dict(state["state_dict"])
    return History(list(done["history"]), int(state["epoch"]))
