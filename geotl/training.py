"""Training on Lightning: reproducible to the bit, resumable anywhere, frozen stages cached.

Order, augmentation and dropout of a batch follow from (seed, epoch, batch) alone. A run that
was killed and resumed, at an epoch's end or within one, so equals the uninterrupted run.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from geotl.augment import VIEWS, Augmentation, augment, turn_view
from geotl.auxiliary import AuxiliaryHeads
from geotl.device import Precision, bfloat16_gains
from geotl.files import write_text
from geotl.loading import Pack, batch
from geotl.model import Frozen, TileClassifier
from geotl.stages import parameter_groups

Ints = NDArray[np.int64]
CACHE_BYTES = 2 << 30  # above this the frozen stages are computed anew in each epoch


@dataclass(frozen=True)
class TrainSettings:
    """How the trainable stages learn; the recipe's `train` section says what each means."""

    epochs: int = 40
    batch_size: int = 32
    lr: float = 1e-3
    lr_decay: float = 0.5
    weight_decay: float = 0.01
    optimizer: Literal["adamw", "sgd"] = "adamw"
    patience: int = 8
    precision: Precision = "auto"
    checkpoint_every_steps: int = 0
    cache_views: bool = True
    auxiliary: float | None = None
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Tiles:
    """Rows of a pack with their labels; `labels[i]` belongs to `rows[i]`."""

    pack: Pack
    rows: Ints
    labels: Ints


@dataclass(frozen=True)
class History:
    """One line per epoch, and the epoch (from 0) whose held-out loss was least."""

    epochs: list[dict[str, float]]
    best_epoch: int


def derived_seed(seed: int, epoch: int, step: int) -> int:
    """A 63-bit seed for one batch of one epoch.

    >>> derived_seed(0, 1, 2) != derived_seed(0, 2, 1)
    True
    """
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(2, np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1


def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> list[Ints]:
    """Positions of each batch of an epoch; a last batch of one tile joins the one before.

    >>> [len(part) for part in epoch_order(9, 4, seed=0, epoch=0)]
    [4, 5]
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    parts = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


class FrozenViews:
    """What the frozen stages give for every training tile and view, computed once."""

    def __init__(self, model: TileClassifier, tiles: Tiles, views: Sequence[int]) -> None:
        """Run the frozen stages over all tiles in each view, in blocks of 64."""
        self.views = tuple(views)
        self.parts = [
            [_stacked(_frozen_blocks(model, tiles, v), s) for s in range(len(model.sizes))]
            for v in self.views
        ]

    def take(self, positions: Tensor, choice: Tensor) -> list[Frozen]:
        """Frozen results of tiles at `positions`, each in the view numbered by `choice`."""
        chosen = []
        for size in range(len(self.parts[0])):
            picked = [self.parts[v][size] for v in choice.tolist()]
            pooled = torch.stack([p.pooled[i] for p, i in zip(picked, positions, strict=True)])
            maps = torch.stack([p.maps[i] for p, i in zip(picked, positions, strict=True)])
            chosen.append(Frozen(pooled, maps.contiguous(memory_format=torch.channels_last)))
        return chosen


def _frozen_blocks(model: TileClassifier, tiles: Tiles, view: int) -> Iterator[list[Frozen]]:
    device = next(model.parameters()).device
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    for start in range(0, len(tiles.rows), 64):
        image = batch(tiles.pack, tiles.rows[start : start + 64], fill=fill, device=device)["image"]
        yield model.frozen_part(turn_view(image, view))


def _stacked(blocks: Iterator[list[Frozen]], size: int) -> Frozen:
    held = [block[size] for block in blocks]
    return Frozen(torch.cat([h.pooled for h in held]), torch.cat([h.maps for h in held]))


def frozen_bytes(model: TileClassifier, tiles: Tiles, views: int) -> int:
    """Memory that caching every view of the frozen stages' maps would take, in bytes."""
    probe = Tiles(tiles.pack, tiles.rows[:1], tiles.labels[:1])
    parts = next(_frozen_blocks(model, probe, 0))
    return 4 * views * len(tiles.rows) * sum(p.maps.numel() + p.pooled.numel() for p in parts)


class Learner(lightning.LightningModule):
    """One training: the model, its tiles, and what a batch of an epoch is."""

    def __init__(
        self, model: TileClassifier, train: Tiles, held_out: Tiles | None, settings: TrainSettings
    ) -> None:
        """Take the model as it is; what is frozen was set before."""
        super().__init__()
        self.model, self.settings = model, settings
        self.train_tiles, self.held_out = train, held_out
        self.auxiliary = AuxiliaryHeads(
            model.backbone, model.head.out_features, weight=settings.auxiliary, seed=settings.seed
        )
        self.cache: FrozenViews | None = None
        self.batches = len(epoch_order(len(train.rows), settings.batch_size, settings.seed, 0))

    def setup(self, stage: str) -> None:
        """Compute the frozen stages once, where the augmentation allows and memory suffices."""
        kind = self.settings.augmentation
        views = cacheable_views(kind)
        if not (self.settings.cache_views and self.model.frozen_until and views):
            return
        if (
            self.cache is None
            and frozen_bytes(self.model, self.train_tiles, len(views)) <= CACHE_BYTES
        ):
            self.model.eval()
            self.cache = FrozenViews(self.model, self.train_tiles, views)

    def batch_counter(self) -> DataLoader[Any]:
        """Count batches; `training_step` finds their content from (seed, epoch, batch)."""
        return DataLoader(range(self.batches), batch_size=None)  # type: ignore[arg-type]

    def held_out_loader(self) -> DataLoader[Any] | None:
        """Positions of the held-out tiles, in blocks; None without any."""
        if self.held_out is None:
            return None
        return DataLoader(np.arange(len(self.held_out.rows)), batch_size=128)  # type: ignore[arg-type]

    def training_step(self, _: Any, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        settings = self.settings
        order = epoch_order(
            len(self.train_tiles.rows), settings.batch_size, settings.seed, self.current_epoch
        )
        positions = order[batch_idx]
        origin = derived_seed(settings.seed, self.current_epoch, batch_idx)
        torch.manual_seed(origin)  # dropout draws from the global generator
        generator = torch.Generator().manual_seed(origin)
        parts = self._frozen_parts(positions, generator)
        features, tapped = self.model.finish_tapped(parts, self.auxiliary.stages)
        logits = self.model.classify(self.model.standardise(features))
        truth = torch.from_numpy(self.train_tiles.labels[positions]).to(logits.device)
        loss = F.cross_entropy(logits, truth)
        hits = (logits.argmax(1) == truth).float().mean()
        self.log_dict(
            {"train_loss": loss, "train_accuracy": hits},
            on_step=False, on_epoch=True, batch_size=len(positions), prog_bar=True,
        )  # fmt: skip
        return loss + self.auxiliary.loss(tapped, lambda found: F.cross_entropy(found, truth))

    def _frozen_parts(self, positions: Ints, generator: torch.Generator) -> list[Frozen]:
        model, settings = self.model, self.settings
        if self.cache is not None:
            choice = torch.randint(len(self.cache.views), (len(positions),), generator=generator)
            return self.cache.take(torch.from_numpy(positions), choice)
        fill, sd = model.normalise.fill, model.normalise.sd
        held = batch(
            self.train_tiles.pack,
            self.train_tiles.rows[positions],
            fill=fill.cpu().numpy().astype(np.float64),
            device=fill.device,
        )
        varied = augment(held, settings.augmentation, generator, band_sd=sd, fill=fill)
        return model.frozen_part(varied["image"])

    def validation_step(self, positions: Tensor, _: int) -> None:
        """Loss and accuracy on held-out training labels."""
        if self.held_out is None:
            return
        part = positions.cpu().numpy()
        fill = self.model.normalise.fill
        held = batch(
            self.held_out.pack,
            self.held_out.rows[part],
            fill=fill.cpu().numpy().astype(np.float64),
            device=fill.device,
        )
        logits = self.model(held["image"])
        truth = torch.from_numpy(self.held_out.labels[part]).to(logits.device)
        hits = (logits.argmax(1) == truth).float().mean()
        self.log_dict(
            {"val_loss": F.cross_entropy(logits, truth), "val_accuracy": hits},
            batch_size=len(part), prog_bar=True,
        )  # fmt: skip

    def configure_optimizers(self) -> Any:
        """Rates geometric by stage, decay on matrices alone, one cycle per training."""
        settings = self.settings
        groups = parameter_groups(
            self.model.backbone, torch.nn.ModuleList([self.model.head, self.auxiliary]),
            lr=settings.lr, lr_decay=settings.lr_decay, weight_decay=settings.weight_decay,
        )  # fmt: skip
        if settings.optimizer == "adamw":
            chosen: torch.optim.Optimizer = torch.optim.AdamW(groups)
        else:
            chosen = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            chosen, max_lr=[g["lr"] for g in groups], pct_start=0.3, final_div_factor=4e3,
            total_steps=settings.epochs * self.batches + 1,
            cycle_momentum=False,
        )  # fmt: skip
        return {"optimizer": chosen, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def cacheable_views(kind: Augmentation) -> tuple[int, ...]:
    """The views an augmentation draws from, where it is nothing but views; () otherwise.

    >>> len(cacheable_views(Augmentation())), cacheable_views(Augmentation(noise=0.1))
    (8, ())
    """
    if kind.resamples or kind.noise > 0 or kind.flips != kind.quarter_turns:
        return ()
    return tuple(range(VIEWS)) if kind.flips else (0,)


def fit(
    model: TileClassifier,
    train: Tiles,
    settings: TrainSettings,
    *,
    folder: Path,
    held_out: Tiles | None = None,
    stop_after: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> History:
    """Train in place; with held-out tiles, stop early and give back the best epoch's weights.

    Args:
        model: what is frozen in it stays, bit for bit.
        train: the tiles learnt from.
        settings: how.
        folder: checkpoints and logs (CSV and TensorBoard).
        held_out: tiles inside the training labels that choose the epoch.
        stop_after: epochs to run of the schedule, None for all.
        resume: go on from the last checkpoint in `folder`, if there is one.
        quiet: no progress bar.
    """
    learner = Learner(model, train, held_out, settings)
    finished = folder / "finished.json"
    if resume and finished.exists():
        return _reopened(learner, finished)
    last, best = _checkpoints(folder, settings, held_out is not None)
    callbacks: list[Any] = [last, *([best] if best else [])]
    if best and settings.patience:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    if not quiet:
        callbacks.append(TQDMProgressBar(leave=False))
    loggers = [
        CSVLogger(folder, name="", version="csv"),
        TensorBoardLogger(folder, name="", version="tensorboard"),
    ]
    with _quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            precision=_lightning_precision(settings.precision, next(model.parameters()).device),
            max_epochs=min(stop_after or settings.epochs, settings.epochs),
            callbacks=callbacks,
            logger=loggers,
            log_every_n_steps=1,
            enable_progress_bar=not quiet,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        start = folder / "last.ckpt"
        trainer.fit(
            learner,
            train_dataloaders=learner.batch_counter(),
            val_dataloaders=learner.held_out_loader(),
            ckpt_path=str(start) if resume and start.exists() else None,
            weights_only=True,
        )
    history = _history(folder / "csv" / "metrics.csv")
    kept = Path(best.best_model_path if best else last.best_model_path)
    write_text(finished, json.dumps({"kept": kept.name, "history": history}))
    return _reopened(learner, finished)


def _reopened(learner: Learner, finished: Path) -> History:
    """Give a learner the weights that a finished training kept."""
    told = json.loads(finished.read_text())
    state = torch.load(finished.parent / told["kept"], weights_only=True, map_location="cpu")
    learner.load_state_dict(state["state_dict"])
    return History(told["history"], int(state["epoch"]))


def _checkpoints(
    folder: Path, settings: TrainSettings, judged: bool
) -> tuple[ModelCheckpoint, ModelCheckpoint | None]:
    every = settings.checkpoint_every_steps
    last = ModelCheckpoint(
        folder,
        filename="last",
        every_n_train_steps=every or None,
        every_n_epochs=None if every else 1,
        save_on_train_epoch_end=None if every else True,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        folder, filename="best", monitor="val_loss", save_weights_only=True,
        enable_version_counter=False,
    )  # fmt: skip
    return last, best if judged else None


def _lightning_precision(precision: Precision, device: torch.device) -> Any:
    wanted = precision == "bfloat16" or (precision == "auto" and bfloat16_gains(device))
    return "bf16-mixed" if wanted else "32-true"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence notes meant for other uses of Lightning.

    The loader only counts batches, so advice on its workers does not apply; a resumed folder
    holds its own logs and checkpoints; resuming within an epoch is exact here by construction;
    modules in evaluation mode are the frozen ones; the final training has nothing held out.
    """
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch.utilities.rank_zero", "lightning")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for told in (
                ".*does not have many workers.*", ".*exists and is not empty.*",
                ".*checkpoint that ended before the epoch.*", ".*Experiment logs directory.*",
                ".*LeafSpec.*", ".*in eval mode at the start.*", ".*no `val_dataloader`.*",
                ".*isinstance.treespec.*",
            ):  # fmt: skip
                warnings.filterwarnings("ignore", told)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def _history(path: Path) -> list[dict[str, float]]:
    """Lightning's CSV log as one line per epoch; of an epoch run twice, the later counts."""
    if not path.exists():
        return []
    found: dict[int, dict[str, float]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            epoch = int(float(row["epoch"]))
            held = found.setdefault(epoch, {"epoch": float(epoch)})
            held.update({k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")})
    return [found[e] for e in sorted(found) if math.isfinite(found[e].get("train_loss", math.nan))]
