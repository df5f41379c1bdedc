"""Pixel models exported: every pixel of an image of any size as geotl map classifies it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.map_fixtures import BANDS, CLASSES, made_pixels, patches
from helpers.pixel_models import made_pixel_model, small_network

import geotl
from geotl.cli.main import main
from geotl.errors import ModelError, OutputError
from geotl.export import graphs, pixel_export
from geotl.export.graphs import run_onnx, run_pt2
from geotl.export.pixel_export import (
    compare_pixels,
    deployed_pixels,
    example_images,
    export_pixels,
    graph_halo,
    mapped_pixels,
)
from geotl.inference.onnx_file import read_passport
from geotl.models.pixel_file import PixelModelFile, load_pixel_model, save_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")
RUN = {"onnx": run_onnx, "pt2": run_pt2}
COMPOSITES = ((2, 1, 0), (3, 2, 1))  # of the network of the model with all parts
KINDS = {"linear": (False, False), "forest": (False, True), "deep": (True, False)}


def made(folder: Path, *, network: bool, forest: bool) -> PixelModelFile:
    """A small model with or without a network, with or without its forest."""
    deep = small_network(composites=COMPOSITES if forest else ()) if network else None
    file = load_pixel_model(made_pixel_model(folder / "a", windows_px=(3, 9), deep=deep))
    weights = dict(file.model.weights) | ({} if forest else {"forest": 0.0})
    path = folder / f"{network}{forest}.safetensors"
    save_pixel_model(path, replace(file, model=replace(file.model, weights=weights)))
    return load_pixel_model(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture(scope="module")
def models(folder) -> dict[str, PixelModelFile]:
    kinds = KINDS | {"both": (True, True)}
    return {k: made(folder, network=n, forest=f) for k, (n, f) in kinds.items()}


@pytest.fixture(scope="module")
def exports(models, folder) -> dict[tuple[str, str], Path]:
    """Files by kind of model and format; those in ONNX cover all kinds."""
    wanted = [*((kind, "onnx") for kind in models), ("linear", "pt2"), ("both", "pt2")]
    found = {}
    for kind, form in wanted:
        found[kind, form] = folder / f"{kind}.{form}"
        export_pixels(models[kind], form, found[kind, form], log=lambda _: None)
    return found


def image_of(rows: int, cols: int) -> np.ndarray:
    """Raw pixels with holes: NaN in all bands, nodata in all, and nodata in one."""
    made = made_pixels(patches(16, 16), 16, noise=200)[:, :rows, :cols].astype(np.float32)
    made[:, rows // 2 :, cols // 2 : cols // 2 + 12] = np.nan
    made[:, : rows // 3, :9] = 0
    made[2, rows // 2 - 8 : rows // 2 + 8, 20 : cols - 20] = 0
    return made


def inside(model: PixelModelFile, values: np.ndarray) -> np.ndarray:
    halo, _ = graph_halo(model.model)
    return values[..., halo:-halo, halo:-halo]


@pytest.mark.parametrize("size", [(131, 110), (96, 157)])
@pytest.mark.parametrize("kind", ["linear", "forest", "deep", "both"])
def test_the_module_classifies_as_geotl_map(models, kind, size):
    model, image = models[kind], image_of(*size)
    with torch.no_grad():
        found, scores = deployed_pixels(model)(torch.from_numpy(image[None]))
    wanted = mapped_pixels(model, image)
    assert wanted.std() > 0.2
    np.testing.assert_allclose(inside(model, found[0].numpy()), wanted, atol=1e-5)
    np.testing.assert_allclose(torch.softmax(scores, dim=1), found, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "form"),
    [(k, "onnx") for k in ("linear", "forest", "deep", "both")]
    + [("linear", "pt2"), ("both", "pt2")],
)
def test_an_export_classifies_as_geotl_map_at_any_size(models, exports, kind, form):
    model, run = models[kind], RUN[form](exports[kind, form])
    images = [image_of(131, 110), image_of(96, 157)]
    assert compare_pixels(model, run, images).probabilities < 1e-5
    two = np.stack([images[0], images[0][:, ::-1]])
    both = run(two)
    assert both[0].shape == both[1].shape == (2, 3, 131, 110)
    for one, alone in zip(both[0], two, strict=True):
        np.testing.assert_allclose(one, run(alone[None])[0][0], atol=1e-5)


def test_an_onnx_file_has_free_axes_and_says_what_it_is(models, exports):
    proto = onnx.load(exports["both", "onnx"])
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 9
    assert {o.domain: o.version for o in proto.opset_import} == {"": 18, "ai.onnx.ml": 3}
    shapes = {
        one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "image": ["batch", 4, "height", "width"],
        "probabilities": ["batch", 3, "height", "width"],
        "logits": ["batch", 3, "height", "width"],
    }
    assert [n.op_type for n in proto.graph.node].count("TreeEnsembleRegressor") == 1
    told = read_passport(exports["both", "onnx"])
    assert told["kind"] == "pixels"
    assert told["contract"]["classes"] == list(CLASSES)
    assert told["features"]["bands"] == list(BANDS)
    assert (told["halo_px"], told["stride_px"]) == (40, 8)
    assert told["weights"] == dict(models["both"].model.weights)


def test_pt2_carries_the_passport(exports):
    extra = {"geotl.json": ""}
    torch.export.load(exports["linear", "pt2"], extra_files=extra)
    assert json.loads(extra["geotl.json"])["halo_px"] == 4


def test_an_export_tells_no_folder_and_repeats(models, exports, folder, tmp_path):
    again = tmp_path / "again.pt2"
    export_pixels(models["linear"], "pt2", again, log=lambda _: None)
    assert again.read_bytes() == exports["linear", "pt2"].read_bytes()
    for path in exports.values():
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        for place in (Path(geotl.__file__).parent, Path(torch.__file__).parent, folder):
            assert not [part for part in parts if str(place).encode() in part]


def test_pixels_at_the_edge_lack_what_lies_beyond(models):
    """Which the halo states: beyond it a crop says what the whole image says, within it not."""
    model, whole = models["both"], image_of(160, 170)
    network = deployed_pixels(model)
    halo, stride = graph_halo(model.model)
    corner = 3 * stride
    with torch.no_grad():
        every = network(torch.from_numpy(whole[None]))[0][0].numpy()
        crop = np.ascontiguousarray(whole[None, :, corner:, corner:])
        part = network(torch.from_numpy(crop))[0][0].numpy()
    gap = np.abs(part - every[:, corner:, corner:])
    assert gap[:, halo:, halo:].max() < 1e-5
    assert gap.max() > 1e-3


def test_examples_have_holes_and_several_classes(models):
    for kind in ("linear", "both"):
        model = models[kind]
        halo, _ = graph_halo(model.model)
        one, other = example_images(model, halo)
        assert one.shape != other.shape
        assert np.isnan(one).any()
        assert (one == 0).any()
        shares = np.bincount(mapped_pixels(model, one).argmax(axis=0).ravel()) / one[0].size
        assert (shares > 0.02).sum() > 1


def test_a_member_is_exported_alone(models, tmp_path, capsys):
    path, out = models["both"].path, tmp_path / "m.onnx"
    assert main(["export", str(path), "--format", "onnx", "-o", str(out), "--member", "bands"]) == 0
    assert "parity with geotl map" in capsys.readouterr().out
    told = read_passport(out)
    assert (list(told["members"]), told["halo_px"]) == (["bands"], 0)
    image = image_of(30, 20)
    alone = replace(models["both"], model=models["both"].model.alone("bands"))
    assert compare_pixels(alone, run_onnx(out), [image]).probabilities < 1e-5
    assert compare_pixels(models["linear"], run_onnx(out), [image]).probabilities > 1e-3
    words = ["export", str(path), "--format", "onnx", "-o", str(tmp_path / "x"), "--member", "sky"]
    assert main(words) == 2
    assert "member 'sky' is not in this model" in capsys.readouterr().err


def test_what_differs_from_its_model_is_not_kept(models, tmp_path, monkeypatch):
    real = pixel_export.run_pt2

    def wrong(path):
        run = real(path)
        return lambda image: tuple(part + np.float32(0.01) for part in run(image))

    monkeypatch.setattr(pixel_export, "run_pt2", wrong)
    with pytest.raises(ModelError, match="nothing was kept"):
        export_pixels(models["linear"], "pt2", tmp_path / "m.pt2", log=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_nan_is_beyond_every_limit(models):
    found = graphs.map_parity("here", [(np.full((2, 3, 3), np.nan), np.zeros((2, 3, 3)))])
    with pytest.raises(ModelError):
        found.check(Path("m.onnx"))


def test_a_file_is_not_overwritten(models, exports):
    with pytest.raises(OutputError, match="--overwrite"):
        export_pixels(models["linear"], "onnx", exports["linear", "onnx"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "torchscript"], "not for a model of pixels; give onnx, pt2, deepness, mlm"),
        (["--format", "safetensors"], "not for a model of pixels; give onnx, pt2, deepness, mlm"),
        (["--format", "hub"], "not for a model of pixels; give onnx, pt2, deepness, mlm"),
        (["--format", "onnx", "--views", "4"], "--views: does not go with a model of pixels"),
        (["--format", "onnx", "--precision", "float16"], "--precision float16: does not go"),
    ],
)
def test_what_does_not_go_is_told_in_a_line(models, tmp_path, capsys, words, told):
    path = models["linear"].path
    assert main(["export", str(path), "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
