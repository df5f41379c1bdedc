"""Files from which a killed training goes on: complete, checked, and one before the last."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from geotl.console import Log
from geotl.io.cache_entries import read_checked
from geotl.io.files import whole_file

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
AVERAGED, FINISHED = "averaged.ckpt", "finished.json"
DAMAGED = ".damaged"
_UNREADABLE = (  # what zipfile, zlib and torch raise where bytes are not what was written
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, each made beside its target and renamed when it is on the disk.

    Lightning itself makes them in the system's temporary folder; where that is another file
    system, a full disk or a kill leaves half of one in its place. The last but one is kept too.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint completely or not at all.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        path = Path(path)
        write_checkpoint(path, checkpoint, before=PREVIOUS if path.name == LAST else None)


def write_checkpoint(path: Path, state: dict[str, Any], *, before: str | None = None) -> None:
    """Write a checkpoint completely or not at all.

    Args:
        path: of the checkpoint.
        state: tensors and plain values.
        before: new name of the file that is there already; None to replace it.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    content = io.BytesIO()  # torch reports a full disk in its own words
    torch.save(state, content)
    with whole_file(path) as part:
        with part.open("wb") as stream:
            stream.write(content.getbuffer())
        if before is not None and path.exists():
            path.replace(path.with_name(before))


def read_checkpoint(path: Path, log: Log) -> dict[str, Any] | None:
    """The state in a checkpoint; None where there is none, or one that cannot be read.

    One that cannot be read gets another name, and a line says so.
    """
    if not path.exists():
        return None
    with contextlib.suppress(*_UNREADABLE):
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()  # torch itself compares no checksums
        if damaged is None:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            return state
    aside = path.with_name(path.name + DAMAGED)
    path.replace(aside)
    log(f"{path}: the checkpoint cannot be read and is renamed {aside.name}")
    return None


def start_of(folder: Path, log: Log, *, best_epoch: bool) -> Path | None:
    """The checkpoint that a training goes on from: the last that can be read; None for none.

    Args:
        folder: of the training.
        log: called with a line where one cannot be read.
        best_epoch: whether the best epoch's weights are kept too; without them it starts again.
    """
    best = folder / BEST
    begun = best.exists() or best.with_name(best.name + DAMAGED).exists()
    if best_epoch and begun and read_checkpoint(best, log) is None:
        return None
    for name in (LAST, PREVIOUS):
        if read_checkpoint(folder / name, log) is not None:
            return folder / name
    return None


def clear(folder: Path) -> None:
    """Take away what an earlier training left, before one that starts from the beginning."""
    for name in (LAST, PREVIOUS, BEST, AVERAGED, FINISHED, BEST + DAMAGED):
        (folder / name).unlink(missing_ok=True)


def read_finished(path: Path, log: Log) -> dict[str, Any] | None:
    """The note of a finished training; None where there is none, or one that cannot be read."""
    if not path.exists():
        return None
    note = read_checked(path)
    if note is None:  # as earlier versions wrote it, without a checksum
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(note, dict) and note.keys() == {"kept", "history"}:
        return note
    path.replace(path.with_name(path.name + DAMAGED))
    log(f"{path}: cannot be read and is renamed; the training goes on from its checkpoint")
    return None


class EpochLog(Callback):
    """One line of losses for each epoch; a checkpoint keeps it, so that a resumed training does.

    Losses and hits are summed here batch by batch: Lightning forgets those of an epoch that is
    resumed within.
    """

    def __init__(self) -> None:
        """Begin without an epoch."""
        self.epochs: list[dict[str, float]] = []
        self.sums = [0.0, 0.0, 0.0]  # loss, hits, tiles of the running epoch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"epochs": [dict(line) for line in self.epochs], "sums": list(self.sums)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.epochs, self.sums = list(state_dict["epochs"]), list(state_dict["sums"])

    def on_train_batch_end(self, _: Any, module: Any, outputs: Any, *args: Any) -> None:
        """Add a batch, given as its mean loss, hits and tiles."""
        loss, hits, tiles = (float(value) for value in outputs["counts"])
        self.sums = [self.sums[0] + loss * tiles, self.sums[1] + hits, self.sums[2] + tiles]

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: Any) -> None:
        """Add the line of an epoch."""
        loss, hits, tiles = self.sums
        metrics = trainer.callback_metrics
        line = {"epoch": float(trainer.current_epoch)}
        line |= {n: float(metrics[n]) for n in ("val_loss", "val_accuracy") if n in metrics}
        line |= {"train_loss": loss / tiles, "train_accuracy": hits / tiles}
        earlier = [one for one in self.epochs if one["epoch"] < line["epoch"]]
        self.epochs, self.sums = [*earlier, line], [0.0, 0.0, 0.0]

    def lines(self) -> Sequence[dict[str, float]]:
        """Epochs with a finite loss, in order."""
        return [line for line in self.epochs if math.isfinite(line["train_loss"])]
