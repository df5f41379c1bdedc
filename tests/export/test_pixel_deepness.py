"""Pixel models for the Deepness plugin: its classes are those of geotl map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
import torch
from helpers.deepness_plugin import missing, name_pixels
from helpers.map_fixtures import BANDS, CLASSES, made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model, small_decoder, small_network

from geotl.cli.main import main
from geotl.errors import DataError, ModelError
from geotl.export.pixel_deepness import PluginPixels, export_pixel_deepness, pixel_layout
from geotl.export.pixel_export import deployed_pixels, graph_halo
from geotl.export.qgis_deepness import DeepnessOptions, as_the_plugin
from geotl.inference.onnx_model import open_served
from geotl.models.pixel_file import load_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")
TILE_PX = 176
KINDS = {"forest": "exclude", "deep": "use", "decoder": "exclude"}


@pytest.fixture(scope="module", params=list(KINDS))
def model(request, tmp_path_factory) -> Path:
    kind, rule = request.param, KINDS[request.param]
    path = tmp_path_factory.mktemp("model") / f"{kind}.safetensors"
    deep = small_network() if kind == "deep" else None
    decoder = small_decoder() if kind == "decoder" else None
    given = {"windows_px": (3, 9), "missing_bands": rule, "deep": deep, "decoder": decoder}
    return made_pixel_model(path, **given)


@pytest.fixture(scope="module")
def exported(model) -> Path:
    out = model.with_suffix(".onnx")
    options = DeepnessOptions(TILE_PX)
    export_pixel_deepness(load_pixel_model(model), out, options, log=lambda _: None)
    return out


def mapped(model: Path, scene: Path, out: Path) -> np.ndarray:
    """Classes of geotl map, numbered as the plugin does: 0 none, then the model's."""
    words = ["map", str(model), str(scene), "-o", str(out), "--mask", "none", "--no-page", "-q"]
    assert main(words) == 0
    with rasterio.open(out) as source:
        found = source.read(1)
    return np.where(found == 255, 0, found + 1)


def test_the_plugin_makes_the_map_of_geotl_map(model, exported, tmp_path):
    """Away from the layer's edges, where the plugin adds zeros or a tile ends."""
    file = load_pixel_model(model)
    layout, (halo, stride) = pixel_layout(file.model, TILE_PX), graph_halo(file.model)
    rows = TILE_PX + layout.stride_px * 2
    above, _ = missing((rows, 300), TILE_PX, layout.stride_px)
    assert above % stride == 0
    pixels = made_pixels(patches(24, 20), 24, noise=300)[:, :rows, :300]
    pixels[:, 150:180, 90:170] = 0
    pixels[0, 60:90, 200:215] = 0
    scene = write_scene(tmp_path / "s.tif", pixels, nodata=0)
    wanted, found = mapped(model, scene, tmp_path / "m.tif"), name_pixels(exported, scene)
    inside = np.s_[halo : rows - halo, halo : 300 - halo]
    assert set(np.unique(wanted)) == {0, 1, 2, 3}
    assert (found == wanted)[inside].mean() >= 0.999
    assert ((found == 0) == (wanted == 0)).all()


def test_the_metadata_is_what_the_plugin_reads(model, exported):
    layout = pixel_layout(load_pixel_model(model).model, TILE_PX)
    proto = onnx.load(exported)
    told = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(told["model_type"]) == "Segmentor"
    names = dict(enumerate(["no data", *CLASSES]))
    assert json.loads(told["class_names"]) == {str(k): name for k, name in names.items()}
    assert json.loads(told["resolution"]) == 1000.0
    assert json.loads(told["tile_size"]) == TILE_PX
    assert json.loads(told["tiles_overlap"]) == layout.overlap_percent
    assert json.loads(told["standardization_mean"]) == [0.0] * 4
    assert json.loads(told["standardization_std"]) == [1.0] * 4
    shapes = [
        [d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [[1, 4, TILE_PX, TILE_PX], [1, 4, TILE_PX, TILE_PX]]
    onnx.checker.check_model(proto, full_check=True)


def test_the_overlap_hides_the_halo(model):
    of = load_pixel_model(model).model
    halo, stride = graph_halo(of)
    for tile in (None, TILE_PX, 256):
        layout = pixel_layout(of, tile)
        assert (layout.tile_px - layout.stride_px) // 2 >= halo
        assert layout.tile_px % stride == layout.stride_px % stride == 0
    with pytest.raises(DataError, match="tile size"):
        pixel_layout(of, halo)


def test_whole_numbers_are_recovered_exactly(model):
    network = deployed_pixels(load_pixel_model(model))
    raw = np.arange(1, 65536, dtype=np.uint16).reshape(1, 1, -1).repeat(len(BANDS), 0)
    plugin = PluginPixels(network, some_bands=True)
    found = plugin.recovered(torch.from_numpy(as_the_plugin(raw)[None])).numpy()
    np.testing.assert_array_equal(found[0], raw)
    odd = np.float32([[0.123456, 0, np.nan, np.inf]])
    found = plugin.recovered(torch.from_numpy(odd / 255)[None, None]).numpy()[0, 0, 0]
    assert found[0] == pytest.approx(0.123456, rel=1e-6)
    assert np.isnan(found[1:]).all()


def test_geotl_map_does_not_take_it(exported):
    with pytest.raises(ModelError, match="made for QGIS's Deepness plugin"):
        open_served(exported)


def test_the_command_tells_bands_and_tiles(model, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    words = ["--format", "deepness", "-o", str(out), "--tile-size", str(TILE_PX), "--member"]
    assert main(["export", str(model), *words, "bands"]) == 0
    told = capsys.readouterr().out
    assert "1=B02 2=B03 3=B04 4=B08" in told
    assert f"tiles    {TILE_PX} px, 0 % overlap" in told
    assert main(["export", str(model), *words, "bands", "--stride-px", "4", "--overwrite"]) == 2
    assert "--stride-px: does not go with a model of pixels" in capsys.readouterr().err
