"""Whole commands that run twice at once, or meet a damaged cache or checkpoint; seeded, bounded."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.map_fixtures import BANDS, made_model, made_pixels
from helpers.processes import WAIT_S, hidden, run_words, started
from helpers.runs import made_tiles, run
from helpers.tiles import write_tile

from geotl.io.files import sha256_of


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles") / "tiles")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model_of(folder: Path) -> str:
    """SHA-256 of a run's model."""
    return sha256_of(folder / "model.safetensors")


TRAINED = ("strategy=scratch", "train.checkpoint_every_steps=1")


@pytest.mark.usefixtures("one_thread", "unrendered")
def test_the_same_inputs_give_the_same_bytes(tiles, tmp_path, cache):
    """Times stand in metrics.json alone."""
    for name in ("a", "b"):
        assert run(tiles, tmp_path / name, "strategy=probe") == 0
    assert model_of(tmp_path / "a") == model_of(tmp_path / "b")
    assert "fit_seconds" in (tmp_path / "a" / "metrics.json").read_text()


@pytest.mark.usefixtures("one_thread", "unrendered")
def test_resumed_with_a_damaged_checkpoint_a_run_gives_the_same_model(
    tiles, tmp_path, cache, capsys
):
    out = tmp_path / "run"
    assert run(tiles, out, *TRAINED) == 0
    wanted = model_of(out)
    for name in ("metrics.json", "model.safetensors"):
        (out / name).unlink()
    for note in out.rglob("finished.json"):
        note.unlink()
    best = next(out.rglob("best.ckpt"))
    best.write_bytes(best.read_bytes()[:-100])
    capsys.readouterr()
    assert run(tiles, out, *TRAINED, options=("-q", "--resume")) == 0
    assert "is renamed" in capsys.readouterr().err
    assert model_of(out) == wanted
    assert hidden(tmp_path) == []


@pytest.mark.usefixtures("one_thread", "unrendered")
def test_damaged_metrics_are_written_again(tiles, tmp_path, cache, capsys):
    out = tmp_path / "run"
    assert run(tiles, out, *TRAINED) == 0
    model, metrics = model_of(out), out / "metrics.json"
    metrics.write_bytes(metrics.read_bytes()[:-10])
    capsys.readouterr()
    assert run(tiles, out, *TRAINED, options=("-q", "--resume")) == 0
    told = capsys.readouterr().err
    assert told == f"{metrics}: is damaged; the run goes on from what else is in its folder\n"
    assert "headline" in json.loads(metrics.read_text())
    assert model_of(out) == model


def test_two_runs_on_a_fresh_cache_both_finish(tiles, tmp_path, cache):
    several = [started(run_words(tiles, tmp_path / n, "strategy=probe")) for n in ("a", "b")]
    for child in several:
        error = child.communicate(timeout=WAIT_S)[1]
        assert (child.returncode, error) == (0, "")
    assert model_of(tmp_path / "a") == model_of(tmp_path / "b")
    assert hidden(tmp_path) == []


def damage(path: Path, dice: random.Random) -> None:
    """Flip a bit, cut, empty, lengthen or fill a part with zeros."""
    content = bytearray(path.read_bytes())
    at = dice.randrange(len(content))
    kind = dice.choice(["bit", "cut", "empty", "longer", "zeros"])
    if kind == "bit":
        content[at] ^= 1 << dice.randrange(8)
    elif kind == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    else:
        content = {"cut": content[:at], "empty": bytearray(), "longer": content + b"\0"}[kind]
    path.write_bytes(content)


@pytest.mark.usefixtures("one_thread", "unrendered")
def test_no_damaged_file_of_the_cache_changes_a_model(tiles, tmp_path, cache, capsys):
    assert run(tiles, tmp_path / "whole", "strategy=probe") == 0
    wanted = model_of(tmp_path / "whole")
    files = sorted(p for kind in ("packs", "features") for p in (cache / kind).rglob("*.*"))
    files = [path for path in files if path.is_file()]
    assert len(files) >= 5
    dice = random.Random(7)
    for number in range(12):
        path = files[number % len(files)]
        before = path.read_bytes()
        damage(path, dice)
        changed = path.read_bytes() != before
        capsys.readouterr()
        assert run(tiles, tmp_path / "again", "strategy=probe") == 0, path
        assert model_of(tmp_path / "again") == wanted, path
        assert ("made again" in capsys.readouterr().err) == changed, path
        shutil.rmtree(tmp_path / "again")


@pytest.fixture(scope="module")
def mapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    classes = np.random.default_rng(1).integers(0, 3, (12, 12))
    write_tile(folder / "scene.tif", made_pixels(classes, 16), names=list(BANDS))
    return made_model(folder / "model.safetensors")


def map_words(mapper: Path, out: Path, *more: str) -> list[str]:
    scene = mapper.with_name("scene.tif")
    return ["map", str(mapper), str(scene), "-o", str(out), "--mode", "exact", "-q", *more]


def test_of_two_maps_to_one_path_the_second_is_told_of_the_first(mapper, tmp_path, cache):
    out = tmp_path / "map.tif"
    words = map_words(mapper, out, "--stride-px", "4")
    children = [started(words) for _ in range(2)]
    ends = [(child.communicate(timeout=WAIT_S)[1], child.returncode) for child in children]
    assert sorted(code for _, code in ends) == [0, 2]
    pid = next(c.pid for c in children if c.returncode == 0)
    said = next(error for error, code in ends if code == 2)
    assert said.count("\n") == 1
    assert said.startswith(f"geotl: {out}: process {pid} on ")
    assert hidden(tmp_path) == []


def test_nothing_is_written_outside_the_output_and_the_cache(tiles, mapper, tmp_path, cache):
    home, system, place = (tmp_path / name for name in ("home", "tmp", "cwd"))
    for folder in (home, system, place):
        folder.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(system), "XDG_CACHE_HOME": str(home / "cache")}
    own |= {"XDG_CONFIG_HOME": str(home / "config"), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.pop("MPLCONFIGDIR", None)
    for words in (
        run_words(tiles, tmp_path / "run", *TRAINED),
        map_words(mapper, tmp_path / "m" / "map.tif"),
    ):
        child = started(words, **own)
        assert (child.communicate(timeout=WAIT_S)[1], child.returncode) == ("", 0)
    left = [p for folder in (home, system, place) for p in folder.rglob("*") if p.is_file()]
    assert left == []
