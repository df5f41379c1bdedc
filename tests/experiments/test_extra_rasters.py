"""`pixels.extra` from recipe to map: what heights add, the same map in any blocks, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
import torch
from helpers.extra_rasters import SIDE, class_at, dem_of, made_dem, made_scene, middles
from helpers.labelled_scenes import PIXELS as SETTINGS
from helpers.map_fixtures import made_model
from helpers.pixel_models import made_pixel_model, small_network
from helpers.tiles import write_tile
from rasterio.transform import from_origin
from safetensors.numpy import load_file, save_file

import geotl
from geotl.cli.main import main
from geotl.console import ProgressLine
from geotl.data.labels import read_labels
from geotl.evaluation.class_map import open_map
from geotl.export.pixel_export import deployed_pixels, graph_halo, mapped_pixels
from geotl.imagery.scene_list import Entry
from geotl.inference.onnx_file import read_passport
from geotl.inference.pixel_candidates import pixel_features
from geotl.mapping.jobs import Job, mark_of
from geotl.mapping.options import MapOptions
from geotl.mapping.task import Reading
from geotl.models.deep_features import DEEP
from geotl.models.model_file import read_header
from geotl.models.pixel_features import BANDS, WIDE
from geotl.models.pixel_file import load_pixel_model
from geotl.models.tensor_file import KEY

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")
PLACE = from_origin(500000, 4600000, 10, 10)


class KilledError(Exception):
    """A run that ends before its time."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene of noise, and labels whose class depends on the height."""
    return made_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def dem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_dem(tmp_path_factory.mktemp("dem") / "dem.tif")


@pytest.fixture(scope="module")
def trained(made: tuple[Path, Path], dem: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the height."""
    out = tmp_path_factory.mktemp("runs") / "with"
    assert run(out, made, f"pixels.extra=[{dem}]") == 0
    return out


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    return trained / "model.safetensors"


def run(out: Path, made: tuple[Path, Path], *settings: str) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    given = [f"data.scenes=[{made[0]}]", f"labels.path={made[1]}", "pixels.windows_px=[3,7]"]
    return main(["run", str(recipe), *SETTINGS, *given, *settings, "--output", str(out)])


def mapped(model: Path, scene: Path, out: Path, *more: str) -> np.ndarray:
    """Classes [H,W] of a map."""
    out.parent.mkdir(exist_ok=True)
    assert main(["map", str(model), str(scene), "-o", str(out), "-q", "--no-page", *more]) == 0
    with rasterio.open(out) as source:
        return source.read(1)


def accuracy(folder: Path) -> float:
    return json.loads((folder / "metrics.json").read_text())["overall_accuracy"]["value"]


def one_line(text: str) -> str:
    """What was printed as an error, which is one line."""
    assert len(text.strip().splitlines()) == 1
    return text


def test_classes_of_height_are_told_by_the_height_alone(
    trained: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run(tmp_path / "without", made) == 0
    assert accuracy(tmp_path / "without") < 0.5
    assert accuracy(trained) > 0.8


def test_the_model_file_names_its_extra_bands(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = load_pixel_model(model)
    assert file.contract.bands == ("B02", "B03", "B04", "B08")
    assert file.contract.extra_bands == ("dem_1",)
    assert file.contract.extra_files == ("dem.tif",)
    features = file.model.features
    assert (features.bands[4:], features.wavelengths[4:], features.extra) == (
        ("dem_1",),
        (None,),
        1,
    )
    assert len(features.pairs) == 6  # of blue, green, red and near infrared
    assert "gradient of dem_1 in 7 px" in features.names[WIDE]
    assert 500 < features.mean[4] < 700
    assert len(file.seen.mean) == 4
    assert main(["inspect", str(model)]) == 0
    assert "extra    dem_1 (dem.tif)\n" in capsys.readouterr().out


def test_the_run_says_which_labels_lack_the_height(
    made: tuple[Path, Path], dem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or, if wanted, leaves them out."""
    words = ["pixels.missing_bands=exclude", f"pixels.extra=[{dem}]"]
    assert run(tmp_path / "run", made, *words) == 0
    assert "labels have no dem_1: they are not used" in capsys.readouterr().out
    features = load_pixel_model(tmp_path / "run" / "model.safetensors").model.features
    assert (features.missing_bands, features.extra) == ("exclude", 1)


def test_maps_follow_the_height_and_are_the_same_in_any_blocks(
    model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    """A pixel without a height has a class all the same, one without the scene has none."""
    layers = ("--extra", str(dem), "--probabilities", "--smooth-px", "5")
    whole = mapped(model, made[0], tmp_path / "whole" / "m.tif", *layers)
    x, y = middles(PLACE, (SIDE, SIDE))
    right = whole == class_at(x, y)
    assert right[100:, :175].mean() > 0.85
    assert (whole[:30, :30] == 255).all()
    assert (whole[30:] != 255).all()
    for size in ("23", "64"):
        out = tmp_path / size / "m.tif"
        other = mapped(model, made[0], out, *layers, "--block-px", size)
        np.testing.assert_array_equal(whole, other)
        for name in ("m_probabilities.tif", "m_confidence.tif"):
            same = [rasterio.open(tmp_path / s / name).read() for s in ("whole", size)]
            np.testing.assert_array_equal(*same)
    tags = open_map(tmp_path / "whole" / "m.tif").tags
    assert tags["GEOTL_EXTRA"] == "dem_1 (dem.tif)"
    assert tags["GEOTL_MISSING_BANDS"].startswith("use: ")
    assert not tags["GEOTL_MISSING_BANDS"].startswith("use: 0 pixels")


def test_heights_keep_their_unit_where_the_scene_has_another_scale(
    model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    """Numbers of baseline 04.00 lie 1000 above; the height is no number of the sensor."""
    plain = mapped(model, made[0], tmp_path / "a" / "m.tif", "--extra", str(dem))
    with rasterio.open(made[0]) as source:
        data = source.read()
    raised = np.where(data > 0, data + 1000, 0).astype(np.uint16)
    scene = write_tile(tmp_path / "s.tif", raised, names=["B02", "B03", "B04", "B08"], nodata=0)
    words = ("--extra", str(dem), "--sensor", "sentinel2_l2a_n0400")
    np.testing.assert_array_equal(plain, mapped(model, scene, tmp_path / "b" / "m.tif", *words))


def test_the_picture_of_a_map_shows_the_scene(
    model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    words = ["map", str(model), str(made[0]), "-o", str(tmp_path / "m.tif"), "-q"]
    assert main([*words, "--extra", str(dem)]) == 0
    page = (tmp_path / "m.html").read_text()
    assert "Picture of the scene" in page
    assert "dem_1 (dem.tif)" in page


def test_a_map_in_python_takes_the_rasters_too(
    model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    found = geotl.load(model).map(made[0], extra=[dem])
    on_disk = mapped(model, made[0], tmp_path / "m.tif", "--extra", str(dem))
    np.testing.assert_array_equal(found.classes.values, on_disk)


def test_two_rasters_are_told_apart_by_their_names(
    made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    """In whatever order a map gives them."""
    noise = np.random.default_rng(1).normal(size=(2, SIDE, SIDE)).astype(np.float32)
    sar = write_tile(tmp_path / "sar.tif", noise, names=["VV", "VH"])
    assert run(tmp_path / "run", made, f"pixels.extra=[{sar},{dem}]") == 0
    model = tmp_path / "run" / "model.safetensors"
    assert load_pixel_model(model).contract.extra_bands == ("VV", "VH", "dem_1")
    assert load_pixel_model(model).contract.extra_files == ("sar.tif", "sar.tif", "dem.tif")
    one, other = (
        mapped(model, made[0], tmp_path / name / "m.tif", *words)
        for name, words in {
            "a": ("--extra", str(sar), "--extra", str(dem)),
            "b": ("--extra", str(dem), "--extra", str(sar)),
        }.items()
    )
    np.testing.assert_array_equal(one, other)


def test_a_map_that_goes_on_notices_another_height(
    model: Path,
    made: tuple[Path, Path],
    dem: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = tmp_path / "dem.tif"
    own.write_bytes(dem.read_bytes())
    words = ("--extra", str(own), "--block-px", "64")
    job = ["map", str(model), str(made[0]), "-o", str(tmp_path / "m.tif"), "-q", "--no-page"]

    def killed(self: ProgressLine, title: str) -> object:
        def progress(done: int, _: int) -> None:
            if done == 5:
                raise KilledError

        return progress

    with monkeypatch.context() as patch:
        patch.setattr(ProgressLine, "counter", killed)
        with pytest.raises(KilledError):
            main([*job, *words])
    dem_of(own, "EPSG:32633", from_origin(500400, 4600000, 10, 10), (SIDE, SIDE))
    found = mapped(model, made[0], tmp_path / "m.tif", *words)
    fresh = mapped(model, made[0], tmp_path / "fresh" / "m.tif", *words)
    np.testing.assert_array_equal(found, fresh)


def test_a_finished_map_is_known_by_its_rasters_too(
    model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    own = tmp_path / "dem.tif"
    own.write_bytes(dem.read_bytes())
    entry = Entry(made[0].stem, made[0])
    job = Job(entry, model, tmp_path / "m.tif", MapOptions(), Reading(extra=(own,)))
    first = mark_of(job)
    assert mark_of(job) == first
    dem_of(own, "EPSG:32633", PLACE, (SIDE, SIDE))
    assert mark_of(job) != first


def bad(kind: str, folder: Path) -> list[Path]:
    """Rasters that no recipe can use."""
    one, path = np.ones((1, SIDE, SIDE), np.float32), folder / "bad.tif"
    if kind == "no system":
        write_tile(path, one, crs=None)
    if kind == "elsewhere":
        write_tile(path, one, transform=from_origin(700000, 4600000, 10, 10))
    if kind == "text":
        path.write_text("no raster")
    if kind == "twice":
        return [write_tile(path, one)] * 2
    return [path]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no system", "set it (gdal_edit.py"),
        ("elsewhere", "give a raster that covers it"),
        ("text", "bad.tif"),
        ("gone", "no such file"),
        ("twice", "more than one extra band is called bad_1"),
    ],
)
def test_rasters_that_do_not_go_are_refused_in_one_line(
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    words: str,
) -> None:
    paths = ",".join(map(str, bad(kind, tmp_path)))
    assert run(tmp_path / "run", made, f"pixels.extra=[{paths}]") == 2
    error = one_line(capsys.readouterr().err)
    assert words in error
    assert str(tmp_path / "bad.tif") in error
    assert not (tmp_path / "run").exists()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 2
    return one_line(capsys.readouterr().err)


def test_a_map_without_the_rasters_is_refused(
    model: Path, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("map", str(model), str(made[0]), "-o", str(tmp_path / "m.tif"), "-q")
    assert "dem_1 (dem.tif)" in refusal(capsys, *words)
    assert "--extra dem.tif" in refusal(capsys, *words)
    other = dem_of(tmp_path / "height.tif", "EPSG:32633", PLACE, (SIDE, SIDE))
    assert "--extra gives height_1, the model wants" in refusal(
        capsys, *words, "--extra", str(other)
    )
    far = dem_of(
        tmp_path / "dem.tif", "EPSG:32633", from_origin(700000, 4600000, 10, 10), (SIDE, SIDE)
    )
    assert f"{far}: does not meet the scene" in refusal(capsys, *words, "--extra", str(far))
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize("kind", ["pixels", "tiles", "exported"])
def test_rasters_that_no_model_wants_are_refused(
    made: tuple[Path, Path],
    dem: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    make = made_pixel_model if kind == "pixels" else made_model
    model = make(tmp_path / "m.safetensors")
    if kind == "exported":
        whole, model = model, tmp_path / "m.onnx"
        assert main(["export", str(whole), "--format", "onnx", "-o", str(model)]) == 0
    words = ("map", str(model), str(made[0]), "-o", str(tmp_path / "m.tif"), "-q")
    assert "trained without extra rasters" in refusal(capsys, *words, "--extra", str(dem))


def test_a_raster_is_not_overwritten_by_the_map(
    model: Path,
    made: tuple[Path, Path],
    dem: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "dem.tif"
    own.write_bytes(dem.read_bytes())
    words = ("map", str(model), str(made[0]), "-o", str(own), "-q", "--overwrite")
    assert str(own) in refusal(capsys, *words, "--extra", str(own))
    assert own.read_bytes() == dem.read_bytes()


def test_suggestions_of_such_a_model_want_its_rasters(
    model: Path,
    made: tuple[Path, Path],
    dem: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "s.gpkg"
    words = (
        "suggest",
        str(model),
        str(made[0]),
        "-n",
        "5",
        "-o",
        str(out),
        "-q",
        "--ignore-applicability",
    )
    assert "give rasters of the same kind" in refusal(capsys, *words)
    assert main([*words, "--extra", str(dem)]) == 0
    found = read_labels(out, field="suggested", crs_to="EPSG:4326")
    assert (len(found.labels), found.classes) == (5, ("middle",))


def test_a_file_that_says_nothing_of_extra_rasters_wants_none(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """As files of earlier versions."""
    new = made_pixel_model(tmp_path / "new.safetensors")
    tensors, header = load_file(new), read_header(new)
    assert header["features"].pop("extra") == 0
    assert header["contract"].pop("extra_bands") == []
    assert header["contract"].pop("extra_files") == []
    old = tmp_path / "old.safetensors"
    del header["checksum"]
    save_file(tensors, old, metadata={KEY: json.dumps(header)})
    assert load_pixel_model(old).contract == load_pixel_model(new).contract
    assert main(["inspect", str(old)]) == 0
    maps = [
        mapped(path, made[0], tmp_path / path.stem / "m.tif", "--skip-value-check")
        for path in (old, new)
    ]
    np.testing.assert_array_equal(*maps)


def test_the_network_does_not_see_the_height(tmp_path: Path) -> None:
    """Its features are the same whatever the height is, those of bands and windows are not."""
    file = load_pixel_model(made_pixel_model(tmp_path / "m.safetensors", deep=small_network()))
    of = file.model.features
    wider = replace(
        of,
        bands=(*of.bands, "dem_1"),
        wavelengths=(*of.wavelengths, None),
        mean=(*of.mean, 0.0),
        sd=(*of.sd, 1.0),
        extra=1,
    )
    model = replace(file.model, features=wider)
    random = np.random.default_rng(0)
    image = random.normal(1000, 100, (5, 128, 128))
    other = image.copy()
    other[4] = random.normal(0, 1, (128, 128))
    at, valid = np.full((2, 1), 64), np.ones(image.shape, bool)
    one, two = (pixel_features(model, values, valid, at) for values in (image, other))
    np.testing.assert_array_equal(one[DEEP], two[DEEP])
    assert (one[BANDS] != two[BANDS]).any()
    assert (one[WIDE] != two[WIDE]).any()
    alone = pixel_features(file.model, image[:4], valid[:4], at)
    np.testing.assert_array_equal(one[DEEP], alone[DEEP])


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    out = model.with_name("m.onnx")
    assert main(["export", str(model), "--format", "onnx", "-o", str(out)]) == 0
    return out


def test_an_exported_file_takes_the_height_as_a_further_band(
    exported: Path, model: Path, made: tuple[Path, Path], dem: Path, tmp_path: Path
) -> None:
    contract = read_passport(exported)["contract"]
    assert contract["extra_bands"] == ["dem_1"]
    assert contract["extra_files"] == ["dem.tif"]
    of = load_pixel_model(model).model.features
    proto = onnx.load(exported)
    assert proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value == len(of.bands)
    several = [
        mapped(file, made[0], tmp_path / file.name / "m.tif", "--extra", str(dem))
        for file in (model, exported)
    ]
    assert len(np.unique(several[0])) > 1
    assert (several[0] == several[1]).mean() >= 0.999
    found = geotl.load(exported).map(made[0], extra=[dem])
    np.testing.assert_array_equal(found["classes"].values, several[1])


def test_heights_have_no_nodata_value_of_the_sensor(model: Path) -> None:
    """0 m is a height; where the scene is not valid, a height alone counts for nothing."""
    file = load_pixel_model(model)
    own, nodata = file.model.features.scene_band_count, file.contract.sensor.nodata
    assert nodata == 0
    halo, _ = graph_halo(file.model)
    image = np.random.default_rng(0).normal(1500, 200, (own + 1, 40, 44)).astype(np.float32)
    image[own, :20] = 0
    image[:own, 15:25, 10:30] = 0
    image[own, 30:, 30:] = np.nan
    with torch.no_grad():
        found = deployed_pixels(file)(torch.from_numpy(image[None]))[0][0].numpy()
    inside = np.s_[:, halo:-halo, halo:-halo]
    np.testing.assert_allclose(found[inside], mapped_pixels(file, image), atol=1e-5)
    image[own, 15:25, 10:30] = 777
    with torch.no_grad():
        again = deployed_pixels(file)(torch.from_numpy(image[None]))[0][0].numpy()
    np.testing.assert_array_equal(found, again)


def test_an_item_names_the_bands_of_other_rasters(model: Path, tmp_path: Path) -> None:
    item, asset = tmp_path / "item.json", tmp_path / "m.onnx"
    words = ["export", str(model), "--format"]
    assert main([*words, "onnx", "-o", str(asset)]) == 0
    assert main([*words, "mlm", "-o", str(item), "--asset", str(asset)]) == 0
    given = json.loads(item.read_text())["properties"]["mlm:input"][0]
    assert given["bands"][-1] == "dem_1"
    assert given["input"]["shape"][1] == len(given["bands"])


def test_an_exported_file_says_what_it_lacks(
    exported: Path,
    model: Path,
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "m.tif"
    assert "--extra dem.tif" in refusal(
        capsys, "map", str(exported), str(made[0]), "-o", str(out), "-q"
    )
    words = ("export", str(model), "--format", "deepness", "-o", str(tmp_path / "q.onnx"))
    assert "Deepness feeds a model one layer" in refusal(capsys, *words)
    assert not [*tmp_path.iterdir()]
