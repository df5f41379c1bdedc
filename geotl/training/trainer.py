"""How Lightning is set up: what it keeps, its number format, its quiet, its log read back."""

from __future__ import annotations

import csv
import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from geotl.models.device import Precision, settled


def checkpoints(
    folder: Path, every: int, judged: bool
) -> tuple[ModelCheckpoint, ModelCheckpoint | None]:
    """Keep the last state, every so many steps or (0) epochs, and the best one if it is judged."""
    last = ModelCheckpoint(
        folder,
        filename="last",
        every_n_train_steps=every or None,
        every_n_epochs=None if every else 1,
        save_on_train_epoch_end=None if every else True,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="val_loss",
        save_weights_only=True,
        enable_version_counter=False,
    )
    return last, best if judged else None


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


def lightning_precision(precision: Precision, device: torch.device) -> Any:
    """A precision as Lightning names it."""
    wanted = settled(precision, device) == "bfloat16"
    return "bf16-mixed" if wanted else "32-true"


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
            for told in (
                ".*does not have many workers.*",
                ".*exists and is not empty.*",
                ".*checkpoint that ended before the epoch.*",
                ".*Experiment logs directory.*",
                ".*LeafSpec.*",
                ".*in eval mode at the start.*",
                ".*no `val_dataloader`.*",
                ".*isinstance.treespec.*",
            ):
                warnings.filterwarnings("ignore", told)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def history(path: Path) -> list[dict[str, float]]:
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
