"""The Deepness export: what the plugin makes of it is what geotl map makes of the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
import torch
from helpers.deepness_plugin import missing, name_pixels
from helpers.map_fixtures import BANDS, CLASSES, PX, made_model, made_pixels, patches, write_scene
from helpers.tiles import ROOT
from hypothesis import given
from hypothesis import strategies as st

from geotl.cli.main import main
from geotl.errors import DataError, OutputError
from geotl.export import qgis_deepness
from geotl.export.deployable import deployed
from geotl.export.qgis_deepness import (
    DeepnessOptions,
    PixelGraph,
    advice,
    as_the_plugin,
    export_deepness,
    metadata,
    overlap_px,
    tile_layout,
)
from geotl.inference.onnx_file import open_session, read_passport
from geotl.inference.window_grid import WindowGrid
from geotl.models.model_file import load

pytestmark = pytest.mark.usefixtures("one_thread", "float32_only")
LAYERS = (1, 2, 3, 7)  # of the sample scene: B02, B03, B04, B08
AGREEMENT = 0.99  # of pixels a window off the scene's edges


@pytest.fixture(scope="module")
def small(model, tmp_path_factory) -> Path:
    """Tiles of 160 px, so that a small scene has several."""
    out = tmp_path_factory.mktemp("small") / "small.onnx"
    export_deepness(load(model), out, DeepnessOptions(160), log=lambda _: None)
    return out


def mapped(model: Path, scene: Path, out: Path, *more: str) -> np.ndarray:
    """Classes as geotl map says them, numbered as the plugin does: 0 none, then the model's."""
    arguments = [
        "map",
        str(model),
        str(scene),
        "-o",
        str(out),
        "--mode",
        "exact",
        "--resolution-px",
        "1",
        "--precision",
        "float32",
        "--mask",
        "none",
        "--no-page",
        "-q",
        *more,
    ]
    assert main(arguments) == 0
    with rasterio.open(out) as source:
        found = source.read(1)
    return np.where(found == 255, 0, found + 1)


def scene_of(path: Path, rows: int, cols: int) -> Path:
    """Squares of classes with a hole, and a hole in one band alone."""
    pixels = made_pixels(patches(-(-rows // 24), -(-cols // 24)), 24, noise=300)[:, :rows, :cols]
    pixels[:, 70:180, 90:170] = 0
    pixels[0, 20:40, 200:215] = 0
    return write_scene(path, pixels, nodata=0)


def test_the_plugin_makes_the_map_of_geotl_map(model, small, tmp_path):
    scene = scene_of(tmp_path / "s.tif", 304, 368)
    wanted = mapped(model, scene, tmp_path / "m.tif")
    found = name_pixels(small, scene)
    assert set(np.unique(wanted)) == {0, 1, 2, 3}
    off_edges = np.s_[PX:-PX, PX:-PX]
    assert (found == wanted)[off_edges].mean() >= AGREEMENT
    # To the south and west the plugin adds nothing, so nothing differs there.
    assert (found == wanted)[PX:, :-PX].mean() >= AGREEMENT
    assert ((found == 0) == (wanted == 0)).all()


def test_a_scene_that_steps_do_not_fill(model, small, tmp_path):
    # The plugin lays tiles from the north of a layer that it grew northwards, geotl map windows
    # from the layer's own corner: up to half a step apart, which moves the edges of fields.
    scene = scene_of(tmp_path / "s.tif", 297, 361)
    wanted = mapped(model, scene, tmp_path / "m.tif")
    found = name_pixels(small, scene)
    assert 0.85 <= (found == wanted)[PX:-PX, PX:-PX].mean() < AGREEMENT
    # Begun where a window of the plugin begins, the map is the plugin's again.
    below = -missing((297, 361), 160, 128)[0] % (PX // 2)
    assert below > 0
    with rasterio.open(scene) as source:
        rest = write_scene(tmp_path / "rest.tif", source.read()[:, below:], nodata=0)
    wanted = mapped(model, rest, tmp_path / "rest_m.tif")
    assert (found[below:] == wanted)[PX:-PX, PX:-PX].mean() >= AGREEMENT


def test_the_sample_scene_at_the_usual_tile_size(tmp_path):
    samples = ROOT / "sample_tiles"
    tiles = []
    for name in ("pasture", "broadleaf_forest", "residential"):
        for path in sorted((samples / "target" / name).glob("*.tif"))[:8]:
            with rasterio.open(path) as tile:
                tiles.append(tile.read(LAYERS)[:, :PX, :PX])
    learned = np.stack(tiles), np.repeat([0, 1, 2], 8)
    model = made_model(tmp_path / "m.safetensors", sensor="sentinel2_l2a_n0400", learned=learned)
    out = tmp_path / "d.onnx"
    assert main(["export", str(model), "--format", "deepness", "-o", str(out), "-q"]) == 0
    wanted = mapped(model, samples / "scene.tif", tmp_path / "m.tif")
    found = name_pixels(out, samples / "scene.tif", bands=LAYERS)
    assert min(np.bincount(wanted.ravel(), minlength=4)) > 1000
    assert (found == wanted)[PX:-PX, PX:-PX].mean() >= AGREEMENT


def test_below_the_threshold_a_pixel_has_no_class(model, small, tmp_path):
    scene = scene_of(tmp_path / "s.tif", 304, 368)
    classes = mapped(model, scene, tmp_path / "m.tif", "--probabilities")
    with rasterio.open(tmp_path / "m_probabilities.tif") as source:
        surest = source.read().max(axis=0)
    wanted = np.where(surest < 0.6, 0, classes)
    found = name_pixels(small, scene, threshold=0.6)
    inside = np.s_[PX:-PX, PX:-PX]
    assert 0.02 < (wanted != classes)[inside].mean() < 0.9
    assert (found == wanted)[inside].mean() >= AGREEMENT


def test_what_the_plugin_reads_of_the_file(small):
    proto = onnx.load(small)
    assert proto.ir_version == 9
    assert [o.version for o in proto.opset_import if o.domain == ""] == [18]
    told = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(told["model_type"]) == "Segmentor"
    assert list(json.loads(told["class_names"]).items()) == [
        (str(i), name) for i, name in enumerate(["no data", *CLASSES])
    ]
    assert json.loads(told["resolution"]) == 1000.0
    assert json.loads(told["tile_size"]) == 160
    assert isinstance(json.loads(told["tiles_overlap"]), int)
    assert json.loads(told["standardization_mean"]) == [0.0] * len(BANDS)
    assert json.loads(told["standardization_std"]) == [1.0] * len(BANDS)
    assert json.loads(told["seg_thresh"]) == 0.0
    assert json.loads(told["seg_small_segment"]) == 0
    assert read_passport(small)["deepness"]["step_px"] == PX // 2
    (into,), (out_of,) = proto.graph.input, proto.graph.output
    assert [d.dim_value for d in into.type.tensor_type.shape.dim] == [1, len(BANDS), 160, 160]
    assert [d.dim_value for d in out_of.type.tensor_type.shape.dim] == [1, 4, 160, 160]


def test_probabilities_sum_to_one(small):
    raw = made_pixels(patches(5, 5), 32)[None].astype(np.uint16)
    raw[:, :, :60, :60] = 0
    said = open_session(small).run(None, {"image": as_the_plugin(raw)})[0]
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    assert (said[0, 0, :60, :60] == 1).all()
    assert (said[0, 0, 60:, 60:] == 0).all()


@pytest.mark.parametrize("nodata", [0.0, -9999.0, 65535.0, -32768.0, float("nan"), 0.1, -3.4e38])
def test_nodata_outlives_the_division(model, nodata):
    held = load(model)
    held.network.normalise.nodata.fill_(nodata)
    spread = PixelGraph(deployed(held, 1), WindowGrid(64, 64, PX, 16, 1), 0.5)
    raw = np.random.default_rng(0).uniform(1, 10000, (1, 4, 64, 64)).astype(np.float32)
    raw[0, :, 5, 7] = nodata
    raw[0, 2, 9, 9] = nodata
    with torch.no_grad():
        none = spread(torch.from_numpy(as_the_plugin(raw)))[0, 0].numpy()
    assert sorted(zip(*np.nonzero(none), strict=True)) == [(5, 7), (9, 9)]


def test_neighbours_of_nodata_are_kept(model):
    spread = PixelGraph(deployed(load(model), 1), WindowGrid(64, 64, PX, 16, 1), 0.5)
    spread.single.network.normalise.nodata.fill_(65535.0)
    raw = np.full((1, 4, 64, 64), 65534, np.uint16)
    with torch.no_grad():
        assert not spread(torch.from_numpy(as_the_plugin(raw)))[0, 0].any()


def test_parts_change_nothing(model):
    spread = PixelGraph(deployed(load(model), 2), WindowGrid(96, 96, PX, 16, 1), 0.5)
    raw = torch.from_numpy(as_the_plugin(made_pixels(patches(3, 3), 32)[None]))
    with torch.no_grad():
        at_once = spread(raw)
        spread.at_once = 7
        np.testing.assert_allclose(spread(raw), at_once, atol=1e-6)


def test_views_are_averaged(model, small, tmp_path):
    assert read_passport(small)["contract"]["spec"]["views"] == 1
    out = tmp_path / "4.onnx"
    export_deepness(load(model), out, DeepnessOptions(96, views=4), log=lambda _: None)
    assert read_passport(out)["contract"]["spec"]["views"] == 4


@given(st.integers(4, 256), st.integers(1, 4))
def test_tiles_hide_their_edges(window, part):
    step = -(-window // part)
    layout = tile_layout(window, step)
    overlap = overlap_px(layout.tile_px, layout.overlap_percent)
    assert (layout.tile_px - window) % step == 0
    assert overlap // 2 >= window - step
    assert layout.stride_px == layout.tile_px - overlap > 0
    assert layout.aligned
    assert layout.stride_px % step == 0


def test_tiles_whose_windows_lie_on_several_grids_are_told_of():
    layout = tile_layout(25, 12, 241)
    assert not layout.aligned
    assert "the map may differ" in advice(layout, BANDS, "a sensor", 10.0)[2]
    assert len(advice(tile_layout(64), BANDS, "a sensor", 10.0)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tile-size", "100"], "96 and 112 px would do"),
        (["--stride-px", "0"], "allowed is 1 to"),
        (["--stride-px", "33"], "allowed is 1 to the model's window, 32 px"),
        (["--stride-px", "1"], "parts to be computed"),
        (["--tile-size", "32"], "too small to hide"),
        (["--resolution", "0"], "above 0"),
    ],
)
def test_what_does_not_go_is_refused(options, said, model, tmp_path, capsys):
    arguments = ["export", str(model), "--format", "deepness", "-o", str(tmp_path / "d.onnx")]
    assert main([*arguments, *options]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_options_of_the_plugin_are_refused_elsewhere(model, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert main(["export", str(model), "--format", "onnx", "-o", str(out), "--stride-px", "8"]) == 2
    assert "belongs to --format deepness" in capsys.readouterr().err
    assert not out.exists()


def test_too_many_classes_are_refused():
    with pytest.raises(DataError, match="room for 254"):
        metadata(tile_layout(32), [f"c{i}" for i in range(255)], 1, None)


def test_a_resolution_that_nobody_knows_is_left_out():
    layout = tile_layout(32)
    assert "resolution" not in metadata(layout, CLASSES, 4, None)
    assert "not known, to be set by hand" in advice(layout, BANDS, "a sensor", None)[1]


def test_a_resolution_is_given(model, tmp_path, capsys):
    out = tmp_path / "d.onnx"
    arguments = ["--format", "deepness", "--tile-size", "96", "--resolution", "0.6", "-o", str(out)]
    assert main(["export", str(model), *arguments]) == 0
    told = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(told["resolution"]) == 60.0
    said = capsys.readouterr().out
    assert "60 cm" in said
    assert "1=B02 2=B03 3=B04 4=B08; values as of sentinel2_l2a" in said


def test_what_differs_from_its_model_is_not_kept(model, tmp_path, monkeypatch, capsys):
    def misunderstood(raw):  # what the plugin does
        return np.asarray(raw / 256.0, np.float32)

    monkeypatch.setattr(qgis_deepness, "as_the_plugin", misunderstood)
    arguments = ["--format", "deepness", "--tile-size", "96", "-o", str(tmp_path / "d.onnx")]
    assert main(["export", str(model), *arguments]) == 2
    assert "nothing was kept" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_overwritten(model, small):
    before = small.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        export_deepness(load(model), small)
    assert small.read_bytes() == before
