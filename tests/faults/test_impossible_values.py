"""Values that no sensor measures, declared as nodata or not, take no part and are reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.labelled_scenes import PIXELS, made_scene
from helpers.map_fixtures import BANDS, PX, made_pixels
from helpers.tiles import write_tile

from geotl.api import load
from geotl.cli.main import main
from geotl.data.read_tile import TileReading
from geotl.data.tile_array import pack, statistics
from geotl.data.tile_statistics import impossible_values
from geotl.data.tiles import index_folder
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import custom_sensor, get_sensor

L2A = get_sensor("sentinel2_l2a")
FILLS = (-3.4028234663852886e38, -9999.0, 1e20)


def write_folder(root: Path, *, fill: float | None) -> Path:
    """36 float tiles of three classes; one pixel of the first holds what nobody declares."""
    for k, name in enumerate(("field", "town", "water")):
        for i in range(12):
            data = made_pixels(np.array([[k]]), PX, seed=i).astype(np.float32)
            if fill is not None and (k, i) == (0, 0):
                data[1, 3, 4] = fill
            write_tile(root / name / f"{i}.tif", data, names=list(BANDS))
    return root


@pytest.mark.parametrize("fill", FILLS)
def test_an_undeclared_fill_value_does_not_move_the_statistics(fill: float, tmp_path: Path) -> None:
    packs = []
    for name, one in (("clean", None), ("filled", fill)):
        index = index_folder(write_folder(tmp_path / name, fill=one))
        packs.append(pack(index, L2A, TileReading(BANDS), folder=tmp_path / f"pack_{name}"))
    clean, filled = (statistics(one, np.arange(36)) for one in packs)
    assert np.abs(filled.mean - clean.mean).max() < 1
    assert np.abs(filled.sd - clean.sd).max() < 1
    assert not packs[1].valid[0, 1, 3, 4]
    assert packs[1].valid.sum() == packs[1].valid.size - 1
    assert impossible_values(packs[1], L2A).tolist() == [1, 1]
    assert impossible_values(packs[0], L2A).tolist() == [0, 0]


def test_statistics_of_a_sensor_of_ones_own_are_robust(tmp_path: Path) -> None:
    own = custom_sensor("own", [{"name": name} for name in BANDS])
    index = index_folder(write_folder(tmp_path / "tiles", fill=1e12))
    found = statistics(pack(index, own, folder=tmp_path / "pack"), np.arange(36))
    assert found.mean.max() < 5000
    assert found.sd.max() < 5000


@pytest.mark.parametrize("fill", [*FILLS, 1e12])
def test_check_tells_of_them_in_a_line(
    fill: float, tmp_path: Path, own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "tiles", fill=fill)
    args = ["check", str(root), "--sensor", "sentinel2_l2a", "-o", str(tmp_path / "out")]
    assert main([*args, f"data.bands=[{','.join(BANDS)}]"]) == 0
    assert "1 value in 1 tile cannot be of sensor sentinel2_l2a" in capsys.readouterr().out


def test_predict_counts_them_and_names_the_tile_rightly(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "tiles", fill=FILLS[0])
    found = load(model).predict(root)
    assert np.isfinite(found.probabilities).all()
    assert found.labels.count("field, wet") == 12
    out = ["-o", str(tmp_path / "out.csv")]
    assert main(["predict", str(model), str(root), *out]) == 0
    assert "1 value in 1 tile cannot be" in capsys.readouterr().out


def test_arrays_given_to_predict_are_read_likewise(model: Path) -> None:
    tile = made_pixels(np.array([[2]]), PX).astype(np.float32)
    tile[0, 0, 0] = FILLS[0]
    assert load(model).predict(tile).labels == ["water"]


def test_windows_of_scenes_are_read_likewise(tmp_path: Path) -> None:
    data = made_pixels(np.zeros((2, 2), int), PX).astype(np.float32)
    data[2, 5, 6] = FILLS[0]
    path = write_tile(tmp_path / "scene.tif", data, names=list(BANDS))
    scene = open_scene(path, L2A, BANDS)
    _, valid = scene.source.read((0, 10), (0, 10))
    assert (~valid).sum() == 1
    assert not valid[2, 5, 6]


def test_sixteen_bits_that_a_sensor_can_hold_are_left_alone(tmp_path: Path) -> None:
    data = np.full((4, 8, 8), 65535, np.uint16)
    path = write_tile(tmp_path / "scene.tif", data, names=list(BANDS))
    assert open_scene(path, L2A, BANDS).source.read((0, 8), (0, 8))[1].all()


def test_what_files_declare_as_no_data_is_not_told(
    tmp_path: Path, own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, name in enumerate(("field", "town", "water")):
        for i in range(3):
            data = made_pixels(np.array([[k]]), PX, seed=i).astype(np.float32)
            data[:, 3, 4] = FILLS[1]
            data[1, 5, 6] = FILLS[0] if (k, i) == (0, 0) else data[1, 5, 6]
            write_tile(tmp_path / name / f"{i}.tif", data, names=list(BANDS), nodata=FILLS[1])
    args = ["check", str(tmp_path), "--sensor", "sentinel2_l2a"]
    assert main([*args, f"data.bands=[{','.join(BANDS)}]"]) == 0
    assert "1 value in 1 tile cannot be of sensor" in capsys.readouterr().out


@pytest.mark.usefixtures("one_thread", "unrendered")
def test_one_such_value_does_not_move_a_run(
    tmp_path: Path, own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    said, accuracy = {}, {}
    for name, fill in (("clean", None), ("filled", FILLS[0])):
        root = write_folder(tmp_path / name, fill=fill)
        out = tmp_path / f"run_{name}"
        words = ["strategy=probe", "split.shots=8", "evaluate.bootstrap_rounds=20"]
        (tmp_path / "small.yaml").write_text("title: small\n")
        given = [f"data.root={root}", "data.sensor=sentinel2_l2a", "model.backbone=lenet5"]
        given += [f"data.bands=[{','.join(BANDS)}]", "split.inner_folds=2"]
        assert (
            main(["run", str(tmp_path / "small.yaml"), *given, *words, "--output", str(out)]) == 0
        )
        said[name] = capsys.readouterr().out
        accuracy[name] = json.loads((out / "metrics.json").read_text())["headline"]
    assert "1 value in 1 tile cannot be of sensor" in said["filled"]
    assert "cannot be of sensor" not in said["clean"]
    assert accuracy["filled"] == accuracy["clean"]


@pytest.mark.usefixtures("one_thread", "unrendered", "few_trees")
def test_such_values_move_neither_a_model_of_pixels_nor_a_map_and_both_count_them(
    tmp_path: Path, own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, labels = made_scene(tmp_path)
    with rasterio.open(scene) as source:
        pixels = source.read().astype(np.float32)
    (tmp_path / "small.yaml").write_text("title: small\n")
    headlines, maps, blocks = [], [], ("--no-page", "--block-px", "50")
    for name in ("clean", "filled"):
        data = pixels.copy()
        if name == "filled":
            data[1, 40, 40] = data[2, 85, 85] = data[0, 88, 80] = FILLS[0]
        data[0, :2, :3] = FILLS[1]  # declared, so that it is told nowhere
        path = write_tile(tmp_path / f"{name}.tif", data, names=list(BANDS), nodata=FILLS[1])
        out, drawn = tmp_path / name, tmp_path / f"map_{name}.tif"
        given = [*PIXELS, f"data.scenes={path}", f"labels.path={labels}", "--output", str(out)]
        assert main(["run", str(tmp_path / "small.yaml"), *given]) == 0
        near = "labels have values near them that cannot be of sensor sentinel2_l2a"
        said = capsys.readouterr()
        assert (near in said.out + said.err) == (name == "filled")
        headlines.append(json.loads((out / "metrics.json").read_text())["headline"])
        model = str(tmp_path / "clean" / "model.safetensors")
        assert main(["map", model, str(path), "-o", str(drawn), *blocks]) == 0
        told = "3 values cannot be of sensor sentinel2_l2a: taken as no data"
        assert (told in capsys.readouterr().out) == (name == "filled")
        with rasterio.open(drawn) as source:
            maps.append(source.read(1))
    assert headlines[0] == headlines[1]
    assert (maps[0] != maps[1]).sum() <= 3
