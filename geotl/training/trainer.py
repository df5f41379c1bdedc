"""Lightning set up for a training: checkpoints, callbacks, precision, log."""

from __future__ import annotations

import importlib.util
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from geotl.console import ProgressLine, duration
from geotl.models.device import Precision, settled
from geotl.training.checkpoint_files import BEST, LAST, WholeCheckpoints
from geotl.training.schedules import rate_factor
from geotl.training.settings import TrainSettings


class StepCheckpoint(ModelCheckpoint):
    """The state within an epoch; not after its last batch, which the epoch's own end follows.

    A training resumed between the two would miss that end, and the held-out loss with it.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state, if its turn has come."""
        if batch_idx + 1 < trainer.num_training_batches:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


def checkpoints(folder: Path, every: int, best_epoch: bool) -> list[Callback]:
    """Keep the last state, after each epoch and `every` steps; the best one with `best_epoch`."""
    last, best = Path(LAST).stem, Path(BEST).stem
    callbacks: list[Callback] = [
        ModelCheckpoint(
            folder,
            filename=last,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
    ]
    if every:
        callbacks.append(
            StepCheckpoint(
                folder, filename=last, every_n_train_steps=every, enable_version_counter=False
            )
        )
    if best_epoch:
        callbacks.append(
            ModelCheckpoint(
                folder,
                filename=best,
                monitor="val_loss",
                save_weights_only=True,
                enable_version_counter=False,
            )
        )
    return callbacks


@contextmanager
def interrupts(trainer: lightning.Trainer) -> Iterator[None]:
    """Hand Ctrl-C on as Python does.

    Lightning ends the process with exit code 1 and leaves interrupts ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def trainer_for(
    folder: Path | None,
    epochs: int,
    precision: Precision,
    device: torch.device,
    callbacks: Sequence[Callback],
) -> lightning.Trainer:
    """A trainer on one device that shows nothing of its own.

    It logs into a folder, as CSV and, with the extra `tensorboard`, for TensorBoard; without a
    folder it keeps neither logs nor checkpoints.
    """
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        precision=lightning_precision(precision, device),
        max_epochs=epochs,
        callbacks=list(callbacks),
        plugins=None if folder is None else [WholeCheckpoints()],
        logger=folder is not None and _loggers(folder),
        enable_checkpointing=folder is not None,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _loggers(folder: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(folder, name="", version="csv")]
    if importlib.util.find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


def batch_counter(batches: int) -> DataLoader[Any]:
    """Count batches; a learner derives their content from (seed, epoch, batch)."""
    return DataLoader(range(batches), batch_size=None)  # type: ignore[arg-type]


def optimised(
    groups: list[dict[str, Any]],
    settings: TrainSettings,
    total: int,
    level: tuple[int, float] | None = None,
) -> dict[str, Any]:
    """Optimiser and schedule as Lightning takes them.

    Args:
        groups: parameters with their rates.
        settings: kind of optimiser, shape of the schedule.
        total: steps of the complete training, plus one.
        level: as `rate_factor` takes it.
    """
    if settings.optimizer == "adamw":
        chosen: torch.optim.Optimizer = torch.optim.AdamW(groups)
    else:
        chosen = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        chosen,
        lambda step: rate_factor(step, total, settings.schedule, settings.warmup, level),
    )
    return {"optimizer": chosen, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lightning_precision(precision: Precision, device: torch.device) -> Any:
    """Lightning's name of a precision."""
    half = settled(precision, device) == "bfloat16"
    return "bf16-mixed" if half else "32-true"


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
            for message in (
                ".*does not have many workers.*",
                ".*exists and is not empty.*",
                ".*checkpoint that ended before the epoch.*",
                ".*Experiment logs directory.*",
                ".*LeafSpec.*",
                ".*in eval mode at the start.*",
                ".*no `val_dataloader`.*",
                ".*isinstance.treespec.*",
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


class EpochLine(Callback):
    """Such as: epoch 7/40  loss 0.43  held out: loss 0.53, accuracy 0.79  2 s an epoch, 70 s left.

    Held out are loss and accuracy of the tiles that choose the epoch; a training without such
    tiles, which follows, is called `on all training labels`. The time left is that of all epochs
    still planned, though the training may stop before.
    """

    def __init__(self, line: ProgressLine) -> None:
        """Show it on this line."""
        self.line = line
        self.first, self.since, self.losses, self.what = 0, 0.0, "", "epoch"

    def on_train_start(self, trainer: lightning.Trainer, _: Any) -> None:
        """Start the clock; a resumed training begins within."""
        self.first, self.since = trainer.current_epoch, self.line.clock()
        if not trainer.enable_validation:
            self.what = "on all training labels: epoch"

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Show how far a long epoch is."""
        batch, batches = trainer.fit_loop.batch_idx + 1, int(trainer.num_training_batches)
        epoch, epochs = trainer.current_epoch, trainer.max_epochs or trainer.current_epoch + 1
        head = f"{self.what} {epoch + 1}/{epochs}, batch {batch}/{batches}"
        self.line.show(head, self.losses, share=(epoch + batch / batches) / epochs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: Any) -> None:
        """Show the losses of the epoch."""
        done = trainer.current_epoch + 1
        spent_s = (self.line.clock() - self.since) / (done - self.first)
        planned = trainer.max_epochs or done
        self.losses = losses(trainer) + (
            f"  {duration(spent_s)} an epoch, {duration(spent_s * (planned - done))} left"
        )
        self.line.show(f"{self.what} {done}/{planned}", self.losses, share=done / planned, now=True)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave nothing behind."""
        self.line.close()

    def on_exception(self, *_: Any) -> None:
        """Leave nothing behind when interrupted either."""
        self.line.close()


def losses(trainer: lightning.Trainer) -> str:
    """The losses of the epoch that ended, if there are any."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    text = f"loss {metrics['train_loss']:.2f}" if "train_loss" in metrics else ""
    held_out = [
        f"{name} {metrics[key]:.2f}"
        for name, key in (("loss", "val_loss"), ("accuracy", "val_accuracy"))
        if key in metrics
    ]
    return text + (f"  held out: {', '.join(held_out)}" if held_out else "")
