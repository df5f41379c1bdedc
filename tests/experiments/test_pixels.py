"""`geotl run` of task pixels: labels, folds, the race, the model on all labels, bad input."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely
from helpers.labelled_scenes import PIXELS as SETTINGS
from helpers.labelled_scenes import made_scene
from helpers.tiles import write_tile
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.errors import RecipeError
from geotl.experiments import pixels
from geotl.experiments.draws import Draw, spatial_units
from geotl.experiments.pixel_draws import (
    MAX_SHARE,
    pixel_draws,
    random_draws,
    settle_folds,
    whole_draw,
)
from geotl.experiments.pixel_report import FoldResult
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.pixels import PixelRun, fit_on, open_pixels, score_fold
from geotl.experiments.recipe import load
from geotl.models.model_file import read_header
from geotl.models.pixel_file import is_pixel_model, load_pixel_model
from geotl.training.pixel_fusion import PixelFusion

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small scene of three classes with a point in each square."""
    return made_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def polygons(made: tuple[Path, Path]) -> Path:
    """Squares of 80 m about every other point, and one far from the scene."""
    points = geopandas.read_file(made[1]).iloc[::2]
    squares = [shapely.box(p.x - 40, p.y - 40, p.x + 40, p.y + 40) for p in points.geometry]
    squares[0] = shapely.box(0, 0, 10, 10)
    path = made[1].with_name("polygons.gpkg")
    points.set_geometry(squares).to_file(path)
    return path


def over(scene: Path, labels: Path) -> list[str]:
    return [f"data.scenes={scene}", f"labels.path={labels}"]


def run(out: Path, *settings: str) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    return main(["run", str(recipe), *SETTINGS, *settings, "--output", str(out), "-q"])


@pytest.fixture(scope="module")
def opened(made: tuple[Path, Path], polygons: Path) -> PixelRun:
    recipe = load(None, [*SETTINGS, *over(made[0], polygons), "labels.pixels_per_polygon=5"])
    return open_pixels(recipe, Path("absent"), resume=False, log=lambda _: None)


@pytest.fixture(scope="module")
def finished(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(out, *over(*made)) == 0
    return out


def test_a_run_leaves_a_model_its_scores_and_a_report(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["overall_accuracy"]["value"] > 0.9
    assert metrics["labels"] == 144 - metrics["rejected"]["nodata"]
    page = (finished / "report.html").read_text()
    assert "Compared with other methods, on the same folds" in page
    assert "random split" not in page
    places = [page.index(f'<section id="{name}"') for name in ("race", "classes", "stand", "folds")]
    assert places == sorted(places)
    for question in ("How accurate, and how sure?", "Compared with what?", "Which classes fail?"):
        assert page.index(question) < places[0]
    assert "What to try next, the most promising first" in page
    assert metrics["estimate"] in page
    assert metrics["estimate"].startswith("Accuracy is estimated by 3 blocked folds")
    assert f"all {metrics['labels']} labels" in metrics["estimate"]
    inside = {path.name for path in finished.iterdir()}
    assert {"recipe.yaml", "race.png", "confusion.png", "calibration.png"} <= inside


def test_every_label_is_tested_once_or_rejected(finished: Path) -> None:
    with (finished / "predictions.csv").open() as stream:
        tested = [row["path"].partition("@")[0] for row in csv.DictReader(stream)]
    with (finished / "rejected.csv").open() as stream:
        rejected = [row["id"] for row in csv.DictReader(stream)]
    assert len(tested) == len(set(tested))
    assert len({*tested, *rejected}) == len(tested) + len(rejected) == 144


def test_the_model_file_holds_members_and_all_labels(finished: Path) -> None:
    path = finished / "model.safetensors"
    assert is_pixel_model(path)
    file = load_pixel_model(path)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert file.notes["training"]["labels"] == metrics["labels"] == len(file.training.labels)
    assert {*file.training.folds.tolist()} == {0, 1, 2}
    assert file.training.features.shape[1] == sum(map(len, file.model.features.names.values()))
    assert file.contract.resolution_m == 10
    assert set(file.model.members) == set(metrics["members"])
    assert 4600000 - 1920 < file.training.places[:, 1].min() < 4600000


def test_inspect_tells_what_the_file_holds(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(finished / "model.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "of pixels)" in text
    assert "fitted on all" in text


def test_the_race_is_run_on_the_same_labels(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    race = metrics["race"]
    assert {"majority class", "forest, bands", "forest, bands + 3x3 and 5x5"} <= {*race}
    assert race["fused"]["value"] == metrics["overall_accuracy"]["value"]
    for name, gap in metrics["differences"].items():
        assert gap["value"] == pytest.approx(race["fused"]["value"] - race[name]["value"])
    best = max(race, key=lambda name: (race[name]["value"], name == "fused"))
    second = sorted(race, key=lambda name: (-race[name]["value"], name != "fused"))[1]
    gap = metrics["differences"][best if best != "fused" else second]
    sure = gap["low"] > 0 if best == "fused" else gap["high"] < 0
    verb = "wins" if sure else "leads within chance"
    if not sure and round(100 * gap["value"], 1) == 0:
        verb = f"equals {'fused' if best != 'fused' else second}"
    assert metrics["headline"].startswith(f"{best} {verb}: accuracy ")


def test_the_same_seed_gives_the_same_bytes(
    made: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    assert run(tmp_path / "run", *over(*made)) == 0
    for name in ("model.safetensors", "predictions.csv", "recipe.yaml"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_a_finished_run_is_not_repeated(
    made: tuple[Path, Path], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(finished, *over(*made)) == 2
    assert "--resume" in capsys.readouterr().err
    before = (finished / "model.safetensors").stat().st_mtime_ns
    assert run(finished, *over(*made), "--resume") == 0
    assert (finished / "model.safetensors").stat().st_mtime_ns == before


def test_a_killed_run_fits_no_finished_fold_again(
    made: tuple[Path, Path],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Red before: all folds were fitted again. A damaged record is, with a line."""
    out, fitted = tmp_path / "run", list[int]()

    def killed_at(last: int | None) -> None:
        def fold(opened: PixelRun, draw: Draw) -> FoldResult:
            if draw.number == last:
                raise KeyboardInterrupt
            fitted.append(draw.number)
            return score_fold(opened, draw)

        monkeypatch.setattr("geotl.experiments.pixels.score_fold", fold)

    killed_at(2)
    assert run(out, *over(*made)) == 130
    first, second = sorted((out / "folds").iterdir())
    second.write_text(second.read_text().replace("0", "1", 1))
    killed_at(None)
    capsys.readouterr()
    assert run(out, *over(*made), "--resume") == 0
    assert fitted[:2] == [0, 1]
    assert fitted[2:] == sorted(set(range(max(fitted) + 1)) - {0})
    assert f"{second}: is damaged" in "".join(capsys.readouterr())
    for name in ("model.safetensors", "predictions.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    metrics, same = (json.loads((path / "metrics.json").read_text()) for path in (out, finished))
    assert {**metrics, "seconds": 0} == {**same, "seconds": 0}
    assert first.exists()


def test_polygons_give_pixels_that_weigh_as_one_label(opened: PixelRun) -> None:
    samples = opened.samples
    labels = samples.placement.labels
    assert len(samples) == 5 * len(labels)
    assert [one.reason for one in samples.placement.rejected].count("outside") == 1
    assert samples.weight.sum() == pytest.approx(len(labels))
    assert len(set(samples.contents)) == len(samples)


def test_no_polygon_and_no_block_is_on_both_sides_of_any_fold(opened: PixelRun) -> None:
    samples, tested = opened.samples, []
    label = np.array(samples.groups)
    block = spatial_units(opened.recipe, samples, opened.recipe.seed)[0]

    def assert_apart(rows: np.ndarray, others: np.ndarray) -> None:
        assert not {*label[rows]} & {*label[others]}
        assert not {*block[rows]} & {*block[others]}

    for draw in pixel_draws(opened.recipe, samples):
        train, test = draw.split.train, draw.split.test
        assert_apart(train, test)
        assert draw.folds
        for fit, held in draw.folds:
            assert_apart(train[fit], train[held])
        tested += test.tolist()
    assert sorted(tested) == list(range(len(samples)))
    for fit, held in whole_draw(opened.recipe, samples).folds:
        assert_apart(fit, held)


@pytest.mark.parametrize("settings", [["split.method=group"], ["split.buffer_m=150"]])
def test_folds_by_label_and_with_a_buffer(opened: PixelRun, settings: list[str]) -> None:
    known = [] if "split.method=group" in settings else ["split.block_m=400"]
    own = [one for one in SETTINGS if "block_m" not in one]
    recipe = load(None, [*own, *known, "data.scenes=x.tif", "labels.path=y.gpkg", *settings])
    draws = pixel_draws(recipe, opened.samples)
    assert len(draws) == 3
    assert sum(len(draw.split.test) for draw in draws) == len(opened.samples)


def test_a_random_split_has_as_many_labels_and_tests_each_once(opened: PixelRun) -> None:
    samples = opened.samples
    spatial = pixel_draws(opened.recipe, samples)
    random = random_draws(opened.recipe, samples, spatial)
    group, tested = np.array(samples.groups), []
    for ours, theirs in zip(random, spatial, strict=True):
        for side in ("train", "test"):
            one, other = getattr(ours.split, side), getattr(theirs.split, side)
            counts = [np.bincount(samples.labels[rows], minlength=3) for rows in (one, other)]
            assert counts[0].tolist() == counts[1].tolist()
            assert {*group[one]} != {*group[other]}
        assert not {*group[ours.split.train]} & {*group[ours.split.test]}
        tested += ours.split.test.tolist()
    assert sorted(tested) == list(range(len(samples)))


def test_a_random_split_is_a_row_of_the_report(made: tuple[Path, Path], tmp_path: Path) -> None:
    """On squares of 160 m in blocks of 400 m both accuracies are high; the row is there."""
    out = tmp_path / "run"
    assert run(out, *over(*made), "evaluate.random_split=true") == 0
    metrics = json.loads((out / "metrics.json").read_text())
    random = metrics["random_split"]
    gap = random["accuracy"]["value"] - metrics["overall_accuracy"]["value"]
    assert random["difference"]["value"] == pytest.approx(gap)
    assert random["difference"]["low"] <= gap <= random["difference"]["high"]
    assert "random split, optimistic" in (out / "report.html").read_text()
    assert "random split, optimistic" not in metrics["race"]


def arrays(fusion: PixelFusion) -> dict[str, np.ndarray]:
    return {
        f"{name}.{key}": value
        for name, one in fusion.members.items()
        for key, value in vars(one.member).items()
        if isinstance(value, np.ndarray)
    }


def permuted(samples: PixelSamples, draw: Draw) -> PixelSamples:
    """The same with the labels of a fold's test pixels in another order."""
    own = list(samples.placement.pixels)
    names = [own[row].class_name for row in draw.split.test]
    for row, name in zip(draw.split.test, np.roll(names, 7), strict=True):
        own[row] = replace(own[row], class_name=str(name))
    return replace(samples, placement=replace(samples.placement, pixels=tuple(own)))


def test_labels_of_test_pixels_change_no_tensor(opened: PixelRun) -> None:
    draw = pixel_draws(opened.recipe, opened.samples)[0]
    other = permuted(opened.samples, draw)
    assert (other.labels != opened.samples.labels).any()
    first, second = (fit_on(replace(opened, samples=s), draw) for s in (opened.samples, other))
    assert first.weights == second.weights
    assert first.temperature == second.temperature
    for name, value in arrays(first).items():
        assert np.array_equal(value, arrays(second)[name]), name


def test_shots_are_labels_a_class_of_each_fold(opened: PixelRun) -> None:
    split = opened.recipe.split.model_copy(update={"shots": 3})
    recipe = opened.recipe.model_copy(update={"split": split})
    samples = opened.samples
    for draw in [*pixel_draws(recipe, samples), whole_draw(recipe, samples)]:
        train = draw.split.train
        for value in range(3):
            own = {samples.groups[row] for row in train if samples.labels[row] == value}
            assert len(own) == 3
        assert len(train) == 5 * 9


def test_a_class_in_one_fold_alone_is_tested_all_the_same(opened: PixelRun) -> None:
    own = list(opened.samples.placement.pixels)
    block = pixel_draws(opened.recipe, opened.samples)[0].split.test
    for row in block[:5]:  # the pixels of one label
        own[row] = replace(own[row], class_name="glacier")
    label = own[block[0]].label_id
    own = [replace(p, class_name="glacier") if p.label_id == label else p for p in own]
    samples = replace(
        opened.samples, placement=replace(opened.samples.placement, pixels=tuple(own))
    )
    lost = [
        pixels.score_fold(replace(opened, samples=samples), draw)
        for draw in pixel_draws(opened.recipe, samples)
        if "glacier" in {samples.classes[k] for k in samples.labels[draw.split.test]}
    ]
    assert lost[0].lacking == ("glacier",)
    assert np.isfinite(lost[0].logits).all()
    assert "no training label of glacier" in lost[0].line(3)


def test_features_do_not_depend_on_the_squares_they_are_read_in(
    opened: PixelRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotl.data.pixel_labels._READ_PX", 32)
    again = open_pixels(opened.recipe, Path("absent"), resume=False, log=lambda _: None).samples
    for block, values in opened.samples.features.items():
        assert np.array_equal(values, again.features[block]), block


def test_labels_without_a_band_are_told_and_used(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "scene.tif"
    scene.write_bytes(made[0].read_bytes())
    with rasterio.open(scene, "r+") as image:
        data = image.read()
        data[3, :50] = 0
        image.write(data)
    lines: list[str] = []
    recipe = load(None, [*SETTINGS, *over(scene, made[1])])
    samples = open_pixels(recipe, tmp_path / "run", resume=False, log=lines.append).samples
    assert len(samples) == len(samples.placement.labels) > 130
    assert [line for line in lines if "labels have no B08" in line]
    assert not samples.valid[3].all()
    recipe = load(None, [*SETTINGS, *over(scene, made[1]), "pixels.missing_bands=exclude"])
    fewer = open_pixels(recipe, tmp_path / "run", resume=False, log=lines.append).samples
    assert fewer.valid.all()
    assert (samples.of.missing_bands, fewer.of.missing_bands) == ("use", "exclude")
    lost = len(samples) - len(fewer)
    assert lost == (~samples.valid[3]).sum() > 20
    words = f"{lost} of 144 labels have no B08: they are not used (pixels.missing_bands: exclude)"
    assert fewer.missing() == (words,)
    assert words in lines
    assert sum(one.reason == "nodata" for one in fewer.placement.rejected) > lost


def test_a_class_without_a_label_left_is_the_first_that_is_said(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = geopandas.read_file(made[1])
    shapes = points.geometry.where(points["class"] != "water", points.translate(90000, 0))
    points.set_geometry(shapes).to_file(tmp_path / "labels.gpkg")
    out = tmp_path / "run"
    (tmp_path / "small.yaml").write_text("title: small\n")
    given = [*SETTINGS, *over(made[0], tmp_path / "labels.gpkg"), "labels.jitter_px=1"]
    assert main(["run", str(tmp_path / "small.yaml"), *given, "--output", str(out)]) == 0
    count = int((points["class"] == "water").sum())
    words = f"Class water lost all its labels (outside {count}): the model does not know"
    assert capsys.readouterr().out.startswith(words)
    assert json.loads((out / "metrics.json").read_text())["warnings"][0].startswith(words)
    page = (out / "report.html").read_text()
    assert page.index(words) < page.index("Accuracy is estimated by")
    assert page.count(words) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["labels.names={town: null, water: null}"], "labels of two classes at least are needed"),
        (["split.kfold=200"], "fewer than the 200 folds"),
        (["labels.crs=EPSG:32601"], "no label is near the imagery"),
        (
            ["split.method=stratified", "split.kfold=null", "split.block_m=null"],
            "split.method: given stratified with task pixels",
        ),
        (["split.kfold=null"], "split.kfold: given null with task pixels"),
        (["strategy=probe"], "strategy: given probe with task pixels"),
        (["model.weights=imagenet"], "imagenet: no such weight file; give 'none'"),
        (["pixels.windows_px=[4]"], "odd sides"),
        (["pixels.priors={fields: 1}"], "pixels.priors: given fields; did you mean 'field'?"),
        (["pixels.priors={field: 1}"], "pixels.priors: no number for town, water"),
        (["pixels.members=[logistic_deep]"], "members logistic_deep: with the features"),
    ],
)
def test_bad_input_ends_in_one_line(
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    told: str,
) -> None:
    labels = made[1]
    if settings[0].startswith("labels.crs"):
        labels = tmp_path / "labels.csv"
        labels.write_text("x,y,class\n100000,100000,wood\n100010,100000,farm\n")
    assert run(tmp_path / "run", *over(made[0], labels), *settings) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1


def test_pixels_need_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "data.root=somewhere") == 2
    error = capsys.readouterr().err
    assert "task: given pixels without data.scenes" in error
    assert len(error.strip().splitlines()) == 1


def test_a_class_raster_gives_pixels_of_each_class(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Floats with whole values, named in the recipe; each pixel is tested once."""
    raster = class_raster(made[1], tmp_path / "classes.tif", np.float32)
    names = "labels.names={'0': field, '1': town, '2': water}"
    out = tmp_path / "run"
    assert run(out, *over(made[0], raster), names, "labels.pixels_per_class=40") == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["labels"] == metrics["pixels"] == 120
    assert metrics["overall_accuracy"]["value"] > 0.9
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["path"].partition("@")[0] for row in rows}) == 120
    assert rows[0]["path"].startswith("raster:")
    assert load_pixel_model(out / "model.safetensors").model.classes == ("field", "town", "water")


def class_raster(points: Path, path: Path, kind: type, **profile: object) -> Path:
    """The classes of a scene's squares as a raster on its grid."""
    names = geopandas.read_file(points)["class"].map({"field": 0, "town": 1, "water": 2})
    squares = names.to_numpy(kind).reshape(1, 12, 12)
    return write_tile(path, squares.repeat(16, axis=1).repeat(16, axis=2), **profile)


def bad_labels(kind: str, points: Path, folder: Path) -> Path:
    """A file of labels that cannot be used, of the points of a scene."""
    table = geopandas.read_file(points)
    if kind == "another grid":
        place = rasterio.Affine(20, 0, 500000, 0, -20, 4600000)
        return class_raster(points, folder / "labels.tif", np.uint8, transform=place)
    if kind == "elsewhere":
        place = rasterio.Affine(10, 0, 900000, 0, -10, 4600000)
        return class_raster(points, folder / "labels.tif", np.uint8, transform=place)
    if kind == "one class":
        table = table[table["class"] == "town"]
    if kind == "outside":
        table = table.set_geometry(table.translate(50000, 0))
    if kind == "few":
        table = table.groupby("class").head(1).head(2)
    table.to_file(folder / "labels.gpkg")
    return folder / "labels.gpkg"


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("one class", "two classes at least are needed; label places of another class"),
        ("outside", "no label is near the imagery"),
        ("another grid", "gdalwarp -r near -t_srs EPSG:32633"),
        ("elsewhere", "give a class raster of the same place"),
        ("few", "2 labels can be used, fewer than the 3 folds of split.kfold; label more"),
    ],
)
def test_labels_that_cannot_be_used_leave_nothing_behind(
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    remedy: str,
) -> None:
    labels = bad_labels(kind, made[1], tmp_path)
    before = {*tmp_path.iterdir()}
    assert run(tmp_path / "run", *over(made[0], labels)) == 2
    error = capsys.readouterr().err
    assert str(labels) in error
    assert remedy in error
    assert len(error.strip().splitlines()) == 1
    assert {*tmp_path.iterdir()} == before | {tmp_path / "small.yaml"}


def test_other_commands_say_that_they_take_tiles(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    out = ["--output", str(tmp_path / "curve"), "-q"]
    assert main(["study", str(recipe), *SETTINGS, *over(*made), *out]) == 2
    assert "task: given pixels, which this command does not take" in capsys.readouterr().err


def test_the_split_of_pixels_is_blocks_unless_told() -> None:
    given = ["task=pixels", "data.scenes=a.tif", "labels.path=b.gpkg"]
    split = load(None, given).split
    assert (split.method, split.kfold, split.draws) == ("blocks", 5, 1)
    assert load(None, [*given, "split.shots=5"]).split.method == "blocks"
    assert load(None, [*given, "split.method=scene"]).split.kfold is None
    assert load(None, ["task=auto", *given[1:]]).task == "pixels"
    assert load(None, ["task=auto"]).task == "tiles"
    assert load(None, given[1:]).task == "pixels"
    assert load(None, [*given[1:], "labels.chip_px=16"]).task == "tiles"
    assert load(None, [*given[1:], "strategy=probe", "split.method=stratified"]).task == "tiles"
    with pytest.raises(RecipeError, match=r"labels\.unlabelled"):
        load(None, [*given, "labels.unlabelled_windows=5", "probe.semi_supervised=soft_labels"])


def test_the_sample_scene_in_blocks(tmp_path: Path) -> None:
    """Folds of like size; the fusion is not behind its best member by more than its interval."""
    assert main(["run", "sample_pixels", "--output", str(tmp_path / "run"), "-q"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["labels"] == 268
    assert all(gap["high"] >= 0 for gap in metrics["differences"].values())
    assert metrics["differences"]["forest, bands + 3x3 and 5x5"]["low"] > 0
    with (tmp_path / "run" / "predictions.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 268
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header["kind"] == "pixels"
    tensors = load_file(tmp_path / "run" / "model.safetensors")
    assert tensors["training.labels"].shape == (268,)


def test_folds_are_of_like_size(opened: PixelRun) -> None:
    recipe = load(None, [o for o in SETTINGS if "block_m" not in o] + over(Path("a"), Path("b")))
    lines: list[str] = []
    found = settle_folds(recipe, opened.samples, lines.append)
    assert found.split.block_m
    assert "labels resemble" in lines[0]
    weight = [
        opened.samples.weight[draw.split.test].sum() for draw in pixel_draws(found, opened.samples)
    ]
    assert max(weight) <= MAX_SHARE * sum(weight) / 3


def test_scenes_test_each_other(made: tuple[Path, Path], tmp_path: Path) -> None:
    second = tmp_path / "east.tif"
    second.write_bytes(made[0].read_bytes())
    with rasterio.open(second, "r+") as image:
        image.transform = rasterio.Affine(10, 0, 520000, 0, -10, 4600000)
    west = geopandas.read_file(made[1])
    east = west.set_geometry(west.geometry.translate(20000, 0))
    labels = tmp_path / "labels.gpkg"
    pandas.concat([west, east]).to_crs("EPSG:4326").to_file(labels)
    own = [one for one in SETTINGS if not one.startswith("split.")]
    given = [*own, f"data.scenes=[{made[0]},{second}]", f"labels.path={labels}"]
    recipe = load(None, [*given, "split.method=scene"])
    opened = open_pixels(recipe, tmp_path / "run", resume=False, log=lambda _: None)
    first, other = pixel_draws(opened.recipe, opened.samples)
    assert {opened.samples.scenes[row] for row in first.split.test} == {"scene"}
    assert {opened.samples.scenes[row] for row in first.split.train} == {"east"}
    assert len(first.split.test) == len(other.split.test)
    half = len(opened.samples) // 2
    for values in opened.samples.features.values():
        assert np.array_equal(values[:, :half], values[:, half:])
    gap = opened.samples.places[half:] - opened.samples.places[:half]
    np.testing.assert_allclose(gap, np.tile([20000.0, 0.0], (half, 1)), atol=1e-3)
