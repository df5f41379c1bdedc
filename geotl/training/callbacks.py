"""What Lightning tells while it trains: the epoch, its losses and the time left, in one line."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from geotl.console import ProgressLine, duration


class EpochLine(Callback):
    """Such as: epoch 7/40  loss 0.43  held out 0.53 / 0.79  2.1 s an epoch, 70 s left.

    Held out are loss and accuracy of the tiles that choose the epoch. The time left is that of
    all epochs still planned, though the training may stop before.
    """

    def __init__(self, line: ProgressLine) -> None:
        """Show it on this line."""
        self.line = line
        self.first, self.since, self.told = 0, 0.0, ""

    def on_train_start(self, trainer: lightning.Trainer, _: Any) -> None:
        """Start the clock; a resumed training begins within."""
        self.first, self.since = trainer.current_epoch, self.line.clock()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Say how far a long epoch is."""
        batch, batches = trainer.fit_loop.batch_idx + 1, int(trainer.num_training_batches)
        head = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.line.show(f"{head}, batch {batch}/{batches}  {self.told}".rstrip())

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: Any) -> None:
        """Say what the epoch gave."""
        done = trainer.current_epoch + 1
        spent_s = (self.line.clock() - self.since) / (done - self.first)
        planned = trainer.max_epochs or done
        self.told = losses(trainer) + (
            f"  {duration(spent_s)} an epoch, {duration(spent_s * (planned - done))} left"
        )
        self.line.show(f"epoch {done}/{planned}  {self.told}", now=True)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave nothing behind."""
        self.line.close()

    def on_exception(self, *_: Any) -> None:
        """Leave nothing behind when interrupted either."""
        self.line.close()


def losses(trainer: lightning.Trainer) -> str:
    """The losses of the epoch that ended, as far as they are there."""
    seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
    told = f"loss {seen['train_loss']:.2f}" if "train_loss" in seen else ""
    held = [f"{seen[name]:.2f}" for name in ("val_loss", "val_accuracy") if name in seen]
    return told + (f"  held out {' / '.join(held)}" if held else "")
