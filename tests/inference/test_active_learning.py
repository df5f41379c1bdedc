"""geotl suggest: where to label next, as points that give back exactly the windows meant."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from helpers.labelled_scenes import BANDS, PX, SMALL, made_scene
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.api import load
from geotl.cli.main import main
from geotl.data.chips import ChipRules, Occupied, place_chips
from geotl.data.labels import read_labels
from geotl.data.placement import window_about, windows_of
from geotl.data.tile_array import to_batch
from geotl.imagery.scene import open_scenes
from geotl.imagery.sensors import get_sensor
from geotl.inference.active_learning import (
    SuggestOptions,
    open_for,
    suggest,
    training_ground,
    training_px_m,
)
from geotl.inference.applicability import area_of_applicability
from geotl.inference.candidates import candidates, choose, features_and_probabilities
from geotl.inference.typical_choice import FEW_LABELS, choose_typical
from geotl.models.classifier import over_views, view_logits

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A scene, the labels of its western half, and a model of these."""
    folder = tmp_path_factory.mktemp("suggest")
    scene, labels = made_scene(folder)
    table = geopandas.read_file(labels)
    west = folder / "west.gpkg"
    table[table.geometry.x < 500000 + 16 * 10 * 6].to_file(west)
    recipe = folder / "small.yaml"
    recipe.write_text("title: small\n")
    settings = [
        *SMALL,
        "probe.views=4",
        f"data.scenes={scene}",
        f"labels.path={west}",
        f"labels.chip_px={PX}",
        "split.inner_folds=4",
    ]
    out = folder / "run"
    assert main(["run", str(recipe), *settings, "--output", str(out), "-q"]) == 0
    return scene, west, out / "model.safetensors"


def told(made: tuple[Path, Path, Path], out: Path, *more: str) -> int:
    return main(["suggest", str(made[2]), str(made[0]), "-o", str(out), "--by", "uncertain", *more])


def test_a_point_that_is_labelled_gives_exactly_its_window(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "next.gpkg"
    assert told(made, out, "-n", "6", "--ignore-applicability", "--stride-px", "5") == 0
    table = geopandas.read_file(out)
    assert len(table) == 6
    assert table["class"].isna().all()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    said = capsys.readouterr().out
    assert "windows examined" in said
    assert str(out) in said
    table["class"] = ["a", "b"] * 3
    table.to_file(out)
    scenes = open_scenes([made[0]], get_sensor("sentinel2_l2a"), BANDS)
    labels = read_labels(out, field="class", crs_to=scenes[0].grid.crs)
    placed = place_chips(scenes, labels, ChipRules(PX))
    assert not placed.rejected
    model = load(made[2]).model_file
    for chip, row in zip(placed.chips, table.itertuples(), strict=True):
        pixels, valid = scenes[0].read(chip.window)
        assert chip.window.row % 5 == 0
        assert chip.window.col % 5 == 0
        chances = features_and_probabilities(model, pixels[None], valid[None])[1][0]
        assert model.contract.classes[chances.argmax()] == row.suggested
        assert chances.max() == pytest.approx(row.confidence, abs=1e-5)


def test_empty_classes_are_told_as_such(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "next.gpkg"
    assert told(made, out, "-n", "3", "--ignore-applicability") == 0
    table = geopandas.read_file(out)
    table.loc[0, "class"] = "field"
    table.to_file(out)
    labels = read_labels(out, field="class", crs_to="EPSG:32633")
    assert [one.reason for one in labels.rejected] == ["no class"] * 2
    assert len(labels.labels) == 1


def test_windows_keep_off_labelled_ground_and_each_other(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.gpkg", tmp_path / "second.gpkg"
    assert told(made, first, "-n", "8", "--ignore-applicability", "--stride-px", "3") == 0
    table = geopandas.read_file(first)
    table["class"] = "field"
    table.to_crs("EPSG:4326").to_file(first)
    assert (
        told(
            made,
            second,
            "-n",
            "8",
            "--ignore-applicability",
            "--stride-px",
            "3",
            "--labels",
            str(first),
        )
        == 0
    )
    points = [
        *geopandas.read_file(first).to_crs("EPSG:32633").geometry,
        *geopandas.read_file(second).geometry,
    ]
    boxes = [shapely.box(p.x - 65, p.y - 55, p.x + 55, p.y + 65) for p in points]
    inner = shapely.buffer(boxes, -0.1)
    assert not any(a.intersects(b) for i, a in enumerate(inner) for b in inner[:i])
    trained = [shape for shape, _ in training_ground(load(made[2]).file)]
    assert len(trained) > 30
    assert not any(a.intersects(b) for a in inner for b in trained)


def test_training_ground_is_left_alone_in_a_scene_of_another_system(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model = load(made[2]).model_file
    with rasterio.open(made[0]) as image:
        pixels = image.read()
    there = geopandas.GeoSeries([shapely.Point(500960, 4599040)], crs="EPSG:32633")
    x, y = there.to_crs("EPSG:32632").get_coordinates().to_numpy()[0]
    other = write_tile(
        tmp_path / "other.tif",
        pixels,
        names=BANDS,
        crs="EPSG:32632",
        transform=from_origin(x - 960, y + 960, 10, 10),
    )
    scene = open_for(model, [other])[0]
    taken = Occupied(scene.grid, training_ground(model))
    seen = next(iter(candidates(model, [scene], [taken], ChipRules(PX))))
    assert 30 < seen.taken < 130
    place = geopandas.GeoSeries(
        [shape for shape, _ in training_ground(model)], crs="EPSG:32633"
    ).to_crs("EPSG:32632")
    for row, col in seen.candidates.corners.tolist():
        left, top = scene.grid.at(col, row)
        box = shapely.box(left + 0.1, top - PX * 10 + 0.1, left + PX * 10 - 0.1, top - 0.1)
        assert not place.intersects(box).any()


def test_unseen_windows_are_none_that_a_point_would_be_refused_in(
    made: tuple[Path, Path, Path],
) -> None:
    model = load(made[2]).model_file
    scene = open_for(model, [made[0]])[0]
    rules = ChipRules(PX, step_px=1)
    found = [
        (corner, one)
        for one in candidates(model, [scene], [Occupied(scene.grid, [])], ChipRules(PX, step_px=7))
        for corner in one.candidates.corners.tolist()
    ]
    got = {tuple(corner) for corner, _ in found}
    labels_at = {(r, c) for r in range(0, 192 - PX + 1, 7) for c in range(0, 192 - PX + 1, 7)}
    for row, col in labels_at:
        point = shapely.Point(col + PX // 2 + 0.5, row + PX // 2 + 0.5)
        chip = windows_of(point, scene, rules)
        assert isinstance(chip[0], str) == ((row, col) not in got)
        if (row, col) in got:
            assert chip == (window_about(point.x, point.y, PX),)


def test_features_are_those_of_the_coreset(made: tuple[Path, Path, Path]) -> None:
    model = load(made[2]).model_file
    held = model.training_samples
    features, chances = features_and_probabilities(model, held.examples, held.example_valid, "auto")
    nearest = np.linalg.norm(features[:, None] - held.features[None], axis=2).min(axis=1)
    assert (nearest < 1e-3).all()  # each example is a training tile of the coreset
    fill = model.network.normalise.fill.numpy().astype(float)
    image = to_batch(held.examples, held.example_valid, fill=fill)["image"]
    logits = view_logits(model.network, image).detach().numpy()
    assert (logits.argmax(1) == chances.argmax(1)).all()
    assert over_views(model.network, image, 4).shape[1] == 4


def test_fewer_inside_than_wanted_are_fewer_and_it_is_said(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(made[2]).model_file
    scene = open_for(model, [made[0]])[0]
    found = suggest(model, [scene], 500, SuggestOptions(by="uncertain"))
    area = area_of_applicability(model.training_samples.features, model.training_samples.folds)
    assert 0 < len(found) < 500
    assert max(found.dissimilarity) <= area.threshold
    assert any("fewer than the 500 wanted" in line for line in found.lines())
    more = suggest(model, [scene], 500, SuggestOptions(by="uncertain", outside=True))
    assert len(more) > len(found)
    inside = [value <= area.threshold for value in more.dissimilarity]
    assert inside == sorted(inside, reverse=True)
    assert sum(inside) == len(found)


def test_same_seed_same_points(made: tuple[Path, Path, Path]) -> None:
    model = load(made[2]).model_file
    scene = open_for(model, [made[0]])[0]
    first, second = (
        suggest(model, [scene], 5, SuggestOptions(by="uncertain", outside=True, seed=4))
        for _ in range(2)
    )
    assert first == second


def test_a_file_that_is_there_is_kept(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "next.gpkg"
    out.write_text("mine")
    assert told(made, out, "-n", "3") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert told(made, out, "-n", "3", "--ignore-applicability", "--overwrite") == 0
    assert len(geopandas.read_file(out)) == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sensor", "rgb"], "the model takes B02, B03, B04, B08"),
        (["-n", "0"], "-n"),
        (["--stride-px", "0"], "--stride-px: given 0"),
        (["--labels", "nowhere.gpkg"], "nowhere.gpkg"),
        (["--labels", "WEST", "--field", "clas"], "clas"),
        (["--sensor", "sentinel"], "sentinel"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    made: tuple[Path, Path, Path],
    tmp_path: Path,
    more: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(made[1]) if word == "WEST" else word for word in more]
    assert told(made, tmp_path / "next.gpkg", *given) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "next.gpkg").exists()


def test_a_scene_of_other_pixels_is_warned_of(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model = load(made[2]).model_file
    assert training_px_m(model) == pytest.approx(10)
    with rasterio.open(made[0]) as image:
        pixels = image.read()
    coarse = write_tile(
        tmp_path / "coarse.tif", pixels, names=BANDS, transform=from_origin(700000, 4600000, 20, 20)
    )
    found = suggest(
        model, open_for(model, [coarse, made[0]]), 4, SuggestOptions(by="uncertain", outside=True)
    )
    assert [note.split(":")[0] for note in found.notes] == ["coarse"]
    assert "20 m" in found.notes[0]


def test_nothing_left_says_why(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_tile(tmp_path / "small.tif", np.ones((4, 8, 8), np.uint16), names=BANDS)
    code = main(["suggest", str(made[2]), str(small), "-o", str(tmp_path / "a.gpkg"), "-q"])
    assert code == 2
    assert "smaller than the model's tiles" in capsys.readouterr().err


def test_the_most_uncertain_comes_first_and_copies_of_it_never() -> None:
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (50, 4))
    features[1:5] = features[0]
    sure = np.full(50, 0.2)
    sure[:5] = 1.0
    boxes = np.array([(2.0 * i, 0, 2.0 * i + 1, 1) for i in range(50)])
    rows = choose(features, sure, np.ones(50), boxes, np.ones(50, bool), n=10, seed=0)
    assert rows[0] < 5
    assert (rows[1:] >= 5).all()
    assert len(set(rows.tolist())) == 10


def test_few_labels_get_typical_windows_and_many_uncertain_ones(
    made: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red before: the most uncertain windows, whatever the number of labels."""
    model = load(made[2]).whole
    scene = open_for(model, [made[0]])[0]
    count = len(model.training_samples.features)
    assert FEW_LABELS == 50  # docs/BENCHMARKS.md
    monkeypatch.setattr("geotl.inference.active_learning.FEW_LABELS", count + 1)
    few = suggest(model, [scene], 6)
    assert any(f"{count} labels are few" in line for line in few.lines())
    assert all(reason.startswith("typical of ") for reason in few.reasons)
    assert few.points == suggest(model, [scene], 6, SuggestOptions(by="typical")).points
    uncertain = suggest(model, [scene], 6, SuggestOptions(by="uncertain"))
    assert few.points != uncertain.points
    monkeypatch.setattr("geotl.inference.active_learning.FEW_LABELS", count)
    assert suggest(model, [scene], 6) == uncertain


def test_typical_windows_share_no_ground_and_are_unlike_the_labelled(
    made: tuple[Path, Path, Path],
) -> None:
    model = load(made[2]).whole
    scene = open_for(model, [made[0]])[0]
    found = suggest(model, [scene], 8, SuggestOptions(by="typical", step_px=3, seed=2))
    again = suggest(model, [scene], 8, SuggestOptions(by="typical", step_px=3, seed=2))
    assert found == again
    boxes = shapely.buffer(
        [shapely.box(p.x - 65, p.y - 55, p.x + 55, p.y + 65) for p in found.points], -0.1
    )
    assert not any(a.intersects(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert len(found) == 8


def test_typical_choice_leaves_labelled_clusters_out() -> None:
    random = np.random.default_rng(4)
    middles = np.array([[10.0, 0.0], [0.0, 10.0], [-10.0, 0.0], [0.0, -10.0]])
    features = np.concatenate(
        [m + random.normal(0, 0.3, (20 + 10 * k, 2)) for k, m in enumerate(middles)]
    )
    owner = np.repeat(np.arange(4), [20, 30, 40, 50])
    boxes = np.arange(len(features))[:, None] * 2.0 + np.array([0.0, 0.0, 1.0, 1.0])
    chosen = choose_typical(features, middles[[3]], boxes, 3, 0)
    assert owner[chosen.rows].tolist() == [2, 1, 0]  # the largest first
    close = np.zeros_like(boxes) + np.array([0.0, 0.0, 1.0, 1.0])
    assert len(choose_typical(features, middles[[3]], close, 3, 0).rows) == 1
