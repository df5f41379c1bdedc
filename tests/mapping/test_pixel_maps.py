"""Maps of pixel models: the same at any block size, after a kill, at edges and without data."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.map_fixtures import BANDS, CLASSES, made_pixels, patches, write_scene
from helpers.pixel_models import made_file, made_fusion, made_pixel_model
from helpers.tiles import ROOT
from rasterio.transform import Affine
from safetensors.numpy import load_file, save_file

import geotl
from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.evaluation.class_map import open_map
from geotl.evaluation.sample_design import training_boxes
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.mapping.window_store import SheetLayout, open_sheet
from geotl.models.model_file import read_header
from geotl.models.pixel_features import BlockFeatures, PixelFeatures
from geotl.models.pixel_file import TrainingPixels, load_pixel_model, save_pixel_model
from geotl.models.pixel_model import calibrated
from geotl.models.tensor_file import KEY

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = ("--probabilities", "--entropy", "--polygons", "--applicability")
METRICS = {
    "headline": "overall accuracy 0.910",
    "overall_accuracy": {"value": 0.91, "low": 0.85, "high": 0.95},
    "pixels": 120,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return made_pixel_model(folder / "m.safetensors", notes={"metrics": METRICS})


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Patches of three classes, 187 x 243 pixels, with holes in all bands and in one."""
    made = made_pixels(patches(8, 11), 24)[:, :187, :243]
    made[:, 100:, 200:] = 0
    made[2, 20:50, 120:160] = 0
    return made


@pytest.fixture(scope="module")
def scene(pixels, tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


def run(model: Path, scene: Path, out: Path, *more: str) -> int:
    return main(["map", str(model), str(scene), "-o", str(out), "-q", *more])


def layers_of(out: Path) -> dict[str, np.ndarray]:
    """The rasters of a map, by what stands behind its name."""
    found = {}
    for path in sorted(out.parent.glob(f"{out.stem}*.tif")):
        with rasterio.open(path) as held:
            found[path.stem.removeprefix(out.stem)] = held.read()
    return found


def mapped(model: Path, scene: Path, out: Path, *more: str) -> dict[str, np.ndarray]:
    out.parent.mkdir(exist_ok=True)
    assert run(model, scene, out, *more) == 0
    return layers_of(out)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_every_pixel_has_the_class_of_its_probabilities(model, pixels, scene, tmp_path):
    """Against the members' fusion, computed of the whole scene without blocks and strips."""
    found = mapped(model, scene, tmp_path / "m.tif", *LAYERS)
    fusion = load_pixel_model(model).model
    valid = pixels > 0
    block = BlockFeatures(fusion.features, pixels, valid)
    values = {k: v.reshape(len(v), -1) for k, v in block.strip(slice(None)).items()}
    plain = np.exp(fusion.log_probabilities(values)).T.reshape(-1, *pixels.shape[1:])
    there = valid.all(axis=0)
    assert (found[""][0] == 255).tolist() == (~there).tolist()
    np.testing.assert_allclose(found["_probabilities"][:, there], plain[:, there], atol=2e-5)
    clear = there & (np.sort(plain, axis=0)[-1] - np.sort(plain, axis=0)[-2] > 1e-4)
    np.testing.assert_array_equal(found[""][0][clear], plain.argmax(axis=0)[clear])
    with rasterio.open(tmp_path / "m.tif") as held, rasterio.open(scene) as given:
        assert (held.transform, held.shape, held.crs) == (given.transform, given.shape, given.crs)
    rows = (tmp_path / "m_areas.csv").read_text().splitlines()
    counted = sum(int(row.split(",")[-4]) for row in rows[1:4])
    assert counted == there.sum()


@pytest.fixture(scope="module")
def lenient(model, tmp_path_factory) -> Path:
    """The same model, which uses pixels that lack some bands."""
    file = load_pixel_model(model)
    features = replace(file.model.features, missing_bands="use")
    path = tmp_path_factory.mktemp("lenient") / "m.safetensors"
    save_pixel_model(path, replace(file, model=replace(file.model, features=features)))
    return path


def test_pixels_that_lack_some_bands_get_a_class_where_the_model_uses_them(
    lenient, model, pixels, scene, tmp_path, capsys
):
    """The class of the bands they have, counted in what is printed, in the tags and on the page."""
    out = tmp_path / "m.tif"
    assert main(["map", str(lenient), str(scene), "-o", str(out), "--block-px", "64"]) == 0
    fusion = load_pixel_model(lenient).model
    assert fusion.features.missing_bands == "use"
    valid = pixels > 0
    block = BlockFeatures(fusion.features, pixels, valid)
    values = {k: v.reshape(len(v), -1) for k, v in block.strip(slice(None)).items()}
    plain = fusion.log_probabilities(values).T.reshape(-1, *pixels.shape[1:])
    found, some = layers_of(out)[""][0], valid.any(axis=0)
    assert (found == 255).tolist() == (~some).tolist()
    clear = some & (np.sort(plain, axis=0)[-1] - np.sort(plain, axis=0)[-2] > 1e-3)
    np.testing.assert_array_equal(found[clear], plain.argmax(axis=0)[clear])
    partial = int((some & ~valid.all(axis=0)).sum())
    share = 100 * partial / some.sum()
    words = f"{partial:,} pixels ({share:.2g} %) lack some bands"
    assert partial == 30 * 40
    assert f"{words}, about 12 ha; the other bands" in capsys.readouterr().out
    assert open_map(out).tags["GEOTL_MISSING_BANDS"] == f"use: {words}"
    page = out.with_suffix(".html").read_text()
    assert "valid in one band at least" in page
    assert words in page
    strict = mapped(model, scene, tmp_path / "strict" / "m.tif")[""][0]
    assert ((strict == 255) & (found != 255)).sum() == partial
    tags = open_map(tmp_path / "strict" / "m.tif").tags
    assert tags["GEOTL_MISSING_BANDS"] == "exclude"
    assert "valid in all bands" in (tmp_path / "strict" / "m.html").read_text()


def test_a_file_that_says_nothing_of_missing_bands_excludes_them(lenient, scene, tmp_path):
    """As files of earlier versions, whose maps stay what they were."""
    tensors, header = load_file(lenient), read_header(lenient)
    assert header["features"].pop("missing_bands") == "use"
    old = tmp_path / "old.safetensors"
    del header["checksum"]
    save_file(tensors, old, metadata={KEY: json.dumps(header)})
    found = mapped(old, scene, tmp_path / "m.tif", "--no-page")[""][0]
    assert (found[20:50, 120:160] == 255).all()


def test_a_scene_without_a_band_anywhere_is_mapped_by_the_others(lenient, pixels, tmp_path):
    given = np.ascontiguousarray(pixels[:, :40, :50])
    given[3] = 0
    scene = write_scene(tmp_path / "s.tif", given, nodata=0)
    found = mapped(lenient, scene, tmp_path / "m.tif", "--no-page", "--skip-value-check")
    assert (found[""][0] != 255).all()


@pytest.mark.parametrize("block_px", [1, 3, 64, 100])
def test_every_block_size_gives_the_same_map(lenient, scene, tmp_path, block_px):
    """All layers to the bit, at the scene's edges, beside holes and where a band is missing."""
    model = lenient
    if block_px < 8:  # a scene of a few pixels
        scene = write_scene(tmp_path / "s.tif", made_pixels(patches(2, 2), 4)[:, :6, :5])
    whole = mapped(model, scene, tmp_path / "whole" / "m.tif", *LAYERS, "--block-px", "1024")
    words = (*LAYERS, "--block-px", str(block_px))
    same(whole, mapped(model, scene, tmp_path / "blocks" / "m.tif", *words))


def test_the_sample_scene_is_mapped_alike_at_any_block_size(tmp_path):
    """Ten bands, windows up to 33 pixels, nodata along an edge: as its labels would be mapped."""
    scene, file = ROOT / "sample_tiles" / "scene.tif", tmp_path / "m.safetensors"
    sample_model(file, scene)
    words = ("--probabilities", "--entropy", "--applicability")
    found = {
        size: mapped(
            file,
            scene,
            tmp_path / str(size) / "m.tif",
            "--no-page",
            *words,
            "--block-px",
            str(size),
        )
        for size in (1024, 256, 128)
    }
    same(found[1024], found[256])
    same(found[1024], found[128])
    with rasterio.open(ROOT / "sample_tiles" / "truth.tif") as held:
        truth = held.read(1)
    there = (truth != 255) & (found[1024][""][0] != 255)
    assert (found[1024][""][0] == truth)[there].mean() > 0.7


def sample_model(path: Path, scene: Path) -> None:
    """A model of the sample scene, fitted to 60 pixels a class of its truth."""
    sensor = get_sensor("sentinel2_l2a_n0400")
    with rasterio.open(scene) as held:
        names = held.descriptions
    opened = open_scene(scene, sensor, names)
    data, valid = opened.read(Window(0, 0, opened.grid.height, opened.grid.width))
    with rasterio.open(ROOT / "sample_tiles" / "truth.tif") as held:
        truth = held.read(1)
        classes = tuple(held.tags()[f"CLASS_{k}"] for k in range(9))
    flat = data.reshape(len(names), -1).astype(float)
    mean, sd = flat.mean(axis=1), flat.std(axis=1)
    features = PixelFeatures(
        tuple(names), sensor.wavelengths(names), tuple(mean.tolist()), tuple(sd.tolist()), 1000.0
    )
    random = np.random.default_rng(0)
    free = truth * valid.all(axis=0) + 255 * ~valid.all(axis=0)
    places = np.concatenate(
        [random.choice(np.argwhere(free == k), 60, replace=False) for k in range(9)]
    )
    rows, cols = places.T
    values, labels = BlockFeatures(features, data, valid).at(rows, cols), truth[rows, cols]
    fusion = made_fusion(features, values, labels.astype(np.int64), classes, n_estimators=8)
    training = TrainingPixels(
        np.concatenate(list(values.values())).T.copy(),
        labels.astype(np.int64),
        np.arange(540) % 3,
        np.full((540, 2), np.nan),
    )
    made = made_file(fusion, training, [f"#{k}0{k}0{k}0" for k in range(9)], sensor=sensor)
    save_pixel_model(path, made)


class KilledError(Exception):
    """A run that ends before its time."""


@pytest.mark.parametrize("when", ["blocks", "drawing"])
def test_killed_and_run_again_every_file_is_identical(lenient, scene, tmp_path, monkeypatch, when):
    """What is counted of pixels that lack some bands too."""
    model = lenient
    whole, out = tmp_path / "whole" / "m.tif", tmp_path / "cut" / "m.tif"
    words = (*LAYERS, "--block-px", "64")
    plain = ProgressLine.counter

    def counter(line, told):
        inner = plain(line, told)

        def tell(done, total):
            inner(done, total)
            if told == when and done == {"blocks": 5, "drawing": 1}[when]:
                raise KilledError

        return tell

    with monkeypatch.context() as patch:
        patch.setattr(ProgressLine, "counter", counter)
        with pytest.raises(KilledError):
            mapped(model, scene, out, *words)
    assert not out.exists()
    date = json.loads((out.parent / ".m.tif.sweep" / "sweep.json").read_text())["note"]["date"]
    time.sleep(1.1)  # another second, another date
    same(mapped(model, scene, whole, *words), mapped(model, scene, out, *words))
    first = open_map(whole).tags["GEOTL_DATE"]
    assert open_map(out).tags["GEOTL_DATE"] == date != first
    for path in sorted(whole.parent.iterdir()):
        again = (out.parent / path.name).read_bytes().replace(date.encode(), b"")
        assert path.read_bytes().replace(first.encode(), b"") == again, path.name


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 3), (40, 2)])
def test_scenes_smaller_than_the_halo_are_mapped(model, tmp_path, shape):
    pixels = made_pixels(patches(1, 1, seed=9), 40)[:, : shape[0], : shape[1]]
    scene = write_scene(tmp_path / "s.tif", np.ascontiguousarray(pixels))
    found = mapped(model, scene, tmp_path / "m.tif", "--block-px", "16", "--skip-value-check")
    assert found[""].shape == (1, *shape)
    assert (found[""] < 3).all()


def test_a_scene_with_south_up_has_the_same_map(model, pixels, tmp_path):
    """Its rows are read in the other order, and the map has north up."""
    up = write_scene(tmp_path / "up.tif", pixels, nodata=0)
    place = Affine(10, 0, 500000, 0, 10, 4600000 - 10 * pixels.shape[1])
    down = write_scene(
        tmp_path / "down.tif", np.ascontiguousarray(pixels[:, ::-1]), nodata=0, transform=place
    )
    one = mapped(model, up, tmp_path / "one" / "m.tif", "--block-px", "100")
    two = mapped(model, down, tmp_path / "two" / "m.tif", "--block-px", "100")
    same(one, two)
    with rasterio.open(tmp_path / "two" / "m.tif") as held, rasterio.open(up) as given:
        assert held.transform == given.transform


def test_an_area_of_interest_has_the_pixels_of_the_whole_map(model, scene, tmp_path):
    whole = mapped(model, scene, tmp_path / "whole" / "m.tif")[""]
    box = ("500330", "4599000", "501010", "4599710")
    part = mapped(model, scene, tmp_path / "part" / "m.tif", "--bbox", *box, "--block-px", "50")[""]
    np.testing.assert_array_equal(part, whole[:, 29:100, 33:101])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
def test_what_is_kept_on_disk_takes_no_memory(tmp_path):
    """Probabilities of all pixels of a scene are more than a machine may hold."""

    def held() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    sheet = open_sheet(tmp_path / "s", "k", {}, SheetLayout((1000, 2000), (9, 9), 10, 1, 4))
    before = held()
    sheet.probabilities[:] = 7
    assert held() - before > 30_000
    sheet.keep()
    assert held() - before < 5_000
    assert (sheet.probabilities == 7).all()
    sheet.forget()
    assert held() - before < 5_000


def test_a_map_says_which_members_made_it(model, scene, tmp_path):
    run(model, scene, tmp_path / "m.tif")
    tags = open_map(tmp_path / "m.tif").tags
    assert tags["GEOTL_MEMBERS"] == "wide 0.50, bands 0.25, forest 0.25"
    assert tags["GEOTL_ENGINE"].startswith("numpy ")
    assert len(training_boxes(tags)) == 300
    page = (tmp_path / "m.html").read_text()
    assert "Members and weights" in page
    assert "wide 0.50; bands 0.25; forest 0.25" in page  # a name may have a comma
    assert "on 120 test pixels" in page
    for foreign in ("network", "dense", "training tiles", "labelled tiles", "Window [px]"):
        assert foreign not in page, foreign


@pytest.mark.parametrize("member", ["bands", "forest"])
def test_a_member_maps_alone(model, pixels, scene, tmp_path, member):
    """As the report may advise; its tags name it, and no other member counts."""
    found = mapped(model, scene, tmp_path / "m.tif", "--member", member, "--probabilities")
    fusion = load_pixel_model(model).model
    block = BlockFeatures(fusion.features, pixels, pixels > 0)
    rows, cols = np.array([3, 90, 150]), np.array([7, 11, 190])
    own = fusion.members[member].log_probabilities(block.at(rows, cols))
    plain = calibrated(own, fusion.temperatures[member])
    there = found["_probabilities"][:, rows, cols]
    np.testing.assert_allclose(there, np.exp(plain).T, atol=1e-4)
    with rasterio.open(tmp_path / "m.tif") as held:
        assert held.tags()["GEOTL_MEMBERS"] == f"{member} 1.00"


def test_a_member_that_is_not_there_is_refused(model, scene, tmp_path, capsys):
    assert run(model, scene, tmp_path / "m.tif", "--member", "forests") == 2
    assert "member 'forests' is not in this model" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_map_comes_as_a_data_set(model, scene):
    pytest.importorskip("rioxarray")
    found = geotl.load(model).map(scene)
    assert found["classes"].shape == (187, 243)
    assert found["classes"].attrs["class_names"] == list(CLASSES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mode", "dense"], "--mode dense does not go with a model of pixels"),
        (["--views", "4"], "--views does not go with a model of pixels"),
        (["--stride-px", "8"], "--stride-px does not go with a model of pixels"),
        (
            ["--stride-px", "1", "--resolution-px", "2"],
            "--resolution-px does not go with a model of pixels",
        ),
        (["--precision", "bfloat16"], "which computes in float32"),
        (["--engine", "openvino"], "runs only exported files, not a model of pixels"),
    ],
)
def test_what_does_not_go_is_told_in_a_line(model, scene, tmp_path, capsys, words, told):
    assert run(model, scene, tmp_path / "m.tif", *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--views", "1"], ["--stride-px", "1"], ["--mode", "exact"]])
def test_what_comes_to_the_same_is_taken(model, scene, tmp_path, words):
    assert run(model, scene, tmp_path / "m.tif", "--no-page", *words) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "MODEL", "SCENE", "-o", "OUT"],
        ["evaluate", "MODEL", "SCENE"],
    ],
    ids=lambda words: " ".join(words[:1] + words[3:4]),
)
def test_commands_for_tiles_say_what_to_use_instead(model, scene, tmp_path, capsys, words):
    known = {"MODEL": str(model), "SCENE": str(scene), "OUT": str(tmp_path / "out")}
    assert main([known.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{model}: a model of pixels, which is not supported here; map scenes" in error
    assert not list(tmp_path.iterdir())


def test_inspect_tells_what_a_pixel_model_is(model, capsys):
    assert main(["inspect", str(model)]) == 0
    told = capsys.readouterr().out
    assert "bands (linear), forest (forest)" in told
    assert "wide 0.50, bands 0.25, forest 0.25" in told
    assert "windows of 3, 7, 15 px" in told
    assert ", ".join(BANDS) in told
    assert "overall accuracy 0.910" in told
    assert len(told.splitlines()) < 13
    assert main(["inspect", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "pixels"


def test_several_scenes_are_mapped_into_a_folder(model, pixels, tmp_path):
    """Each as it would be alone."""
    for name, part in {"a": pixels[:, :60, :70], "b": pixels[:, 60:, 70:]}.items():
        write_scene(tmp_path / "in" / f"{name}.tif", np.ascontiguousarray(part), nodata=0)
    words = ["map", str(model), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-q"]
    assert main([*words, "--workers", "1"]) == 0
    alone = mapped(model, tmp_path / "in" / "b.tif", tmp_path / "b.tif", "--no-page")
    np.testing.assert_array_equal(layers_of(tmp_path / "out" / "b.tif")[""], alone[""])


def test_a_scene_without_a_band_is_told(model, pixels, tmp_path, capsys):
    scene = tmp_path / "s.tif"
    with rasterio.open(
        scene,
        "w",
        driver="GTiff",
        count=3,
        height=187,
        width=243,
        dtype="uint16",
        crs="EPSG:32633",
        transform=Affine(10, 0, 500000, 0, -10, 4600000),
    ) as to:
        to.write(pixels[:3])
        to.descriptions = BANDS[:3]
    assert run(model, scene, tmp_path / "m.tif") == 2
    assert "no band B08, which this model needs" in capsys.readouterr().err


def test_a_scene_without_a_valid_pixel_is_told(model, tmp_path, capsys):
    scene = write_scene(tmp_path / "s.tif", np.zeros((4, 30, 30), np.uint16), nodata=0)
    assert run(model, scene, tmp_path / "m.tif") == 2
    assert "no pixel that is valid in every band, so nothing to map" in capsys.readouterr().err


def test_the_page_of_a_member_shows_the_accuracy_of_that_member(scene, tmp_path):
    """Not that of the fused model; a member without a test is unknown."""
    interval = {"value": 0.9123, "low": 0.85, "high": 0.95}
    metrics = {
        "headline": "fused wins: accuracy 0.912",
        "overall_accuracy": interval,
        "labels": 300,
        "race": {"fused": interval, "bands, ": {"value": 0.4567, "low": 0.4, "high": 0.5}},
        "per_class": {"field": {"f1": 0.9, "precision": 0.9, "recall": 0.9, "support": 100}},
        "bootstrap": {"kappa": interval},
    }
    model = made_pixel_model(tmp_path / "m.safetensors", notes={"metrics": metrics})
    pages = []
    for member in ("bands", "wide"):
        out = tmp_path / f"{member}.tif"
        assert run(model, scene, out, "--member", member) == 0
        pages.append(out.with_suffix(".html").read_text())
    assert "0.457" in pages[0]
    assert "never tested" in pages[1]
    for page in pages:
        assert "0.912" not in page
        assert "Kappa" not in page
