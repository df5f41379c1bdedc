"""A run on timm's networks from a made weight file: the model, its map and its exports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.timm_models import write_file
from safetensors.torch import load_file

import geotl
from geotl.cli.main import main
from geotl.errors import GeoTLError
from geotl.models.model_file import read_header

CNN = "timm:test_convnext"
QUICK = (
    "split.repeats=1",
    "split.shots=4",
    "split.inner_folds=2",
    "probe.views=1",
    "evaluate.bootstrap_rounds=20",
    "evaluate.rgb_only=false",
    "evaluate.random_weights=false",
    "evaluate.explain=false",
    "-q",
)
pytestmark = pytest.mark.usefixtures("one_thread", "unrendered")


def run(folder: Path, name: str, *more: str) -> Path:
    """The model of a run on the sample tiles."""
    weights = folder / "w.safetensors"
    write_file(weights, name)
    given = [f"model.backbone={name}", f"model.weights={weights}", "model.truncate_after=null"]
    out = folder / "run"
    assert main(["run", "sample_target", *given, *QUICK, *more, "--output", str(out)]) == 0
    return out / "model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("cnn"), CNN, "model.input_px=64")


def test_a_run_keeps_network_and_weights_in_the_model(model):
    header = read_header(model)
    assert header["backbone"] == CNN
    assert header["spec"]["stages"] == ["stage1", "stage2", "stage3", "stage4"]
    assert [Path(one["source"]).name for one in header["weights"]["chain"]] == ["w.safetensors"]


def test_the_model_opens_without_a_network_and_predicts_the_same(model):
    """In a process in which no socket connects and the hub's cache is empty."""
    tiles = Path("sample_tiles/target")
    words = (
        "import socket, sys, numpy, geotl\n"
        "def closed(*a, **k): raise OSError('no network in tests')\n"
        "socket.socket.connect = closed\n"
        f"found = geotl.load({str(model)!r}).predict({str(tiles)!r})\n"
        "numpy.save(sys.argv[1], found.logits)\n"
    )
    out = model.with_name("logits.npy")
    subprocess.run([sys.executable, "-c", words, str(out)], check=True)
    np.testing.assert_array_equal(np.load(out), geotl.load(model).predict(tiles).logits)


@pytest.mark.parametrize(("form", "suffix"), [("onnx", "onnx"), ("pt2", "pt2")])
def test_exports_give_what_the_model_gives(model, tmp_path, form, suffix):
    """The command keeps a file only if it agrees with the model."""
    out = tmp_path / f"m.{suffix}"
    assert main(["export", str(model), "--format", form, "-o", str(out)]) == 0
    assert out.stat().st_size > 0


def test_a_scene_is_mapped(model, tmp_path):
    out = tmp_path / "map.tif"
    given = ["map", str(model), "sample_tiles/scene.tif", "-o", str(out), "-q"]
    assert main([*given, "--no-page", "--mode", "exact", "--stride-px", "32"]) == 0
    assert out.is_file()


def test_fine_tuning_leaves_the_frozen_stages_as_they_were(tmp_path):
    more = ("strategy=finetune", "model.freeze_until=stage1", "train.epochs=1", "model.input_px=32")
    tuned = geotl.load(run(tmp_path, "timm:test_efficientnet", *more))
    given = load_file(tmp_path / "w.safetensors")
    own = tuned.network.backbone.stages["stage1"].state_dict()
    assert own
    assert all(np.array_equal(own[name], given[f"blocks.{name}"]) for name in own)
    later = tuned.network.backbone.stages["stage3"].state_dict()
    assert not all(np.array_equal(later[name], given[f"blocks.{name}"]) for name in later)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory) -> Path:
    """Fine-tuned from its third block on, after a probe; the frozen blocks' tokens are cached."""
    more = ("strategy=probe_then_finetune", "model.freeze_until=block3", "train.epochs=1")
    return run(tmp_path_factory.mktemp("vit"), "timm:test_vit", *more, "model.input_px=64,96")


def test_a_transformer_is_tuned_after_its_frozen_blocks(transformer):
    spec = read_header(transformer)["spec"]
    assert spec["stages"] == ["block1", "block3", "block4", "top"]
    assert read_header(transformer)["frozen_until"] == "block3"
    stages = geotl.load(transformer).network.backbone.stages
    given = load_file(transformer.parents[1] / "w.safetensors")
    for number in (1, 3):
        own = stages[f"block{number}"].net.state_dict()
        assert all(np.array_equal(own[n], given[f"blocks.{number - 1}.{n}"]) for n in own)
    later = stages["block4"].net.state_dict()
    assert not all(np.array_equal(later[n], given[f"blocks.3.{n}"]) for n in later)
    kernels = stages["embed"].net.patch_embed.proj.weight
    assert kernels.shape == (64, 10, 16, 16)
    assert geotl.load(transformer).predict("sample_tiles/target").logits.shape[1] > 2


def test_a_transformer_is_exported_and_mapped_window_by_window(transformer, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert main(["export", str(transformer), "--format", "onnx", "-o", str(out)]) == 0
    given = ["map", str(transformer), "sample_tiles/scene.tif", "-o", str(tmp_path / "m.tif")]
    assert main([*given, "-q", "--no-page", "--stride-px", "40"]) == 0
    capsys.readouterr()
    assert main([*given, "-q", "--mode", "dense", "--overwrite"]) == 2
    message = capsys.readouterr().err
    assert "dense mode: timm:test_vit is a transformer, whose tokens see the whole" in message
    assert "--mode exact" in message


def test_a_transformer_describes_no_single_pixels(tmp_path, capsys):
    write_file(tmp_path / "w.pth", "timm:test_vit")
    weights = ["model.backbone=timm:test_vit", f"model.weights={tmp_path / 'w.pth'}"]
    assert main(["run", "sample_pixels", *weights, "-q", "--output", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "model.backbone: timm:test_vit is a transformer" in message
    assert message.count("\n") == 1


def test_a_tile_that_is_no_whole_number_of_patches_ends_before_training(tmp_path, capsys):
    write_file(tmp_path / "w.pth", "timm:test_vit")
    given = ["model.backbone=timm:test_vit", f"model.weights={tmp_path / 'w.pth'}"]
    more = ["model.truncate_after=null", "model.input_px=64,100", "--output", str(tmp_path / "run")]
    assert main(["run", "sample_target", *given, *QUICK, *more]) == 2
    assert "multiple of 16 px; set model.input_px to [96] or [112]" in capsys.readouterr().err


def test_a_model_of_a_network_that_timm_lacks_or_that_its_tensors_do_not_fit(model, tmp_path):
    """Nothing is built before the tensors are known to fit: a huge network costs no memory."""
    raw = model.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    for name, says in (
        ("timm:vit_giant_patch14_dinov2", "lacks"),
        ("timm:hf-hub:someone/anything", "has no such network"),
    ):
        header = json.loads(raw[8 : 8 + size])
        contract = json.loads(header["__metadata__"]["geotl"])
        contract.pop("checksum")  # as in files of earlier versions
        header["__metadata__"]["geotl"] = json.dumps({**contract, "backbone": name})
        words = json.dumps(header).encode()
        path = tmp_path / "m.safetensors"
        path.write_bytes(len(words).to_bytes(8, "little") + words + raw[8 + size :])
        with pytest.raises(GeoTLError) as caught:
            geotl.load(path)
        assert "\n" not in str(caught.value)
        assert says in str(caught.value)


def test_a_model_without_timm_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(GeoTLError, match=r"pip install 'geotl\[timm\]'") as caught:
        geotl.load(model)
    assert "\n" not in str(caught.value)


def test_dense_mode_and_single_pixels_say_where_they_cannot(tmp_path, capsys):
    name = "timm:test_efficientnet"
    model = run(tmp_path, name, "model.input_px=64")
    given = ["map", str(model), "sample_tiles/scene.tif", "-o", str(tmp_path / "m.tif"), "-q"]
    assert main([*given, "--mode", "dense"]) == 2
    message = capsys.readouterr().err
    assert f"dense mode: {name} takes means or attention over the window" in message
    assert message.count("\n") == 1
    weights = [f"model.backbone={name}", f"model.weights={tmp_path / 'w.safetensors'}"]
    out = str(tmp_path / "pixels")
    assert main(["run", "sample_pixels", *weights, "-q", "--output", out]) == 2
    message = capsys.readouterr().err
    assert f"model.backbone: {name} takes means" in message
    assert message.count("\n") == 1
