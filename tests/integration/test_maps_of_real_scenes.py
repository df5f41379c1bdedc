"""Real scenes mapped: a rendering declared, an offset declared, and what is refused without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geotl
from geotl.cli.main import main
from geotl.evaluation.class_map import open_map
from geotl.imagery.scene import open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.windows import Window
from geotl.io.raster import read
from geotl.models import model_file

pytestmark = [pytest.mark.real_data, pytest.mark.usefixtures("one_thread", "own_cache")]
RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on a small random network, of a few EuroSAT RGB tiles."""
    place = tmp_path_factory.mktemp("eurosat")
    for name in ("Forest", "Residential", "SeaLake", "AnnualCrop"):
        (place / "tiles" / name).mkdir(parents=True)
        for tile in sorted((real_data / "eurosat_rgb" / name).iterdir())[:12]:
            (place / "tiles" / name / tile.name).symlink_to(tile)
    (place / "small.yaml").write_text("title: small\n")
    settings = [
        f"data.root={place / 'tiles'}",
        "data.sensor=eurosat_rgb",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
        "strategy=probe",
        "probe.views=1",
        "split.shots=8",
        "split.inner_folds=2",
        "evaluate.bootstrap_rounds=20",
        "evaluate.baselines=false",
    ]
    code = main(["run", str(place / "small.yaml"), *settings, "--output", str(place / "run"), "-q"])
    assert code == 0
    path = place / "run" / "model.safetensors"
    held = model_file.load(path)
    held.network.temperature.fill_(8.0)  # so that a winter scene, far from all, is not all 0 and 1
    model_file.save(path, held)
    return path


def mapped(model: Path, scene: Path, out: Path, *more: str) -> int:
    return main(
        [
            "map",
            str(model),
            str(scene),
            "-o",
            str(out),
            "-q",
            "--mode",
            "exact",
            "--stride-px",
            "64",
            "--precision",
            "float32",
            *more,
        ]
    )


def test_digital_numbers_are_drawn_as_eurosat_drew_them(model, real_data, tmp_path, capsys):
    """The map says of each window what the model says of the tile that the release would show."""
    havel = real_data / "sentinel2_l1c_havel"
    assert mapped(model, havel, tmp_path / "m.tif") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--sensor" in told
    more = ("--sensor", "sentinel2_l1c", "--probabilities")
    assert mapped(model, havel, tmp_path / "m.tif", *more) == 0
    held = open_map(tmp_path / "m.tif")
    got = read(tmp_path / "m_probabilities.tif").data
    assert (held.grid.height, held.grid.width) == (12, 24)
    assert held.tags["GEOTL_SCENE"] == "sentinel2_l1c_havel"
    scene = open_scene(havel, get_sensor("sentinel2_l1c"), RGB)
    dn, valid = scene.read(Window(0, 0, 768, 1536))
    drawn = np.clip(1 + 254 * dn.astype(np.float64) / 2750, 1, 255).astype(np.float32)
    tiles = drawn.reshape(3, 12, 64, 24, 64).transpose(1, 3, 0, 2, 4).reshape(-1, 3, 64, 64)
    assert valid.all()
    network = geotl.load(model).network
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(part)) for part in np.split(tiles, 8)])
    said = torch.softmax(logits / network.temperature, dim=1).numpy().T.reshape(4, 12, 24)
    assert said.std(axis=(1, 2)).max() > 20 * 1e-4
    np.testing.assert_allclose(got, said, atol=1e-4)


def test_the_offset_of_a_newer_baseline_is_asked_for(model, real_data, tmp_path, capsys):
    cell = next((real_data / "sentinel2_l2a_cells").iterdir())
    out = tmp_path / "m.tif"
    for sensor in ((), ("--sensor", "sentinel2_l2a")):
        assert mapped(model, cell, out, *sensor) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert not out.exists()
    assert "sentinel2_l2a_n0400" in told
    assert mapped(model, cell, out, "--sensor", "sentinel2_l2a_n0400", "--applicability") == 0
    inside = read(tmp_path / "m_applicability.tif").data[0]
    assert set(np.unique(inside)) <= {0, 1, 255}
    assert (inside != 255).any()
