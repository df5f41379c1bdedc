"""Runs that fill the disk, through the command line: told in one line, nothing written is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.full_disk import full_disk
from helpers.runs import made_tiles, run
from safetensors.numpy import load_file

from geotl.experiments.recipe import load

pytestmark = pytest.mark.usefixtures("one_thread", "unrendered")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module", params=["probe", "scratch"])
def uninterrupted(request, tiles, tmp_path_factory) -> tuple[str, Path]:
    """A strategy and the folder of its run on a disk with room enough."""
    place = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(place / "cache"))
        assert run(tiles, place / "run", f"strategy={request.param}") == 0
    return request.param, place


def readable(folder: Path) -> set[str]:
    """Names of the files in a folder; each is opened with what it is for."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".yaml":
            load(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
    return {p.name for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("room", "packed", "fills"),
    [
        (1_000, True, {"probe": "run/recipe.yaml", "scratch": "run/recipe.yaml"}),
        (20_000, False, {"probe": "images.npy", "scratch": "images.npy"}),
        (3_000, True, {"probe": "features-", "scratch": "run"}),
        (310_000, False, {"probe": "run/model.safetensors", "scratch": "run"}),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_from_what_was_written(
    tiles, uninterrupted, tmp_path, monkeypatch, capsys, room, packed, fills
):
    strategy, whole = uninterrupted
    out, cache = tmp_path / "run", tmp_path / "cache"
    monkeypatch.setenv("GEOTL_CACHE", str(cache))
    if packed:
        cache.mkdir()
        (cache / "packs").symlink_to(whole / "cache" / "packs")
    with full_disk(room):
        code = run(tiles, out, f"strategy={strategy}")
    told = capsys.readouterr().err
    assert code == 2
    assert told.count("\n") == 1
    assert told.startswith(f"geotl: {tmp_path}")
    assert fills[strategy] in told
    assert re.search(r"(File too large|requested and \d+ written).*free some space", told)
    left = readable(out) | readable(cache)
    assert not {name for name in left if name.startswith(".")}
    assert run(tiles, out, f"strategy={strategy}", options=("--resume",)) == 0
    first, second = (load_file(p / "run" / "model.safetensors") for p in (whole, tmp_path))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
