"""Logs of a training: CSV always, TensorBoard's with the extra `tensorboard`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiles import ROOT

from geotl.training import trainer
from geotl.training.trainer import trainer_for


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_is_logged_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        trainer.importlib.util,
        "find_spec",
        lambda name: find(name) if name != "tensorboard" or installed else None,
    )
    made = trainer_for(tmp_path, 1, "float32", torch.device("cpu"), [])
    kinds = [type(logger).__name__ for logger in made.loggers]
    assert kinds == (["CSVLogger", "TensorBoardLogger"] if installed else ["CSVLogger"])
    for logger in made.loggers:
        logger.log_metrics({"train_loss": 0.5}, 0)
        logger.finalize("success")
    assert (tmp_path / "tensorboard").exists() is installed
    assert "0.5" in (tmp_path / "csv" / "metrics.csv").read_text()


def test_without_tensorboard_a_trainer_is_made() -> None:
    """In a process in which the package cannot be imported at all."""
    words = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n.startswith('tensorboard') else f(n, *a)\n"
        "import tempfile, pathlib, torch; from geotl.training.trainer import trainer_for\n"
        "made = trainer_for(pathlib.Path(tempfile.mkdtemp()), 1, 'float32', "
        "torch.device('cpu'), [])\n"
        "print(len(made.loggers))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "1"


def test_neither_tensorboard_nor_torchmetrics_is_wanted_of_every_user() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    plain = text.partition("dependencies = [")[2].partition("]")[0]
    assert "torch>=" in plain
    assert "tensorboard" not in plain
    assert "torchmetrics" not in plain
