"""Blocks hold every window once, count every valid pixel once, and go on where they were."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.full_disk import full_disk
from helpers.map_fixtures import BANDS, PX, made_model, made_pixels, patches, write_scene
from hypothesis import given
from hypothesis import strategies as st

from geotl.api import load
from geotl.errors import OutputError
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.inference.sliding_window import Predicted, Sweep
from geotl.inference.window_grid import WindowGrid
from geotl.mapping.blocks import SweepPlan, Thumb, blocks_of, sweep_scene, window_shares
from geotl.mapping.window_store import SheetLayout, open_sheet

pytestmark = pytest.mark.usefixtures("one_thread")
L2A = get_sensor("sentinel2_l2a")


class KilledError(Exception):
    """A run that ends before its time."""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load(made_model(tmp_path_factory.mktemp("model") / "m.safetensors")).network


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    pixels = made_pixels(patches(7, 8), 24)[:, :, :181]
    pixels[:, 30:75, 40:90] = 0
    pixels[0, 100:110, 100:110] = 0  # one band alone
    return open_scene(
        write_scene(tmp_path_factory.mktemp("scene") / "s.tif", pixels, nodata=0), L2A, BANDS
    )


def plan_of(network, scene, *, posting: int = 8, block_px: int = 64, mode="exact") -> SweepPlan:
    grid = WindowGrid(scene.grid.height, scene.grid.width, PX, 8, posting)
    sweep = Sweep(network, PX, 1, mode, None, "float32", batch=50)
    wanted = np.ones((len(grid.rows), len(grid.cols)), bool)
    return SweepPlan(grid, sweep, L2A, block_px, 0.5, wanted)


@given(st.integers(0, 150), st.integers(0, 150), st.integers(1, 32), st.integers(1, 300))
def test_blocks_hold_every_window_once(more_rows, more_cols, step, block_px):
    grid = WindowGrid(PX + more_rows, PX + more_cols, PX, step, 1)
    times = np.zeros((len(grid.rows), len(grid.cols)), int)
    for block in blocks_of(grid, block_px):
        times[block.rows, block.cols] += 1
        rows = grid.rows[block.rows]
        assert rows[-1] + PX - rows[0] <= max(block_px, PX) + PX  # a last one moved back comes too
    assert (times == 1).all()


def test_shares_are_those_of_each_window():
    whole = np.random.default_rng(0).random((50, 61)) < 0.7
    rows, cols = np.array([0, 5, 18]), np.array([0, 29])
    found = window_shares(whole, rows, cols, PX)
    wanted = [[whole[r : r + PX, c : c + PX].mean() for c in cols] for r in rows]
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize(("posting", "block_px"), [(1, 64), (4, 100), (8, 64), (8, 1000)])
def test_every_valid_pixel_is_counted_once(network, scene, tmp_path, posting, block_px):
    plan = plan_of(network, scene, posting=posting, block_px=block_px)
    sheet = sweep_scene(plan, scene, tmp_path / "s", key="k", note={})
    _, valid = scene.read(Window(0, 0, scene.grid.height, scene.grid.width))
    whole = valid.all(axis=0)
    tall, wide = (n * posting for n in plan.grid.cells)
    padded = np.zeros((tall, wide), bool)
    padded[: whole.shape[0], : whole.shape[1]] = whole
    wanted = padded.reshape(tall // posting, posting, wide // posting, posting).sum(axis=(1, 3))
    np.testing.assert_array_equal(sheet.cover, wanted)
    shares = window_shares(whole, plan.grid.rows, plan.grid.cols, PX)
    np.testing.assert_array_equal(sheet.seen, shares >= 0.5)
    assert not sheet.seen.all()


def test_a_sweep_cut_off_goes_on_and_computes_nothing_twice(network, scene, tmp_path):
    plan = plan_of(network, scene)
    whole = sweep_scene(plan, scene, tmp_path / "whole", key="k", note={"n": 1})
    blocks = len(whole.done)
    told: list[int] = []

    def kill(done: int, total: int) -> None:
        told.append(done)
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        sweep_scene(plan, scene, tmp_path / "cut", key="k", note={"n": 2}, progress=kill)
    again = sweep_scene(
        plan, scene, tmp_path / "cut", key="k", note={"n": 3}, progress=lambda d, _: told.append(d)
    )
    assert told == list(range(1, blocks + 1))
    assert again.note == {"n": 2}
    for name in ("probabilities", "index", "seen", "cover"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    anew = sweep_scene(plan, scene, tmp_path / "cut", key="other", note={"n": 4})
    assert anew.note == {"n": 4}


ARRAYS = ("probabilities", "index", "seen", "cover", "partial", "picture", "shown", "impossible")


@pytest.fixture(scope="module")
def finished(scene, tmp_path_factory):
    """A plan whose last blocks are of no interest, and the folder of its finished sheet."""
    grid = WindowGrid(scene.grid.height, scene.grid.width, 1, 1, 1)
    wanted = np.arange(len(grid.rows))[:, None] < np.full(len(grid.cols), 100)
    shape = scene.grid.height // 3, scene.grid.width // 3
    plan = SweepPlan(grid, Brightness(), L2A, 40, 1.0, wanted, Thumb((2, 0), 3, shape))
    folder = tmp_path_factory.mktemp("finished") / "s"
    sweep_scene(plan, scene, folder, key="k", note={"n": 1})
    return plan, folder


@pytest.mark.parametrize("name", [*ARRAYS, "checks", "cut", "note", "missing"])
def test_a_damaged_sheet_is_computed_again_with_a_line(finished, scene, tmp_path, capsys, name):
    plan, whole = finished
    copy, draw = tmp_path / "s", np.random.default_rng(4)
    shutil.copytree(whole, copy)
    path = copy / {"cut": "seen.bin", "note": "sweep.json", "missing": "index.bin"}.get(
        name, f"{name}.bin"
    )
    content = bytearray(path.read_bytes())
    if name == "cut":
        content = content[: len(content) // 3]
    else:
        content[draw.integers(len(content))] ^= 4
    path.write_bytes(content)
    if name == "missing":
        path.unlink()
    again = sweep_scene(plan, scene, copy, key="k", note={"n": 2})
    told = capsys.readouterr().err
    if name in ("note", "missing"):
        assert told == f"{copy}: is damaged; the map starts again\n"
        assert again.note == {"n": 2}
    else:
        assert told.count("\n") == 1
        assert "finished blocks are damaged; they are computed again" in told
        assert again.note == {"n": 1}
    kept = open_sheet(whole, "k", {}, layout_of(plan, scene, len(again.done)))
    for array in (*ARRAYS, "done", "checks"):
        np.testing.assert_array_equal(getattr(again, array), getattr(kept, array))
    sweep_scene(plan, scene, copy, key="k", note={"n": 3})
    assert capsys.readouterr().err == ""


def layout_of(plan, scene, blocks: int) -> SheetLayout:
    picture = (len(plan.thumb.bands), *plan.thumb.shape), scene.dtype
    windows = len(plan.grid.rows), len(plan.grid.cols)
    return SheetLayout(windows, plan.grid.cells, 2, 1, blocks, picture)


def test_a_sheet_of_an_earlier_version_is_gone_on_with(finished, scene, tmp_path, capsys):
    plan, whole = finished
    copy = tmp_path / "s"
    shutil.copytree(whole, copy)
    for later in ("checks", "impossible"):
        (copy / f"{later}.bin").unlink()
    note = json.loads((copy / "sweep.json").read_text())
    del note["checksum"]
    (copy / "sweep.json").write_text(json.dumps(note))
    again = sweep_scene(plan, scene, copy, key="k", note={"n": 2})
    assert (again.note, again.checks, again.impossible) == ({"n": 1}, None, None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("each", "block_px"), [(1, 64), (3, 64), (4, 100), (7, 1000)])
def test_a_picture_is_gathered_of_every_so_manieth_pixel(network, scene, tmp_path, each, block_px):
    shape = scene.grid.height // each, scene.grid.width // each
    plan = replace(plan_of(network, scene, block_px=block_px), thumb=Thumb((2, 0), each, shape))
    sheet = sweep_scene(plan, scene, tmp_path / "s", key="k", note={})
    data, valid = scene.read(Window(0, 0, scene.grid.height, scene.grid.width))
    rows, cols = (np.arange(n) * each + each // 2 for n in shape)
    np.testing.assert_array_equal(sheet.picture, data[np.ix_([2, 0], rows, cols)])
    np.testing.assert_array_equal(sheet.shown, valid.all(axis=0)[np.ix_(rows, cols)])


def test_blocks_of_no_interest_are_not_read(network, scene, tmp_path):
    plan = plan_of(network, scene, block_px=40)
    wanted = np.zeros_like(plan.interest)
    wanted[:2, -3:] = True
    read = []

    class Watched:
        def __getattr__(self, name):
            return getattr(scene, name)

        def read(self, window):
            read.append(window)
            return scene.read(window)

    sheet = sweep_scene(replace(plan, interest=wanted), Watched(), tmp_path / "s", key="k", note={})
    assert 0 < len(read) < len(blocks_of(plan.grid, 40)) / 4
    assert not sheet.seen[~wanted].any()


@dataclass(frozen=True)
class Brightness:
    """A model of single pixels: the brighter, the likelier the second class."""

    views: int = 1
    mode: str = "exact"
    dense: None = None
    area: None = None
    precision: str = "float32"
    classes: int = 2
    device: str = "cpu"
    engine: str = "brightness"

    @property
    def fill(self):
        return np.full(len(BANDS), np.nan, np.float32)

    def predict_windows(self, image, rows, cols, step):
        share = np.nan_to_num(image.mean(axis=0)[np.ix_(rows, cols)] / 65535)
        return Predicted(np.stack([1 - share, share], axis=-1), np.zeros(share.shape, np.float32))


def test_whatever_predicts_windows_can_map(scene, tmp_path):
    grid = WindowGrid(scene.grid.height, scene.grid.width, 1, 1, 1)
    wanted = np.ones((len(grid.rows), len(grid.cols)), bool)
    plan = SweepPlan(grid, Brightness(), L2A, 64, 1.0, wanted)
    sheet = sweep_scene(plan, scene, tmp_path / "s", key="k", note={})
    data, valid = scene.read(Window(0, 0, scene.grid.height, scene.grid.width))
    whole = valid.all(axis=0)
    np.testing.assert_array_equal(sheet.seen, whole)
    expected = np.rint(data.astype(np.float32).mean(axis=0))
    np.testing.assert_allclose(sheet.probabilities[..., 1][whole], expected[whole], atol=1)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not written by geotl"):
        open_sheet(tmp_path / "mine", "k", {}, SheetLayout((2, 2), (2, 2), 3, 8, 1))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_told_before_anything_is_computed(tmp_path):
    with full_disk(100_000), pytest.raises(OutputError, match=r"no room.*free some space"):
        open_sheet(tmp_path / "s", "k", {}, SheetLayout((200, 200), (200, 200), 3, 8, 9))
    assert not (tmp_path / "s").exists()


def test_dense_blocks_see_enough_around_them(network, scene, tmp_path):
    """With 64 pixels of surroundings, a stem and a first stage see all that they hang on."""
    said = [
        sweep_scene(
            plan_of(network, scene, block_px=n, mode="dense"),
            scene,
            tmp_path / str(n),
            key="k",
            note={},
        ).probabilities.astype(int)
        for n in (48, 96, 500)
    ]
    for other in said[1:]:
        assert np.abs(said[0] - other).max() <= 2  # of 65535


def test_the_model_path_is_kept(tmp_path: Path):
    path = made_model(tmp_path / "m.safetensors")
    assert load(path).file.path == path
