"""Weights that timm publishes, through its own loader, from made files in a cache of the test."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from helpers.hub_cache import own_hub
from helpers.timm_models import write_file

from geotl.cli.main import main
from geotl.errors import WeightsError
from geotl.imagery.sensors import SENSORS
from geotl.io.files import sha256_of
from geotl.models.normalisation import as_dn
from geotl.models.registry import build_backbone, get_backbone
from geotl.models.timm_networks import library
from geotl.models.weight_loading import InitialWeights

NAME = "timm:test_convnext"
RGB = (["red", "green", "blue"], [665.0, 560.0, 490.0])
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no way out of it."""
    folder = tmp_path / "hub"
    folder.mkdir()
    own_hub(folder, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def in_cache(hub: Path, name: str, file: str = "model.safetensors") -> Path:
    """Where the hub's cache keeps a file of timm's weights."""
    entry = library().get_pretrained_cfg(name.removeprefix("timm:")).hf_hub_id
    folder = hub / f"models--{entry.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    path = folder / "snapshots" / REVISION / file
    path.parent.mkdir(parents=True)
    return path


def built(weights: str, name: str = NAME, **options):
    return build_backbone(name, *RGB, initial=InitialWeights(weights, **options))


@pytest.mark.parametrize("weights", ["pretrained", "timm:test_convnext.r160_in1k"])
def test_weights_come_by_name_from_timms_own_cache(hub, weights):
    path = in_cache(hub, NAME)
    made = write_file(path, NAME)
    backbone, report = built(weights)
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64)
        assert torch.equal(list(backbone.eval()(image).values())[-1], made.forward_features(image))
    assert report.sha256 == sha256_of(path)
    assert report.source.startswith("timm:test_convnext")
    assert "timm/test_convnext" in report.summary()
    assert not backbone.random_stages
    sensor = SENSORS["rgb"]
    mean, sd = as_dn(report.normalisation, sensor, ["red"], eight_bit=True)
    assert (mean, sd) == ([127.5], [127.5])
    with pytest.raises(WeightsError, match=r"correct model\.sha256"):
        built(weights, sha256="0" * 64)


@pytest.mark.parametrize("online", [True, False])
def test_weights_that_cannot_be_had_are_one_line_and_never_random(hub, monkeypatch, online):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", not online)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub's own attempts
    with pytest.raises(WeightsError, match=r"timm/test_convnext.*local \.pth") as caught:
        built("pretrained")
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_is_one_line_within_seconds(hub, monkeypatch, capfd):
    """Red before: a minute of the hub's own lines, "Retrying in 8s [Retry 5/5]"."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    begun = time.perf_counter()
    with pytest.raises(WeightsError, match=r"huggingface\.co cannot be reached .*local \.pth"):
        built("pretrained")
    assert time.perf_counter() - begun < 10
    assert "Retry" not in "".join(capfd.readouterr())


def test_weights_in_the_cache_are_read_without_asking_the_hub(hub, monkeypatch, capfd):
    """Red before: the hub was asked six times for a file that was there."""
    write_file(in_cache(hub, NAME), NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    begun = time.perf_counter()
    _, report = built("pretrained")
    assert time.perf_counter() - begun < 10
    assert report.source.startswith(NAME)
    assert "Retry" not in "".join(capfd.readouterr())


def test_a_damaged_or_foreign_file_in_the_cache_is_one_line(hub):
    path = in_cache(hub, NAME)
    path.write_bytes(b"cut short")
    with pytest.raises(WeightsError, match=r"damaged.*delete it") as caught:
        built("pretrained")
    assert "\n" not in str(caught.value)
    write_file(path, "test_efficientnet")
    with pytest.raises(WeightsError, match="does not fit"):
        built("pretrained")


def test_a_pickle_with_code_in_the_cache_is_not_run(hub, tmp_path):
    path, mark = in_cache(hub, NAME, "pytorch_model.bin"), tmp_path / "ran"
    no_exist = path.parents[2] / ".no_exist" / REVISION / "model.safetensors"
    no_exist.parent.mkdir(parents=True)
    no_exist.touch()  # so the cache remembers that the hub has no such file
    torch.save({"weight": Ran(str(mark))}, path)
    with pytest.raises(WeightsError, match="does not fit or is damaged"):
        built("pretrained")
    assert not mark.exists()


class Ran:
    """Unpickled, it would write a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "ran"))


@pytest.mark.parametrize(
    ("weights", "name", "says"),
    [
        ("timm:test_convnext2.r160_in1k", NAME, "another network's than timm:test_convnext;"),
        ("timm:test_convnext.r160_in2k", NAME, r"did you mean timm:test_convnext\.r160_in1k"),
        ("pretrained", "timm:mobilenetv2_035", "timm has none for mobilenetv2_035"),
        ("pretrained", "resnet18", "none of resnet18's"),
        ("timm:resnet18.a1_in1k", "resnet18", "none of resnet18's"),
    ],
)
def test_names_of_weights_that_do_not_fit_are_one_line(hub, weights, name, says):
    with pytest.raises(WeightsError, match=says) as caught:
        built(weights, name)
    assert "\n" not in str(caught.value)
    assert get_backbone(name)


def test_a_run_without_its_weights_ends_with_one_line(hub, tmp_path, capsys):
    given = [
        f"model.backbone={NAME}",
        "model.weights=pretrained",
        "model.truncate_after=null",
        "-q",
    ]
    assert main(["run", "sample_target", *given, "--output", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "timm/test_convnext" in message
