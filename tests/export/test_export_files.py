"""Exported files away from geotl: other interpreters, other devices, and what they do not tell."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.map_fixtures import CLASSES, made_tiles, patches, write_scene
from helpers.map_fixtures import made_pixels as pixels_of

import geotl
from geotl.cli.main import main
from geotl.errors import ModelError
from geotl.export.deployable import deployed
from geotl.export.exporter import KINDS, export_bare, export_graph
from geotl.export.graphs import example_tiles
from geotl.mapping.options import MapOptions
from geotl.models.model_file import ModelFile, load, read_header, save

ALONE = """
import sys
sys.path[:0] = [sys.argv[1]]
try:
    import geotl
except ModuleNotFoundError as error:
    assert error.name == "geotl"
else:
    sys.exit("geotl is here, so that this shows nothing")
import numpy as np, torch
form, file, tiles = sys.argv[2], sys.argv[3], torch.from_numpy(np.load(sys.argv[4]))
module = torch.export.load(file).module() if form == "pt2" else torch.jit.load(file)
with torch.no_grad():
    for size in (1, 7):
        chances, logits = module(tiles[:size])
        np.savez(f"{file}.{size}.npz", chances=chances.numpy(), logits=logits.numpy())
assert not [name for name in sys.modules if name.split(".")[0] == "geotl"]
"""
FROM_ELSEWHERE = """
import sys, torch
assert not torch.cuda.is_available()
from geotl.cli.main import main
sys.exit(main(["export", sys.argv[1], "--format", sys.argv[2], "-o", sys.argv[3]]))
"""


@pytest.fixture(scope="module")
def bare_file(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bare") / "bare.safetensors"
    assert main(["export", str(model), "--format", "safetensors", "-o", str(out), "-q"]) == 0
    return out


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """Links to every installed package but geotl, which may be installed or linked to itself."""
    folder = tmp_path_factory.mktemp("packages")
    for entry in Path(torch.__file__).parent.parent.iterdir():
        if "geotl" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize("form", ["pt2", "torchscript"])
def test_a_file_opens_without_geotl(form, model, packages, tmp_path):
    out = tmp_path / f"m{KINDS[form].suffix}"
    export_graph(load(model), form, out, log=lambda _: None)
    tiles = example_tiles(load(model))[:7]
    np.save(tmp_path / "tiles.npy", tiles)
    done = subprocess.run(  # -I and -S: no paths of the environment, no .pth files, not this folder
        [sys.executable, "-I", "-S", "-c", ALONE, packages, form, out, tmp_path / "tiles.npy"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for size in (1, 7):
        found = np.load(f"{out}.{size}.npz")
        with torch.no_grad():
            chances, logits = deployed(load(model))(torch.from_numpy(tiles[:size]))
        np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
        np.testing.assert_allclose(found["chances"], chances, atol=1e-5)


@pytest.mark.parametrize("form", list(KINDS))
def test_an_export_tells_no_folder_and_repeats(form, model, tmp_path, recwarn):
    """Neither where geotl lies nor where the model lay; the same bytes, whatever its name."""
    outs = [tmp_path / f"{name}{KINDS[form].suffix}" for name in ("first", "second")]
    for out in outs:
        export_graph(load(model), form, out, log=lambda _: None)
    if form != "torchscript":  # whose tracer numbers its types through a process
        assert outs[0].read_bytes() == outs[1].read_bytes()
    parts = [outs[0].read_bytes()]
    if zipfile.is_zipfile(outs[0]):
        with zipfile.ZipFile(outs[0]) as archive:
            parts += [archive.read(name) for name in archive.namelist()]
            assert not [name for name in archive.namelist() if name.endswith("debug_pkl")]
    for folder in (Path(geotl.__file__).parent, Path(torch.__file__).parent, model.parent):
        assert not [part for part in parts if str(folder).encode() in part]
    assert not [w for w in recwarn if "No complete tensor" in str(w.message)]


def test_a_network_from_another_device_is_brought_here(model):
    """No GPU is here; what a GPU would leave behind can be: another type, mode and layout."""
    file = load(model)
    network = file.network.double().train().requires_grad_(True)
    made = deployed(file)
    state = list(made.state_dict().values())
    assert {tensor.device.type for tensor in state} == {"cpu"}
    assert {t.dtype for t in state if t.is_floating_point()} == {torch.float32}
    assert all(tensor.is_contiguous() for tensor in state)
    assert not made.training
    assert not [p for p in made.parameters() if p.requires_grad]
    assert network.training  # the model itself is as it was
    assert next(network.parameters()).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here to train on")
def test_a_model_from_a_gpu_is_exported_on_the_cpu(model, tmp_path):
    file = load(model)
    file.network.cuda()
    save(tmp_path / "gpu.safetensors", file)
    made = export_graph(file, "onnx", tmp_path / "m.onnx", log=lambda _: None)
    assert made.parity.logits < 1e-4
    assert next(file.network.parameters()).is_cuda
    assert (tmp_path / "gpu.safetensors").read_bytes() == model.read_bytes()


def test_a_model_file_names_no_device_and_exports_where_none_is(model, tmp_path, monkeypatch):
    content = model.read_bytes()
    held = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    fields = {key for name, entry in held.items() if name != "__metadata__" for key in entry}
    assert fields == {"dtype", "shape", "data_offsets"}  # the format has no room for a device
    assert "cuda" not in held["__metadata__"]["geotl"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "m.onnx"
    subprocess.run([sys.executable, "-c", FROM_ELSEWHERE, model, "onnx", out], check=True)
    assert out.is_file()


def test_a_bare_file_holds_nothing_of_the_training_tiles(model, bare_file):
    content = bare_file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    held = json.loads(content[8 : 8 + size])
    network = set(load(model).network.state_dict())
    assert set(held) == network | {"__metadata__"}
    header = read_header(bare_file)
    assert header["classes"] == list(CLASSES)
    assert not {"recipe", "training", "seed"} & set(header)
    tile = made_tiles()[0][0, 0]
    assert tile[0].tobytes() in model.read_bytes()
    assert tile[0].tobytes() not in content
    assert str(model.parent).encode() not in content
    assert bare_file.stat().st_size < model.stat().st_size


def test_weights_are_told_without_their_folders(model, tmp_path):
    file = load(model)
    weights = {"chain": [{"source": "/home/ada/a.pth", "sha256": "01", "notes": ["x"]}]}
    told = ModelFile(
        file.network, file.contract, file.stored_samples, {**file.notes, "weights": weights}
    )
    export_bare(told, tmp_path / "b.safetensors", log=lambda _: None)
    held = read_header(tmp_path / "b.safetensors")["weights"]
    assert held == {"chain": [{"source": "a.pth", "sha256": "01"}]}


def test_a_bare_file_predicts_and_maps_as_its_model_does(model, bare_file, tmp_path, capsys):
    tiles = made_tiles()[0]
    wanted, found = (geotl.load(path).predict(tiles) for path in (model, bare_file))
    np.testing.assert_array_equal(found.logits, wanted.logits)
    scene = write_scene(tmp_path / "scene.tif", pixels_of(patches(4, 4), 32))
    maps = [
        geotl.load(path).map(scene, options=MapOptions(step_px=16)) for path in (model, bare_file)
    ]
    np.testing.assert_array_equal(maps[0]["classes"], maps[1]["classes"])
    assert load(bare_file).resolution_m == load(model).resolution_m == 10
    assert main(["inspect", str(bare_file)]) == 0
    assert "nothing of the training tiles" in capsys.readouterr().out


def test_a_bare_file_still_refuses_strange_radiometry(bare_file, tmp_path, capsys):
    values = pixels_of(patches(4, 4), 32).astype(np.float32) / 10_000
    scene = write_scene(tmp_path / "scene.tif", values)
    assert main(["map", str(bare_file), str(scene), "-o", str(tmp_path / "map.tif")]) == 2
    assert "values outside the model's training range" in capsys.readouterr().err


def test_what_needs_the_training_tiles_says_so(bare_file, tmp_path, capsys):
    scene = write_scene(tmp_path / "scene.tif", pixels_of(patches(4, 4), 32))
    given = ["map", str(bare_file), str(scene), "-o", str(tmp_path / "m.tif"), "--applicability"]
    for command in (
        given,
        ["export", str(bare_file), "--format", "onnx", "-o", str(tmp_path / "m.onnx")],
        ["suggest", str(bare_file), str(scene), "-n", "3", "-o", str(tmp_path / "s.gpkg")],
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "a bare file" in err
        assert "give the model.safetensors it was exported from" in err
        assert len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]
    with pytest.raises(ModelError, match="a bare file"):
        _ = load(bare_file).training_samples


def test_options_that_a_bare_file_has_no_use_for(model, tmp_path, capsys):
    given = ["export", str(model), "--format", "safetensors", "-o", str(tmp_path / "b.safetensors")]
    for more, told in (
        (["--views", "4"], "--views"),
        (["--precision", "int8"], "--precision int8"),
    ):
        assert main([*given, *more]) == 2
        assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
