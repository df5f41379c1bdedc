"""Every format through the same door: run, predict and evaluate see the same pixels."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from helpers.tiles import write_tile
from safetensors.numpy import load_file

import geotl
from geotl.api import Model
from geotl.cli.main import main
from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack, statistics
from geotl.data.tiles import index_folder
from geotl.imagery.sensors import custom_sensor
from geotl.models.model_file import read_header

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

BANDS = ("B02", "B03", "B04", "B08")
CLASSES = ("field", "town", "water")
SMALL = [
    "model.backbone=lenet5",
    "split.shots=3",
    "split.inner_folds=2",
    "probe.views=1",
    "evaluate.bootstrap_rounds=20",
    "evaluate.baselines=false",
]
CUSTOM = {"bands": [{"name": name} for name in BANDS], "scale": 1e-4, "nodata": -9999}
SENSOR = [
    "data.sensor=custom",
    f"data.custom_sensor={json.dumps(CUSTOM)}",
    "data.file_bands=[B02,B03,B04,B08]",
]


def images(dtype: str) -> dict[str, list[np.ndarray]]:
    """Six 32-px tiles of each class, as Landsat's int16 holds them or in reflectance."""
    random = np.random.default_rng(7)
    made = {}
    for k, name in enumerate(CLASSES):
        levels = np.array([-200, 900, 800 + 300 * k, 2500 - 900 * k])[:, None, None]
        made[name] = []
        for i in range(6):
            image = np.rint(levels + random.normal(0, 60 + 120 * k, (4, 32, 32)))
            if i % 2:
                image[1, :7] = -9999
            if dtype == "float32":
                image = np.where(image == -9999, np.nan, image * 1e-4)
            made[name].append(image.astype(dtype))
    return made


def as_tif(path: Path, image: np.ndarray) -> None:
    gap = -9999 if image.dtype.kind == "i" else None
    write_tile(path.with_suffix(".tif"), image, names=list(BANDS), nodata=gap)


def as_npy(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), image)


def as_jp2(path: Path, image: np.ndarray) -> None:
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    write_tile(path.with_suffix(".jp2"), image, **lossless)


def as_band_files(path: Path, image: np.ndarray) -> None:
    for name, plane in zip(BANDS, image, strict=True):
        write_tile(path / f"{path.name}_{name}.tif", plane[None])


WAYS = {"tif": as_tif, "npy": as_npy, "jp2": as_jp2, "band files": as_band_files}


def laid_out(root: Path, way: str, dtype: str = "int16") -> Path:
    for name, found in images(dtype).items():
        for i, image in enumerate(found):
            WAYS[way](root / name / f"{name}{i}", image)
    return root


def listed(root: Path, kind: str) -> Path:
    """A manifest of a folder of class folders, outside it, with its rows turned round."""
    rows = [(f"{root.name}/{p.parent.name}/{p.name}", p.parent.name) for p in root.glob("*/*")]
    path = root.parent / f"{root.name}.{kind}"
    if kind == "csv":
        path.write_text("\n".join(["path,label", *(",".join(row) for row in sorted(rows)[::-1])]))
    else:
        told = [{"properties": {"path": p, "label": n}, "geometry": None} for p, n in rows]
        path.write_text(json.dumps({"features": told}))
    return path


def run(root: Path, out: Path, *more: str) -> int:
    recipe = out.parent / "small.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text("title: small\n")
    return main(
        [
            "run",
            str(recipe),
            f"data.root={root}",
            *SMALL,
            *SENSOR,
            *more,
            "-q",
            "--output",
            str(out),
        ]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on GeoTIFFs of int16."""
    folder = tmp_path_factory.mktemp("trained")
    assert run(laid_out(folder / "tiles", "tif"), folder / "run") == 0
    return folder


def model_of(folder: Path) -> Model:
    return geotl.load(folder / "run" / "model.safetensors")


@pytest.mark.parametrize("way", ["npy", "jp2", "band files", "csv", "geojson"])
def test_the_same_pixels_in_another_format_give_the_same_model(trained, tmp_path, way):
    if way in WAYS:
        root = laid_out(tmp_path / "tiles", way)
    else:
        root = listed(laid_out(tmp_path / "tiles", "band files"), way)
    assert run(root, tmp_path / "run") == 0
    mine, other = (load_file(f / "run" / "model.safetensors") for f in (tmp_path, trained))
    for name in mine:
        if not name.endswith("footprints"):
            np.testing.assert_array_equal(mine[name], other[name], err_msg=name)


@pytest.mark.parametrize("way", [*WAYS, "csv", "geojson"])
def test_predict_and_evaluate_take_every_format(trained, tmp_path, capsys, way):
    model = str(trained / "run" / "model.safetensors")
    root = laid_out(tmp_path / "tiles", way if way in WAYS else "band files")
    given = root if way in WAYS else listed(root, way)
    assert main(["predict", model, str(given), "-o", str(tmp_path / "p.csv")]) == 0
    with (tmp_path / "p.csv").open() as stream:
        found = {Path(row["path"]).stem: row for row in csv.DictReader(stream)}
    assert len(found) == 18
    plain = model_of(trained).predict(trained / "tiles")
    for path, chances in zip(plain.paths, plain.probabilities, strict=True):
        mine = [float(found[path.stem][f"p_{name}"]) for name in CLASSES]
        np.testing.assert_allclose(mine, chances, atol=1e-6)
    capsys.readouterr()
    assert main(["evaluate", model, str(given)]) == 0
    assert main(["evaluate", model, str(trained / "tiles")]) == 0
    first, second = capsys.readouterr().out.split("overall accuracy ")[1:]
    assert first == second


@pytest.mark.parametrize(
    ("way", "said"),
    [("npy", "cannot be read as an array"), ("band files", "no band B04, which this model needs")],
)
def test_a_faulty_tile_to_predict_is_one_line(trained, tmp_path, capsys, way, said):
    root = laid_out(tmp_path / "tiles", way)
    if way == "npy":
        (root / "town" / "town1.npy").write_bytes(b"\x93NUMPY")
    else:
        (root / "town" / "town1" / "town1_B04.tif").unlink()
    model = str(trained / "run" / "model.safetensors")
    assert main(["predict", model, str(root), "-o", str(tmp_path / "p.csv")]) == 2
    told = capsys.readouterr().err
    assert re.search(said, told)
    assert "town1" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


# --- Types of pixels --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_statistics_and_predictions_of_signed_and_fractional_pixels(tmp_path, dtype):
    root = laid_out(tmp_path / "tiles", "tif", dtype)
    scale = 1.0 if dtype == "float32" else 1e-4
    custom = f"data.custom_sensor={json.dumps({**CUSTOM, 'scale': scale})}"
    assert run(root, tmp_path / "run", custom) == 0
    model = model_of(tmp_path)
    assert model.file.training_samples.examples.dtype == dtype
    sensor = custom_sensor("custom", CUSTOM["bands"], scale, 0.0, -9999)
    packed = pack(index_folder(root), sensor, folder=tmp_path / "p")
    assert packed.images.dtype == dtype
    every = np.concatenate([np.stack(found) for found in images(dtype).values()]).astype(float)
    every[every == -9999] = np.nan
    found = statistics(packed, range(18))
    np.testing.assert_allclose(found.mean, np.nanmean(every, axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.sd, np.nanstd(every, axis=(0, 2, 3)), rtol=1e-6)
    assert found.mean[0] < 0, "negative pixels count"
    assert found.count[1] == 18 * 32 * 32 - 9 * 7 * 32
    by_file = model.predict(root, precision="float32")
    assert np.isfinite(by_file.logits).all()
    by_array = model.predict(
        np.stack([i for found in images(dtype).values() for i in found]), precision="float32"
    )
    np.testing.assert_array_equal(by_file.logits, by_array.logits)


def test_another_sensors_scale_is_brought_to_the_models(trained, tmp_path):
    """The same ground in float32 reflectance, read by a model of int16 DN."""
    reflectance = custom_sensor("f", CUSTOM["bands"], 1.0, 0.0, None)
    found = model_of(trained).predict(
        laid_out(tmp_path / "t", "tif", "float32"), sensor=reflectance, precision="float32"
    )
    expected = model_of(trained).predict(trained / "tiles", precision="float32")
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-3)


@pytest.mark.parametrize(
    ("types", "together"),
    [
        (("uint8", "int16"), "int16"),
        (("uint16", "int16"), "int32"),
        (("int16", "float32"), "float32"),
        (("uint16", "float32"), "float32"),
        (("int32", "float32"), "float64"),
        (("uint8", ">u2"), "uint16"),
    ],
)
def test_mixed_types_become_one_that_holds_both(tmp_path, types, together):
    planes = []
    for name, kind in zip("ab", types, strict=True):
        limits = (-3, 250) if np.dtype(kind).kind != "u" else (np.iinfo(kind).max - 1, 250)
        image = np.array(limits)[:, None, None] + np.zeros((2, 8, 8))
        planes.append(image)
        as_npy(tmp_path / "t" / name / "0", image.astype(kind))
    sensor = custom_sensor("two", [{"name": "x"}, {"name": "y"}])
    packed = pack(
        index_folder(tmp_path / "t"),
        sensor,
        TileReading(file_bands=["x", "y"]),
        folder=tmp_path / "p",
    )
    assert packed.images.dtype == np.dtype(together)
    np.testing.assert_array_equal(packed.images, planes)


# --- Class names ------------------------------------------------------------------------------

LONG = "terres arables hors périmètres d'irrigation et cultures annuelles associées " * 2
NAMES = (
    "forêt/feuillus & mixte",
    "forêt/<b>conifères",
    "sol nu/50$ {x_$",
    f"sol nu/{LONG.strip()}",
)


def test_class_names_of_any_kind_come_through_whole(tmp_path, capsys):
    pictures = [i for found in images("int16").values() for i in found]
    for k, name in enumerate(NAMES):
        for i in range(4):
            as_tif(tmp_path / "tiles" / name / f"{k}{i}", pictures[4 * k + i])
    colours = f"data.colours={json.dumps({NAMES[0]: '#ff0000'})}"
    assert run(tmp_path / "tiles", tmp_path / "run", "data.class_depth=2", colours) == 0
    classes = tuple(sorted(NAMES))
    out = tmp_path / "run"
    header = read_header(out / "model.safetensors")
    assert tuple(header["classes"]) == classes
    assert header["colours"][classes.index(NAMES[0])] == "#ff0000"
    assert model_of(tmp_path).classes == classes
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>conif" not in page
    for name in NAMES:
        assert name in unescape(page), name
    with (out / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["truth"] for row in rows} == set(NAMES)
    assert {f"p_{name}" for name in NAMES} < set(rows[0])
    assert all(row["path"].startswith(f"{row['truth']}/") for row in rows)
    capsys.readouterr()
    model = str(out / "model.safetensors")
    assert main(["evaluate", model, str(tmp_path / "tiles")]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in NAMES)
    assert main(["inspect", model]) == 0
    assert all(name in capsys.readouterr().out for name in NAMES[:1])
    assert main(["predict", model, str(tmp_path / "tiles"), "-o", str(tmp_path / "p.csv")]) == 0
    with (tmp_path / "p.csv").open(encoding="utf-8") as stream:
        assert {row["predicted"] for row in csv.DictReader(stream)} <= set(NAMES)
