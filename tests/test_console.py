"""Progress: a bar on a terminal, few plain lines elsewhere, nothing left; tables."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import network

from geotl.console import ProgressLine, aligned, say
from geotl.data.tile_array import Pack
from geotl.training.features import Tiles
from geotl.training.learner import Learner, fit
from geotl.training.settings import Training, TrainSettings
from geotl.training.trainer import EpochLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and what stands on its screen."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Lines of the screen, as the control sequences that rich writes leave them."""
        rows, row, col = [""], 0, 0
        for part in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\r":
                col = 0
            elif part == "\n":
                row, col = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif part == "\x1b[2K":
                rows[row] = ""
            elif part == "\x1b[1A":
                row -= 1
            elif not part.startswith("\x1b"):
                rows[row] = rows[row][:col].ljust(col) + part + rows[row][col + len(part) :]
                col += len(part)
        return rows

    def screen(self) -> str:
        """What stands there."""
        return "\n".join(line.rstrip() for line in self.lines()).strip()


class Clock:
    """Moves on by `step` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_terminal_shows_a_bar_with_rate_and_time_left_and_keeps_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(1.0)) as line:
        tell = line.counter("reading tiles")
        for done in range(1, 5):
            tell(done, 4)
            assert "\n" not in stream.screen()
            assert re.match(rf"reading tiles +[━╸╺]+ +{done}/4", stream.screen())
            assert len(stream.screen()) < 90
        assert re.search(r" \d\.\d s each +0\.0 s left", stream.screen())
    assert stream.screen() == ""


def test_a_bar_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(1.0)) as line:
        line.show("epoch 3/40, batch 7/12", "loss 0.43  held out 0.53 / 0.79", share=0.1)
        assert 30 < len(stream.screen()) <= 40
        assert "\n" not in stream.screen()
    assert stream.screen() == ""


def test_a_line_within_another_work_is_drawn_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(1.0)) as fits:
        fits.counter("fitting")(1, 2)
        with ProgressLine(stream=stream, clock=Clock(1.0)) as epochs:
            epochs.show("epoch 1/3", share=0.3)
            assert [text.split()[0] for text in stream.screen().splitlines()] == [
                "fitting",
                "epoch",
            ]
        fits.show("fitting", "2/2", share=1.0, now=True)
        assert stream.screen().startswith("fitting")
        assert "epoch" not in stream.screen()
    assert stream.screen() == ""


@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_a_bar_has_colours_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(1.0)) as line:
        line.counter("reading tiles")(1, 2)
    coloured = re.search(r"\x1b\[(\d;)?[39]\d", stream.getvalue())
    assert bool(coloured) is (variable is None)


def test_a_terminal_without_a_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with ProgressLine(stream=stream, clock=Clock(10.0)) as line:
        line.counter("reading tiles")(1, 2)
    assert stream.getvalue() == "reading tiles  1/2\n"


def test_lines_of_the_result_stay_in_the_file_that_they_go_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Progress on a terminal, the result into a file: geotl run … > log."""
    terminal, log = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", log)
    with ProgressLine(clock=Clock(1.0)) as line:
        line.counter("reading tiles")(1, 2)
        say("overall accuracy 0.9")
    assert log.getvalue() == "overall accuracy 0.9\n"
    assert terminal.screen() == ""


def test_lines_of_the_result_go_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with ProgressLine(clock=Clock(1.0)) as line:
        line.counter("reading tiles")(1, 2)
        say("fold 1 of 2")
        line.show("reading tiles", "2/2", share=1.0, now=True)
        first, second = terminal.screen().splitlines()
        assert first == "fold 1 of 2"
        assert second.startswith("reading tiles")
    assert terminal.screen() == "fold 1 of 2"


def test_a_long_line_of_the_result_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    path = "/data/" + "long/" * 30 + "map.tif is where [it] lies"
    with ProgressLine(clock=Clock(1.0)) as line:
        line.counter("reading tiles")(1, 2)
        say(path)
        assert terminal.screen().splitlines()[0] == path
        assert len(terminal.screen().splitlines()[1]) <= 60
    assert terminal.screen() == path


def test_a_process_that_is_killed_leaves_the_cursor_visible() -> None:
    stream = Terminal()
    line = ProgressLine(stream=stream, clock=Clock(1.0))
    line.counter("reading tiles")(1, 2)
    assert "\x1b[?25l" not in stream.getvalue().rpartition("\x1b[?25h")[2]
    assert "\x1b[?25h" in stream.getvalue()
    line.close()


def test_what_a_resumed_work_finds_done_took_no_time() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream=stream, clock=Clock(5.0))
    tell = line.counter("fitting")
    for done in (90, 91, 92, 93):
        tell(done, 100)
    last = stream.getvalue().splitlines()[-1]
    each_s = float(re.search(r"([\d.]+) s each", last).group(1))
    assert each_s > 4  # not the 0.3 s of 90 tiles that were there


def test_tables_are_columns_of_plain_text() -> None:
    rows = [("", "n"), ("ä[b]", "12"), ("cropland", "3")]
    assert aligned(rows, left=(0,)) == ["           n", "ä[b]      12", "cropland   3"]
    assert aligned([], left=(0,)) == []


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


@pytest.mark.parametrize(("every_s", "lines"), [("2", 5), ("often", 1), ("0", 10)])
def test_programs_that_read_progress_say_how_often(
    every_s: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOTL_PROGRESS_S", every_s)
    stream, seconds = io.StringIO(), iter(range(100))
    with ProgressLine(stream=stream, clock=lambda: next(seconds)) as line:
        for _ in range(10):
            line.show("reading")
    assert stream.getvalue().count("\n") == lines


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
    assert re.search("epoch 1/3 .*loss ", text)
    assert re.search(
        r"held out: loss \d\.\d\d, accuracy \d\.\d\d", text
    )  # red before: two bare numbers
    assert " an epoch, " in text
    assert "nan" not in text
    if kind is Terminal:
        assert "epoch 3/3, batch 2/3" in text
        assert stream.screen() == ""
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
