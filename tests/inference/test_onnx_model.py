"""An exported file in a model's place: same maps, same names, either engine, clear refusals."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import geopandas
import numpy as np
import onnx
import pytest
import rasterio
from helpers.map_fixtures import BANDS, CLASSES, made_pixels, made_tiles, patches, write_scene
from helpers.tiles import write_tile
from rasterio.transform import from_origin

import geotl
from geotl.cli.main import main
from geotl.errors import DataError, ModelError
from geotl.export.exporter import export_graph
from geotl.export.metadata import PASSPORT_VERSION
from geotl.imagery.scene_list import Entry
from geotl.inference import onnx_file, onnx_model
from geotl.inference.onnx_file import read_passport, seal
from geotl.inference.onnx_model import ENGINES, open_runner, open_served
from geotl.mapping.jobs import Job, mark_of
from geotl.mapping.options import MapOptions
from geotl.models.model_file import load

pytestmark = pytest.mark.usefixtures("one_thread", "float32_only")
AS_TORCH = ["--mode", "exact", "--precision", "float32", "--views", "2"]


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    """Alone in its folder: there is no model at hand."""
    out = tmp_path_factory.mktemp("served") / "model.onnx"
    export_graph(load(model), "onnx", out, log=lambda _: None)
    return out


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    pixels = made_pixels(patches(6, 7), 24)
    pixels[:, 20:70, 30:80] = 0  # the sensor's nodata, through windows that count
    return write_scene(
        tmp_path_factory.mktemp("scene") / "scene.tif",
        pixels,
        transform=from_origin(500000, 4600000, 10, 10),
    )


@pytest.fixture(scope="module")
def by_torch(model, scene, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("torch") / "map.tif"
    assert map_of(model, scene, out, *AS_TORCH) == 0
    return out


def map_of(model: Path, scene: Path, out: Path, *options: str) -> int:
    command = ["map", str(model), str(scene), "-o", str(out), "--probabilities", "--entropy"]
    return main([*command, "-q", *options])


def pixels(path: Path, kind: str = "") -> np.ndarray:
    with rasterio.open(path.with_name(f"{path.stem}{kind}.tif")) as source:
        return source.read().astype(np.float64)


def one_line(capsys) -> str:
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1, told
    assert told.startswith("geotl: ")
    return told


@pytest.mark.parametrize("engine", ENGINES)
def test_a_map_is_the_models_own(engine, exported, scene, by_torch, tmp_path):
    out = tmp_path / "map.tif"
    assert map_of(exported, scene, out, "--engine", engine, "--polygons") == 0
    np.testing.assert_array_equal(pixels(out), pixels(by_torch))
    assert {0, 1, 2, 255} == set(np.unique(pixels(out)))
    np.testing.assert_allclose(pixels(out, "_confidence"), pixels(by_torch, "_confidence"), atol=1)
    chances = [pixels(path, "_probabilities") for path in (out, by_torch)]
    np.testing.assert_allclose(*chances, atol=1e-4)
    areas = [path.with_name("map_areas.csv").read_text() for path in (out, by_torch)]
    assert areas[0] == areas[1]
    assert len(geopandas.read_file(tmp_path / "map_polygons.gpkg")) > 2
    with rasterio.open(out) as first, rasterio.open(by_torch) as second:
        mine, its = first.tags(), second.tags()
    assert mine.pop("GEOTL_ENGINE").startswith(f"{engine} ")
    assert its.pop("GEOTL_ENGINE").startswith("torch ")
    assert mine.pop("GEOTL_MODEL_SHA256") != its.pop("GEOTL_MODEL_SHA256")
    mine.pop("GEOTL_DATE"), its.pop("GEOTL_DATE")
    assert mine == its  # the training tiles' footprints and the recipe too
    assert "GEOTL_TRAINING_FOOTPRINTS" in mine


def table_of(path: Path) -> tuple[list[str], np.ndarray]:
    rows = list(csv.reader(path.open()))
    told = [row for row in rows[1:] if row]
    figures = [[float(x) for x in row if x.replace(".", "", 1).isdigit()] for row in told]
    names = [x for row in told for x in row if not x.replace(".", "", 1).isdigit()]
    return [*rows[0], *names], np.array(figures)


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles_are_named_as_the_model_names_them(engine, model, exported, tmp_path):
    tiles, _ = made_tiles(3)
    for n, tile in enumerate(tiles):
        holed = tile.copy()
        holed[:, :n, :n] = 0
        write_tile(tmp_path / "tiles" / f"{n}.tif", holed, names=list(BANDS))
    found = []
    for path, given in ((model, []), (exported, ["--engine", engine])):
        out = tmp_path / f"{path.suffix[1:]}.csv"
        command = ["predict", str(path), str(tmp_path / "tiles"), "-o", str(out), *given]
        assert main(command) == 0
        found.append(table_of(out))
    assert found[0][0] == found[1][0]
    assert found[0][1].shape[1] >= 3
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


def test_it_is_judged_as_the_model_is(model, exported, tmp_path):
    write_labelled(tmp_path, 1.0)
    wanted, found = (geotl.load(path).evaluate(tmp_path) for path in (model, exported))
    assert found.headline == wanted.headline
    assert found.scores.overall == wanted.scores.overall


def write_labelled(folder: Path, scale: float, dtype: str = "uint16") -> Path:
    tiles, labels = made_tiles(2)
    for n, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        made = (tile * scale).astype(dtype)
        write_tile(folder / CLASSES[label] / f"{n}.tif", made, names=list(BANDS))
    return folder


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_tiles_of_values_never_seen_are_refused(kind, request, tmp_path, capsys):
    """Digital numbers nine times too large, and reflectance; tiles of one cover are no such."""
    path = str(request.getfixturevalue(kind))
    table = tmp_path / "p.csv"
    for scale, dtype in ((9.0, "uint16"), (1e-4, "float32")):
        tiles = write_labelled(tmp_path / dtype, scale, dtype)
        for command in (
            ["predict", path, str(tiles), "-o", str(table)],
            ["evaluate", path, str(tiles)],
        ):
            assert main(command) == 2
            told = one_line(capsys)
            assert "5 more tiles: values outside the model's training range" in told
            assert "--sensor (now sentinel2_l2a), or --skip-value-check" in told
            assert not table.exists()
            assert main([*command, "--skip-value-check"]) == 0
            capsys.readouterr()
            table.unlink(missing_ok=True)
    fine = write_labelled(tmp_path / "fine", 1.0)
    assert main(["predict", path, str(fine), "-o", str(table)]) == 0
    for name in CLASSES:
        one = next((fine / name).glob("*.tif"))
        assert main(["predict", path, str(one), "-o", str(table), "--overwrite"]) == 0
    assert main(["evaluate", path, str(fine)]) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_one_engine_is_enough(engine, exported, monkeypatch):
    for name in ("onnx", "onnxscript", *(other for other in ENGINES if other != engine)):
        monkeypatch.setitem(sys.modules, name, None)
    tiles, labels = made_tiles(2)
    found = geotl.load(exported, engine=engine).predict(tiles)
    assert found.labels == [CLASSES[k] for k in labels]


def test_the_models_resolution_is_kept(exported, model, scene):
    held, whole = open_served(exported), load(model)
    assert held.resolution_m == whole.resolution_m == 10
    assert held.contract == whole.contract
    assert held.ground == whole.ground
    np.testing.assert_allclose(held.seen.mean, whole.seen.mean)


def test_a_scene_is_brought_to_the_training_resolution(exported, tmp_path):
    fine = made_pixels(patches(3, 3), 64)
    path = write_scene(tmp_path / "fine.tif", fine, transform=from_origin(500000, 4600000, 5, 5))
    assert map_of(exported, path, tmp_path / "m.tif") == 0
    with rasterio.open(tmp_path / "m.tif") as source:
        assert source.res == (160, 160)


def test_a_scene_of_other_radiometry_is_refused(exported, tmp_path, capsys):
    path = write_scene(
        tmp_path / "s.tif",
        made_pixels(patches(4, 4), 32) * 9,
        transform=from_origin(500000, 4600000, 10, 10),
    )
    assert map_of(exported, path, tmp_path / "m.tif") == 2
    assert "outside the model's training range" in one_line(capsys)


def test_batches_of_any_number_say_the_same(exported):
    sweep, tiles = open_served(exported).sweep, made_tiles(30)[0].astype(np.float32)
    assert sweep.batch == 64 < len(tiles)
    alone = np.concatenate([sweep.predict_tiles(tile[None])[0] for tile in tiles[60:70]])
    np.testing.assert_allclose(sweep.predict_tiles(tiles)[0][60:70], alone, atol=1e-5)
    assert sweep.predict_tiles(tiles[:0])[0].shape == (0, len(CLASSES))


def test_several_scenes_are_mapped_and_kept(exported, scene, by_torch, tmp_path, capsys):
    pytest.importorskip("distributed", reason="many scenes need dask.distributed")
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(scene, tmp_path / "in" / f"{name}.tif")
    command = [
        "map",
        str(exported),
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "-q",
        "--workers",
        "1",
        "--no-page",
        "--engine",
        "openvino",
    ]
    assert main(command) == 0
    for name in ("a", "b"):
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{name}.tif"), pixels(by_torch))
    before = (tmp_path / "out" / "a.tif").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "out" / "a.tif").stat().st_mtime_ns == before
    assert (
        main([*command[:-2], "--engine", "onnxruntime"]) == 2
    )  # another engine's map stands there
    assert "--overwrite" in one_line(capsys)


def test_the_default_engine_is_named_in_a_jobs_mark(exported, scene, tmp_path):
    def mark(engine: str | None) -> str:
        entry = Entry("s", scene)
        return mark_of(Job(entry, exported, tmp_path / "s.tif", MapOptions(), engine=engine))

    assert mark(None) == mark("onnxruntime") != mark("openvino")


REFUSED = {
    "mode": (["--mode", "dense"], "--mode dense"),
    "applicability": (["--applicability"], "--applicability"),
    "views": (["--views", "8"], "exported with 2 views, not 8"),
    "precision": (["--precision", "bfloat16"], "exported in float32"),
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_do_is_refused(case, several, exported, scene, tmp_path, capsys):
    options, words = REFUSED[case]
    scenes = [str(scene)]
    if several:
        scenes.append(str(shutil.copy(scene, tmp_path / "other.tif")))
    out = tmp_path / ("out" if several else "m.tif")
    assert main(["map", str(exported), *scenes, "-o", str(out), *options]) == 2
    told = one_line(capsys)
    assert words in told
    assert "model.safetensors" in told or "export it again" in told
    assert not out.exists()


def test_what_it_cannot_do_is_refused_from_python_too(exported, scene, tmp_path):
    pytest.importorskip("rioxarray")
    held = geotl.load(exported)
    with pytest.raises(DataError, match="--applicability"):
        held.map(scene, options=MapOptions(applicability=True))
    with pytest.raises(DataError, match="exported in float32"):
        held.predict(made_tiles(1)[0], precision="bfloat16")
    with pytest.raises(ModelError, match="does not show its network"):
        _ = held.network
    mapped = held.map(scene, options=MapOptions(page=False))
    assert set(mapped) == {"classes", "confidence"}


def test_a_bad_file_is_refused_in_one_line(exported, scene, tmp_path, capsys):
    content = bytearray(exported.read_bytes())
    content[len(content) // 3] ^= 4
    (tmp_path / "altered.onnx").write_bytes(content)
    (tmp_path / "short.onnx").write_bytes(exported.read_bytes()[:-5])
    proto = onnx.load(exported)
    del proto.metadata_props[:]
    proto.opset_import[0].version = 15
    onnx.save(proto, tmp_path / "foreign.onnx")
    (tmp_path / "text.onnx").write_text("not ONNX at all\n")
    (tmp_path / "nothing.onnx").write_bytes(b"")
    broken, foreign = "checksum is wrong", "not an ONNX file that geotl exported"
    told = {
        "altered": broken,
        "short": broken,
        "foreign": foreign,
        "text": foreign,
        "nothing": foreign,
        "absent": "no such file",
    }
    for name, words in told.items():
        bad = tmp_path / f"{name}.onnx"
        assert map_of(bad, scene, tmp_path / "m.tif") == 2
        assert words in one_line(capsys)
        assert main(["predict", str(bad), str(scene), "-o", str(tmp_path / "p.csv")]) == 2
        assert words in one_line(capsys)
    assert not list(tmp_path.glob("[mp].*"))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_unreadable_graph_is_refused_in_one_line(engine, exported, scene, tmp_path, capsys):
    proto, told = onnx.load(exported), read_passport(exported)
    proto.graph.node[0].op_type = "Nonsense"
    seal(proto, tmp_path / "odd.onnx", told)
    assert map_of(tmp_path / "odd.onnx", scene, tmp_path / "m.tif", "--engine", engine) == 2
    assert f"{engine} " in (line := one_line(capsys))
    assert "cannot read it" in line


def test_another_passport_is_refused(exported, tmp_path):
    proto, told = onnx.load(exported), read_passport(exported)
    seal(proto, tmp_path / "new.onnx", told | {"passport_version": PASSPORT_VERSION + 1})
    with pytest.raises(ModelError, match=f"this geotl reads {PASSPORT_VERSION}"):
        open_served(tmp_path / "new.onnx")
    seal(proto, tmp_path / "poor.onnx", {k: v for k, v in told.items() if k != "examples"})
    with pytest.raises(ModelError, match=r"lacks 'examples'.*export the model again"):
        open_served(tmp_path / "poor.onnx")


def test_metadata_is_read_as_onnx_reads_it(exported):
    held = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert onnx_file._metadata(exported.read_bytes()) == held


def test_an_engine_for_a_model_file_is_refused(model, scene, tmp_path, capsys):
    assert map_of(model, scene, tmp_path / "m.tif", "--engine", "openvino") == 2
    assert "geotl export model.safetensors --format onnx" in one_line(capsys)
    command = ["predict", str(model), str(scene), "-o", str(tmp_path / "p.csv")]
    assert main([*command, "--engine", "onnxruntime"]) == 2
    assert "runs only exported files" in one_line(capsys)


def test_a_missing_engine_is_told_with_its_remedy(exported, scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert map_of(exported, scene, tmp_path / "m.tif") == 2
    told = one_line(capsys)
    assert "pip install 'geotl[onnx]', or give --engine openvino, which is installed" in told
    monkeypatch.setitem(sys.modules, "openvino", None)
    command = ["predict", str(exported), str(scene), "-o", str(tmp_path / "p.csv")]
    assert main([*command, "--engine", "openvino"]) == 2
    told = one_line(capsys)
    assert told.endswith("running it needs openvino; pip install 'geotl[openvino]'")


def test_what_needs_the_network_says_so(exported, scene, tmp_path, capsys):
    assert (
        main(["suggest", str(exported), str(scene), "-n", "2", "-o", str(tmp_path / "s.gpkg")]) == 2
    )
    assert "model.safetensors that it was exported from" in one_line(capsys)
    with pytest.raises(ModelError, match=r"an exported file, .* give the model.safetensors"):
        load(exported)


def test_it_is_inspected_without_an_engine(model, exported, capsys, monkeypatch):
    for name in ("onnx", *ENGINES):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["inspect", str(exported)]) == 0
    mine = capsys.readouterr().out.splitlines()
    assert main(["inspect", str(model)]) == 0
    its = capsys.readouterr().out.splitlines()
    assert mine[0] == f"model    {exported} (ONNX, float32)"
    assert [n for n, (a, b) in enumerate(zip(mine, its, strict=True)) if a != b] == [0, 6]
    assert main(["inspect", str(exported), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_passport(exported)


@pytest.mark.parametrize(("precision", "hint"), [("float32", "f32"), ("float16", None)])
def test_openvino_computes_in_the_files_own_format(precision, hint, exported, monkeypatch):
    import openvino

    seen = {}

    class Core:
        def compile_model(self, path, device, hints):
            seen.update(hints)

    monkeypatch.setattr(openvino, "Core", Core)
    open_runner(exported, "openvino", precision=precision, threads=3)
    assert seen.get("INFERENCE_PRECISION_HINT") == hint
    assert seen["INFERENCE_NUM_THREADS"] == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_that_fails_is_told_in_geotls_words(engine, exported):
    run = open_runner(exported, engine, precision="float32", threads=1)
    with pytest.raises(ModelError, match=f"{engine} failed on a batch"):
        run(np.zeros((1, 7, 9, 9), np.float32))


def test_engines_use_as_many_threads_as_torch(exported, monkeypatch):
    told = []
    monkeypatch.setattr(onnx_model.torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(onnx_model, "open_runner", lambda *_, threads, **__: told.append(threads))
    open_served(exported)
    assert told == [5]
