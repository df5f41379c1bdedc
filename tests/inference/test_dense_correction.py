"""Dense features corrected: nearer to exact mode, judged on other windows, the same on resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.map_fixtures import PX, made_model, made_pixels, patches, write_scene

import geotl
from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.evaluation.class_map import open_map
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.inference.dense_correction import (
    KINDS,
    MIN_WINDOWS,
    Sample,
    fitted,
    from_note,
    measured_agreement,
)
from geotl.inference.sliding_window import Sweep, predict_windows
from geotl.mapping import run
from geotl.mapping.blocks import SweepPlan
from geotl.mapping.options import MapOptions
from geotl.mapping.plan import _runs, _spread, planned, sample_of, settled
from geotl.mapping.task import Task, whole, window_grid

pytestmark = pytest.mark.usefixtures("one_thread")
VIEWS = 2


def pair(count: int = 80, views: int = 2, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact features [N,V,D], and dense ones that differ by a scale and a shift."""
    random = torch.Generator().manual_seed(4)
    exact = torch.randn((count, views, width), generator=random)
    return exact, (exact - torch.arange(width)) / 2


def largest(features: torch.Tensor) -> np.ndarray:
    return features.mean(dim=1).argmax(dim=1).numpy()


def turns(count: int) -> np.ndarray:
    return np.arange(count) % 2 == 0


# --- the correction itself --------------------------------------------------------------------


def test_a_scale_and_a_shift_are_found_and_undone():
    exact, dense = pair()
    made = fitted("shift and scale", dense, exact)
    torch.testing.assert_close(made.applied(dense), exact, atol=1e-5, rtol=0)
    moved = fitted("shift", dense, exact).applied(dense)
    torch.testing.assert_close(moved.mean(dim=(0, 1)), exact.mean(dim=(0, 1)))
    torch.testing.assert_close(moved.std(dim=(0, 1)), dense.std(dim=(0, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_alike_is_left_alone_and_what_is_constant_stays_finite(kind):
    exact, _ = pair()
    exact[..., 2] = 7
    made = fitted(kind, exact, exact)
    torch.testing.assert_close(made.applied(exact), exact)
    steady = torch.zeros_like(exact)
    torch.testing.assert_close(
        fitted(kind, steady, exact).applied(steady), exact.mean(dim=(0, 1)).expand_as(exact)
    )


def test_a_correction_comes_back_exactly_from_plain_values():
    exact, dense = pair()
    made = fitted("shift and scale", dense, exact)
    again = from_note(json.loads(json.dumps(made.noted())))
    assert torch.equal(again.scale, made.scale)
    assert torch.equal(again.shift, made.shift)
    assert (again.kind, again.digest) == (made.kind, made.digest)
    assert from_note(None) is None


# --- its judgement -----------------------------------------------------------------------------


def test_the_best_kind_is_chosen_by_windows_that_had_no_part():
    exact, dense = pair()
    found = measured_agreement(Sample(dense, exact, turns(80)), largest)
    assert found.plain < 0.5 < found.agreement
    assert found.correction.kind == "shift and scale"
    alike = measured_agreement(Sample(exact, exact, turns(80)), largest)
    assert (alike.plain, alike.agreement, alike.correction) == (1, 1, None)


def test_a_half_is_never_judged_by_a_correction_that_saw_it():
    """Halves moved apart by opposite shifts: the other half's correction makes it worse."""
    exact, _ = pair(width=2)
    sign = torch.from_numpy(np.where(turns(80), 1.0, -1.0)).float()[:, None, None]
    dense = exact + sign * torch.tensor([0.6, -0.6])
    found = measured_agreement(Sample(dense, exact, turns(80)), largest)
    assert found.plain < 1
    assert (found.correction, found.agreement) == (None, found.plain)


def test_a_sample_too_small_to_judge_by_is_not_corrected():
    exact, dense = pair(2 * MIN_WINDOWS - 1)
    found = measured_agreement(Sample(dense, exact, turns(len(exact))), largest)
    assert (found.correction, found.agreement) == (None, found.plain)
    assert found.windows == 2 * MIN_WINDOWS - 1


# --- in a map -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network of three blocks at windows of 32 px: much of what it pools has seen an edge."""
    return made_model(
        tmp_path_factory.mktemp("m") / "model.safetensors",
        cut_after="layer2",
        stages=("layer1", "layer2"),
        spec={"views": VIEWS, "unit_length": True},
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """Three classes blended by weights that change from place to place."""
    sharp = made_pixels(patches(10, 12), 24, noise=200).astype(float)
    soft = np.mean(
        [np.roll(sharp, (r, c), (1, 2)) for r in range(0, 32, 4) for c in range(0, 32, 4)], axis=0
    )
    return write_scene(tmp_path_factory.mktemp("s") / "scene.tif", soft.astype(np.uint16))


def prepared(model: Path, scene: Path, mode: str = "dense", views: int = VIEWS) -> tuple:
    file = geotl.load(model).file
    opened = open_scene(scene, get_sensor("sentinel2_l2a"), file.contract.bands)
    options = MapOptions(step_px=8, mode=mode, views=views, precision="float32")
    grid = window_grid(opened, PX, options)
    task = Task(file, opened, grid, options, whole(grid))
    sweep = Sweep(file.network, PX, views, "exact", None, "float32")
    return task, SweepPlan(grid, sweep, file.contract.sensor, 256, 0.5, task.interest.windows(grid))


@pytest.mark.parametrize("views", [1, 2])
def test_more_windows_that_were_never_sampled_are_named_alike(model, scene, views):
    """All windows of the scene but the sampled ones, in the plan's own mode beside exact mode."""
    task, exact = prepared(model, scene, views=views)
    choice = settled(task, exact)
    plan = planned(exact, choice)
    assert plan.sweep.correction is not None
    data, _ = task.scene.read(Window(0, 0, task.scene.grid.height, task.scene.grid.width))
    image = torch.from_numpy(data.astype(np.float32))
    fresh = np.ones((len(plan.grid.rows), len(plan.grid.cols)), bool)
    for block, _ in _spread(plan):
        fresh[block.rows, block.cols] = False
    names = {}
    plain = planned(exact, replace(choice, correction=None))
    for name, how in {"exact": exact, "corrected": plan, "plain": plain}.items():
        said = predict_windows(how.sweep, image, plan.grid.rows, plan.grid.cols, 8)
        names[name] = said.probabilities.argmax(axis=-1)[fresh]
    before, after = ((names[n] == names["exact"]).mean() for n in ("plain", "corrected"))
    assert after > before + 0.03
    assert abs(after - choice.agreement) < 0.1
    assert abs(before - choice.plain) < 0.1


DENSE = (
    "--mode",
    "dense",
    "--stride-px",
    "8",
    "--precision",
    "float32",
    "--block-px",
    "128",
    "--no-page",
)


class KilledError(Exception):
    """A run that ends before its time."""


def map_to(model: Path, scene: Path, out: Path, *more: str) -> dict[str, str]:
    out.parent.mkdir(exist_ok=True)
    assert main(["map", str(model), str(scene), "-o", str(out), *DENSE, *more]) == 0
    return dict(open_map(out).tags)


def killed_after_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """End a run when its second block is done."""
    plain = ProgressLine.counter

    def counter(line: ProgressLine, told: str):
        inner = plain(line, told)

        def tell(done: int, total: int) -> None:
            inner(done, total)
            if told == "blocks" and done == 2:
                raise KilledError

        return tell

    monkeypatch.setattr(ProgressLine, "counter", counter)


def test_a_run_gone_on_with_keeps_its_correction_and_gives_the_identical_file(
    model, scene, tmp_path, monkeypatch, capsys
):
    """The correction is the sheet's: it is not measured again, and would be another."""
    monkeypatch.setattr(run, "_now", lambda: "2026-01-01T00:00:00Z")
    tags = map_to(model, scene, tmp_path / "whole" / "m.tif")
    told = capsys.readouterr().out.splitlines()[0]
    with monkeypatch.context() as patch:
        killed_after_two(patch)
        with pytest.raises(KilledError):
            map_to(model, scene, tmp_path / "cut" / "m.tif", "-q")
    with monkeypatch.context() as patch:
        patch.setattr(run, "settled", never)
        assert map_to(model, scene, tmp_path / "cut" / "m.tif") == tags
    assert capsys.readouterr().out.splitlines()[0] == told
    for name in ("m.tif", "m_confidence.tif", "m_areas.csv"):
        cut, wanted = ((tmp_path / place / name).read_bytes() for place in ("cut", "whole"))
        assert cut == wanted, name


def never(*_: object) -> None:
    raise AssertionError


def test_line_and_tags_tell_of_the_correction(model, scene, tmp_path, capsys):
    tags = map_to(model, scene, tmp_path / "m.tif")
    line = capsys.readouterr().out.splitlines()[0]
    kind, without = (
        tags["GEOTL_DENSE_CORRECTION"].split(" of ")[0],
        tags["GEOTL_DENSE_CORRECTION"].split("without it ")[1][:6],
    )
    alike = float(tags["GEOTL_DENSE_AGREEMENT"])
    assert f"{100 * alike:.1f} % of a sample" in line
    assert f"after a {kind} of features" in line
    assert f"({100 * float(without):.1f} % before)" in line
    assert alike > float(without)


def test_exact_mode_is_never_corrected(model, scene, tmp_path):
    task, exact = prepared(model, scene, mode="exact")
    choice = settled(task, exact)
    assert planned(exact, choice).sweep == exact.sweep
    task, exact = prepared(model, scene, mode="auto")
    choice = settled(task, exact)
    assert choice.mode == ("dense" if choice.agreement >= 0.95 else "exact")
    assert (planned(exact, choice).sweep.correction is None) == (choice.mode == "exact")


def test_the_sample_is_of_what_is_of_interest_and_its_halves_are_of_other_windows(model, scene):
    task, exact = prepared(model, scene, views=1)
    wanted = np.zeros_like(exact.interest)
    wanted[9:15, 2:20] = True
    blocks = list(_spread(SweepPlan(**vars(exact) | {"interest": wanted})))
    seen = np.zeros(wanted.shape, int)
    for block, _ in blocks:
        seen[block.rows, block.cols] += 1
    assert seen.max() == 1
    assert not seen[~wanted].any()
    assert {half for _, half in blocks} == {True, False}
    sample = sample_of(SweepPlan(**vars(exact) | {"interest": wanted}), exact.sweep, task.scene)
    assert len(sample.half) == len(sample.exact) == seen.sum()
    nowhere = SweepPlan(**vars(exact) | {"interest": np.zeros_like(wanted)})
    assert sample_of(nowhere, nowhere.sweep, task.scene) is None
    assert [part.stop - part.start for part in _runs(np.arange(7))] == [2, 2, 3]
