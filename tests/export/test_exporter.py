"""Exported graphs: parity with the model, what they say of themselves, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.map_fixtures import CLASSES, PX

import geotl
from geotl.cli.main import main
from geotl.errors import ModelError, OutputError
from geotl.export import exporter
from geotl.export.exporter import KINDS, export_graph
from geotl.export.graphs import LIMITS, Parity, example_tiles, run_onnx
from geotl.inference.onnx_file import read_passport
from geotl.models.model_file import load

FORMATS = tuple(KINDS)


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "m.onnx"
    export_graph(load(model), "onnx", out, log=lambda _: None)
    return out


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_says_what_the_model_says(form, model, tmp_path, capsys):
    out = tmp_path / f"m{KINDS[form].suffix}"
    assert main(["export", str(model), "--format", form, "-o", str(out)]) == 0
    assert "parity on" in capsys.readouterr().out
    tiles = example_tiles(load(model))
    chances, logits = KINDS[form].run(out)(tiles)
    wanted = geotl.load(model).predict(tiles, precision="float32")
    np.testing.assert_allclose(chances, wanted.probabilities, atol=1e-5)
    temperature = float(load(model).network.temperature)
    np.testing.assert_allclose(logits, wanted.logits / temperature, atol=1e-4)


def test_nodata_and_nan_are_not_seen(model, onnx_file):
    tiles = example_tiles(load(model))
    holed = tiles.copy()
    holed[:, :, :8] = 0  # the sensor's nodata
    blank = np.where(holed == 0, np.float32(np.nan), holed)
    run = run_onnx(onnx_file)
    np.testing.assert_array_equal(run(holed)[1], run(blank)[1])
    wanted = geotl.load(model).predict(holed, precision="float32")
    np.testing.assert_allclose(run(holed)[0], wanted.probabilities, atol=1e-5)
    assert np.abs(run(holed)[1] - run(tiles)[1]).max() > 1e-3


def test_an_onnx_file_says_what_it_is(model, onnx_file):
    proto = onnx.load(onnx_file)
    assert proto.ir_version == 9
    assert [o.version for o in proto.opset_import if o.domain == ""] == [18]
    assert not list(onnx_file.parent.glob("*.data"))
    told = read_passport(onnx_file)
    assert told["contract"]["classes"] == list(CLASSES)
    assert told["precision"] == "float32"
    assert proto.graph.input[0].name == "image"
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_views_do_not_make_the_graph_longer(model, tmp_path):
    held = {}
    for views in (1, 8):
        out = tmp_path / f"{views}.onnx"
        export_graph(load(model), "onnx", out, views=views, log=lambda _: None)
        nodes = [n.op_type for n in onnx.load(out).graph.node]
        held[views] = nodes.count("Conv")
    assert held[1] == held[8] > 0


def test_an_altered_byte_is_refused(onnx_file, tmp_path, capsys):
    content = bytearray(onnx_file.read_bytes())
    content[len(content) // 2] ^= 1
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content)
    with pytest.raises(ModelError, match="checksum is wrong"):
        read_passport(bad)


def test_a_foreign_onnx_file_is_refused(onnx_file, tmp_path):
    proto = onnx.load(onnx_file)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="not an ONNX file that geotl exported"):
        read_passport(tmp_path / "other.onnx")


def test_what_differs_from_its_model_is_not_kept(model, tmp_path, monkeypatch, capsys):
    real = KINDS["pt2"].run

    def wrong(path):
        run = real(path)
        return lambda tiles: tuple(part + np.float32(0.01) for part in run(tiles))

    kinds = {**KINDS, "pt2": exporter.Kind(KINDS["pt2"].write, wrong, ".pt2")}
    monkeypatch.setattr(exporter, "KINDS", kinds)
    with pytest.raises(ModelError, match="nothing was kept"):
        export_graph(load(model), "pt2", tmp_path / "m.pt2")
    assert main(["export", str(model), "--format", "pt2", "-o", str(tmp_path / "m.pt2")]) == 2
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_overwritten(model, onnx_file):
    before = onnx_file.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        export_graph(load(model), "onnx", onnx_file)
    assert onnx_file.read_bytes() == before


def test_pt2_carries_the_passport(model, tmp_path):
    out = tmp_path / "m.pt2"
    export_graph(load(model), "pt2", out, log=lambda _: None)
    extra = {"geotl.json": ""}
    torch.export.load(out, extra_files=extra)
    assert json.loads(extra["geotl.json"])["contract"]["tile_px"] == PX


@pytest.mark.parametrize(
    ("apart", "largest", "kept"),
    [
        (9e-5, 1.0, True),
        (2e-4, 1.0, False),
        (1e-3, 15146.0, True),
        (2e-2, 15146.0, False),
        (float("nan"), 15146.0, False),
    ],
)
def test_logits_may_differ_by_roundings_of_the_largest(apart, largest, kept):
    found = Parity(24, apart, 0.0, 1.0, largest)
    assert (found.fault(LIMITS["float32"]) is None) == kept
