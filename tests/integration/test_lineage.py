"""Models made from models: the chain of files behind them, pinned and passed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torchvision
from helpers.hub_cache import make_file, own_hub
from helpers.tiles import write_tile
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.io.files import sha256_of
from geotl.models.model_file import read_header

IMAGENET_FILE = "ResNet18_Weights.IMAGENET1K_V1"
BANDS = ["B02", "B03", "B04", "B08"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiles of two regions (the second of baseline 04.00) and a made hub cache."""
    root = tmp_path_factory.mktemp("lineage")
    random = np.random.default_rng(2)
    for region, plus in (("a", 0), ("b", 1000)):
        for k, name in enumerate(["crop", "wood"]):
            for i in range(6):
                data = random.normal(900 + 800 * k + plus, 100, (4, 32, 32)).astype(np.uint16)
                write_tile(root / region / name / f"{i}.tif", data, names=BANDS)
    (root / "r.yaml").write_text("data: {sensor: sentinel2_l2a}\nsplit: {shots: 3, folds: 2}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(root / "cache"))
        (root / "hub").mkdir()
        entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
        path = own_hub(root / "hub", patch) / Path(entry.url).name
        make_file(path, ["red", "green", "blue"])
        yield root, path


def run(root: Path, out: str, region: str, weights: object, *more: str) -> int:
    settings = [
        f"data.root={root / region}",
        "data.bands=B02,B03,B04,B08",
        "model.truncate_after=layer1",
        f"model.weights={weights}",
        "train.epochs=1",
        "evaluate.bootstrap_rounds=20",
        "evaluate.baselines=false",
        "evaluate.random_weights=false",
    ]
    return main(["run", str(root / "r.yaml"), *settings, *more, "-q", "--output", str(root / out)])


@pytest.mark.usefixtures("unrendered")
def test_three_generations_name_every_file_behind_them(place, capsys):
    root, imagenet = place
    one, two, three = (root / name / "model.safetensors" for name in ("one", "two", "three"))

    def pinned(path: Path) -> str:
        return f"model.sha256={sha256_of(path)}"

    assert run(root, "one", "a", IMAGENET_FILE, pinned(imagenet), "strategy=finetune") == 0
    assert run(root, "two", "a", one, pinned(one), "strategy=finetune") == 0
    later = ("data.sensor=sentinel2_l2a_n0400", "model.normalise=weights")
    assert run(root, "three", "b", two, pinned(two), *later) == 0

    files = [
        (IMAGENET_FILE, sha256_of(imagenet)),
        (str(one), sha256_of(one)),
        (str(two), sha256_of(two)),
    ]
    for generation, model in enumerate((one, two, three), start=1):
        weights = read_header(model)["weights"]
        chain = [(file["source"], file["sha256"]) for file in weights["chain"]]
        assert chain == files[:generation]
        assert (weights["source"], weights["sha256"]) == files[generation - 1]
        assert all("chain" not in file for file in weights["chain"])
        capsys.readouterr()
        assert main(["inspect", str(model)]) == 0
        shown = capsys.readouterr().out
        places = [shown.index(f"{source} (sha256 {digest})") for source, digest in chain]
        assert places == sorted(places)
        assert shown.count("\n         then ") == generation - 1

    # the third's inputs are standardised by the second's figures, moved by the new offset
    second, third = load_file(two), load_file(three)
    np.testing.assert_allclose(third["normalise.mean"], second["normalise.mean"] + 1000, rtol=1e-5)
    np.testing.assert_allclose(third["normalise.sd"], second["normalise.sd"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["name", "model", "file"])
def test_a_pinned_digest_is_checked_whatever_the_weights_are(place, capsys, kind):
    root, imagenet = place
    weights: object = {"name": IMAGENET_FILE, "file": imagenet}.get(kind)
    if kind == "model":
        assert run(root, "source", "a", "none", "strategy=scratch") == 0
        weights = root / "source" / "model.safetensors"
        assert read_header(weights)["weights"]["chain"] == []
    capsys.readouterr()
    out = f"pinned_{kind}"
    assert run(root, out, "a", weights, f"model.sha256={'ab' * 32}") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    held = sha256_of(weights if isinstance(weights, Path) and kind == "model" else imagenet)
    assert held in message
    assert "model.sha256" in message
    assert not (root / out / "model.safetensors").exists()


def test_imagenets_figures_are_refused_for_reflectance_in_one_line(place, capsys):
    root, _ = place
    assert run(root, "refused", "a", IMAGENET_FILE, "model.normalise=weights") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "model.normalise: given weights, which were trained on shares of the full" in message
    assert "with reflectance (sensor sentinel2_l2a)" in message
    assert "allowed: training" in message
