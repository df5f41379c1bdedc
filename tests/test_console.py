"""Progress: one line written over on a terminal, few plain ones elsewhere, nothing left."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import network

from geotl.console import ProgressLine
from geotl.data.tile_array import Pack
from geotl.training.features import Tiles
from geotl.training.learner import Learner, fit
from geotl.training.settings import Training, TrainSettings
from geotl.training.trainer import EpochLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and what is left on its screen."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> str:
        last = self.getvalue().rpartition("\n")[2]
        return last.rpartition("\x1b[K")[2]


class Clock:
    """Moves on by `step` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_terminal_shows_one_line_and_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(1.0)) as line:
        tell = line.counter("reading tiles")
        for done in range(1, 5):
            tell(done, 4)
            assert stream.screen().startswith(f"reading tiles  {done}/4  ")
            assert len(stream.screen()) < 30
    assert "\n" not in stream.getvalue()
    assert stream.screen() == ""


def test_nothing_is_left_after_an_error() -> None:
    stream = Terminal()
    line = ProgressLine(stream=stream, clock=Clock(1.0))
    tell = line.counter("reading tiles")

    def broken() -> None:
        with line:
            tell(1, 2)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert "reading tiles" in stream.getvalue()
    assert stream.screen() == ""


def test_a_log_gets_a_line_every_ten_seconds_at_most() -> None:
    stream = io.StringIO()
    with ProgressLine(stream=stream, clock=Clock(0.5)) as line:
        tell = line.counter("computing features")
        for done in range(1, 101):
            tell(done, 100)
    lines = stream.getvalue().splitlines()
    assert 6 <= len(lines) <= 11  # the clock went on by 101 s
    assert lines[0].startswith("computing features  ")
    assert lines[0].endswith(" s left")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_quiet_says_nothing() -> None:
    stream = Terminal()
    with ProgressLine(quiet=True, stream=stream, clock=Clock(20.0)) as line:
        line.counter("reading tiles")(1, 2)
        line.show("x", now=True)
    assert stream.getvalue() == ""


@pytest.fixture
def tiles(tmp_path: Path) -> Tiles:
    images = np.random.default_rng(0).integers(0, 200, (12, 4, 32, 32), dtype=np.uint8)
    none = (None,) * 12
    pack = Pack(images, None, ("a", "b", "c", "d"), "f", tmp_path, none, none, none)
    return Tiles(pack, np.arange(12), np.arange(12) % 3)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_training_tells_epoch_losses_and_time(
    tiles: Tiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: type[io.StringIO],
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = kind()
    monkeypatch.setattr(
        "geotl.training.learner.EpochLine",
        lambda _: EpochLine(ProgressLine(stream=stream, clock=Clock(4.0))),
    )
    training = Training(TrainSettings(epochs=3, batch_size=4, precision="float32"))
    fit(Learner(network(), tiles, tiles, training), folder=tmp_path / "a")
    text = stream.getvalue()
    assert "epoch 1/3  loss " in text
    assert "held out " in text
    assert " an epoch, " in text
    assert "nan" not in text
    if kind is Terminal:
        assert "epoch 3/3, batch 2/3" in text
        assert stream.screen() == ""
        assert "\n" not in text
    else:
        assert len(text.splitlines()) < 8
    assert "v_num" not in (capfd.readouterr().err + text)


def test_the_last_training_says_that_it_is_on_all_labels(
    tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(
        "geotl.training.learner.EpochLine",
        lambda _: EpochLine(ProgressLine(stream=stream, clock=Clock(4.0))),
    )
    training = Training(TrainSettings(epochs=2, batch_size=4, precision="float32"))
    fit(Learner(network(), tiles, None, training), folder=tmp_path / "a")
    assert "on all training labels: epoch 1/2  loss " in stream.getvalue()


def test_an_interrupted_training_leaves_a_clean_terminal(
    tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    monkeypatch.setattr(
        "geotl.training.learner.EpochLine",
        lambda _: EpochLine(ProgressLine(stream=stream, clock=Clock(4.0))),
    )

    def stop(*_: object) -> torch.Tensor:
        raise RuntimeError

    monkeypatch.setattr("geotl.training.learner.l2_penalty", stop)
    training = Training(TrainSettings(epochs=3, batch_size=4, precision="float32", l2=0.1))
    with pytest.raises(RuntimeError):
        fit(Learner(network(), tiles, tiles, training), folder=tmp_path / "a")
    assert stream.screen() == ""
