"""Checkpoints are whole or not there; one that cannot be read costs an epoch, not the training."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from test_learner import bits, network, tiles, training

from geotl.errors import OutputError
from geotl.io.cache_entries import read_checked
from geotl.training import checkpoint_files
from geotl.training.checkpoint_files import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from geotl.training.learner import History, Learner, Tiles, fit

__all__ = ["tiles"]
pytestmark = pytest.mark.usefixtures("one_thread")


def trained(tiles: Tiles, folder: Path, *, held: bool = False, epochs: int = 3, **more: object):
    """A training in a folder; its weights' bits, and its history."""
    learner = Learner(network(), tiles, tiles if held else None, training(epochs=3))
    history = fit(learner, folder=folder, quiet=True, stop_after=epochs, **more)
    return bits(learner.model), history


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Change one bit in the middle of a file, where tensors lie."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def killed(tiles: Tiles, folder: Path, *, held: bool = False) -> None:
    """A training of three epochs, as a kill in the third leaves it."""
    trained(tiles, folder, held=held, epochs=2)
    (folder / "finished.json").unlink()


def test_checkpoints_are_made_beside_their_target(tiles, tmp_path, monkeypatch):
    """Where the system's temporary folder lies on another file system, a rename is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    trained(tiles, tmp_path / "t")
    assert {p.name for p in (tmp_path / "t").glob("*.ckpt")} == {LAST, PREVIOUS}


@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_goes_on(tiles, tmp_path, damage):
    whole, history = trained(tiles, tmp_path / "a")
    killed(tiles, tmp_path / "b")
    damage(tmp_path / "b" / LAST)
    lines: list[str] = []
    again, after = trained(tiles, tmp_path / "b", resume=True, log=lines.append)
    assert (again, after) == (whole, history)
    assert len(lines) == 1
    assert f"{LAST}: the checkpoint cannot be read and is renamed" in lines[0]


def test_without_any_checkpoint_that_can_be_read_training_starts_again(tiles, tmp_path):
    whole = trained(tiles, tmp_path / "a")
    killed(tiles, tmp_path / "b")
    cut(tmp_path / "b" / LAST)
    cut(tmp_path / "b" / PREVIOUS)
    lines: list[str] = []
    assert trained(tiles, tmp_path / "b", resume=True, log=lines.append) == whole
    assert len(lines) == 2


@pytest.mark.parametrize("name", ["finished.json", "best.ckpt"])
@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_finished_training_with_a_damaged_file_is_done_again(tiles, tmp_path, name, damage):
    whole = trained(tiles, tmp_path / "a", held=True)
    damage(tmp_path / "a" / name)
    lines: list[str] = []
    found = trained(tiles, tmp_path / "a", held=True, resume=True, log=lines.append)
    assert found == whole
    assert lines or (name, damage) == ("finished.json", flipped)


def test_a_training_that_an_earlier_version_finished_is_opened(tiles, tmp_path):
    """Its note had no checksum."""
    whole = trained(tiles, tmp_path / "a", held=True)
    note = tmp_path / "a" / "finished.json"
    note.write_text(json.dumps(read_checked(note)))
    (tmp_path / "a" / LAST).unlink()  # no training could go on from here
    lines: list[str] = []
    assert trained(tiles, tmp_path / "a", held=True, resume=True, log=lines.append) == whole
    assert lines == []


def test_a_finished_training_keeps_its_history_when_resumed(tiles, tmp_path):
    whole = trained(tiles, tmp_path / "a", held=True)
    assert trained(tiles, tmp_path / "a", held=True, resume=True) == whole
    assert isinstance(whole[1], History)
    assert [line["epoch"] for line in whole[1].epochs] == [0, 1, 2]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / LAST, {"epoch": 1})

    class Full:
        def getbuffer(self) -> bytes:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files.io, "BytesIO", Full)
    monkeypatch.setattr(torch, "save", lambda *_: None)
    with pytest.raises(OutputError, match=r"last\.ckpt: could not be written"):
        write_checkpoint(tmp_path / LAST, {"epoch": 2}, before=PREVIOUS)
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / LAST, print) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == [LAST]
