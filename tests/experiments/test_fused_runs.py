"""Runs with model.fuse_statistics: what they keep, and every use of the model that they keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.experiments import samples_of
from helpers.runs import BANDS, SMALL, made_tiles, run
from helpers.tiles import write_tile
from safetensors.numpy import load_file

import geotl
from geotl.cli.main import main
from geotl.experiments.compare import fuses, variants
from geotl.experiments.kept_model import kept_temperature
from geotl.experiments.recipe import load as load_recipe
from geotl.experiments.results import Answers, Comparison, DrawResult, Results
from geotl.export.exporter import KINDS, export_graph
from geotl.export.graphs import example_tiles
from geotl.models.model_file import contract_from, load, read_header
from geotl.training.strategies import TileFusion

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

FUSE = "model.fuse_statistics=true"
QUIET = (
    "evaluate.baselines=false",
    "evaluate.random_weights=false",
    "evaluate.explain=false",
    "train.precision=float32",
)
PROBE = ("strategy=probe", "probe.head=discriminant", "probe.views=4", "model.unit_length=true")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def fused(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that an epoch from random weights teaches little, in four views.

    It gives inner activations too, so that every use of the model is tested with both.
    """
    out = tmp_path_factory.mktemp("fused") / "run"
    settings = ("model.backbone=resnet18", "model.truncate_after=layer1", "train.epochs=1")
    settings += ("model.inner_activations=true",)
    more = ("strategy=scratch", "probe.views=4", "model.unit_length=true", "split.shots=5")
    assert run(tiles, out, *QUIET, *settings, *more, FUSE) == 0
    assert metrics_of(out)["fusion"]["weights"]["network"] < 1  # or there is nothing to test
    return out / "model.safetensors"


def metrics_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def test_metrics_report_and_inspect_say_how_it_is_fused(
    fused: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = metrics_of(fused.parent)["fusion"]
    assert sum(found["weights"].values()) == pytest.approx(1)
    assert {*found["losses"]} == {*found["weights"]} == {*found["temperatures"]}
    assert found["tiles"] == 8  # of the fold that chose the epoch
    assert "fused: " in (fused.parent / "report.html").read_text()
    assert main(["inspect", str(fused)]) == 0
    shown = capsys.readouterr().out
    assert "pooled after layer1, with the last one's inner activations, 4 views" in shown
    assert "fused with statistics of the bands" in shown


def test_a_saved_model_gives_the_logits_that_it_was_saved_with(fused: Path) -> None:
    model = load(fused)
    assert model.contract.spec.statistics
    assert model.contract.spec.inner
    held = model.training_samples
    assert held.features.shape[1] == model.network.head.in_features
    found = geotl.load(fused).predict(example_tiles(model), precision="float32")
    np.testing.assert_allclose(found.logits, held.example_logits, atol=1e-4)


def test_predict_and_evaluate_take_it(fused: Path, tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    assert main(["predict", str(fused), str(tiles), "-o", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 37
    assert main(["evaluate", str(fused), str(tiles)]) == 0


@pytest.mark.parametrize("form", tuple(KINDS))
def test_graphs_say_what_the_model_says(form, fused: Path, tmp_path: Path) -> None:
    out = tmp_path / f"m{KINDS[form].suffix}"
    export_graph(load(fused), form, out, log=lambda _: None)
    tiles = example_tiles(load(fused))
    wanted = geotl.load(fused).predict(tiles, precision="float32").probabilities
    np.testing.assert_allclose(KINDS[form].run(out)(tiles)[0], wanted, atol=1e-5)


def test_a_map_by_the_model_is_that_of_its_onnx_file(fused: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    level = np.repeat([700, 2500], 32)[None, None]
    scene = (level + random.normal(0, 120, (4, 64, 64))).clip(1).astype(np.uint16)
    path = write_tile(tmp_path / "scene.tif", scene, names=BANDS)
    onnx, plain = tmp_path / "m.onnx", ("--stride-px", "16", "--views", "1", "-q", "--no-page")
    assert main(["export", str(fused), "--format", "onnx", "-o", str(onnx), "--views", "1"]) == 0
    said = {}
    for name, model, mode in (("a", fused, "exact"), ("b", fused, "dense"), ("c", onnx, "exact")):
        out = tmp_path / f"{name}.tif"
        assert main(["map", str(model), str(path), "-o", str(out), "--mode", mode, *plain]) == 0
        with rasterio.open(out) as written:
            said[name] = written.read(1)
    np.testing.assert_array_equal(said["a"], said["c"])
    assert (said["a"] == said["b"]).mean() > 0.8
    assert len(np.unique(said["a"])) > 1


def test_a_trained_network_is_fused_and_kept_with_all_labels(tiles: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "run", ("strategy=scratch", "split.repeats=2", "keep=all")
    assert run(tiles, out, *QUIET, *settings, FUSE) == 0
    found = metrics_of(out)["fusion"]
    assert found["weights"]["network"] < 0.5  # three epochs from random weights teach it little
    assert metrics_of(out)["overall_accuracy"]["value"] > 0.9
    model = load(out / "model.safetensors")
    assert model.contract.spec.statistics
    held = model.training_samples
    with torch.inference_mode():
        said = model.network.classify(torch.from_numpy(held.features)).argmax(dim=1).numpy()
    assert (said == held.labels).mean() > 0.9


def test_a_run_that_loses_to_band_statistics_names_the_key_and_wins_with_it(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = ("strategy=scratch", "train.epochs=1", "split.shots=5", *QUIET[1:])
    assert run(tiles, tmp_path / "alone", *weak, options=()) == 0
    told = capsys.readouterr().out
    assert "The network loses to" in told
    assert "model.fuse_statistics=auto pools the network with band statistics" in told
    page = (tmp_path / "alone" / "report.html").read_text()
    assert "<dd>Pool the network with band statistics: model.fuse_statistics=auto." in page
    assert run(tiles, tmp_path / "fused", *weak, FUSE, options=()) == 0
    told = capsys.readouterr().out
    assert "fused: statistics, discriminant" in told
    assert "The network loses to" not in told
    metrics = metrics_of(tmp_path / "fused")
    baseline = metrics["baselines"]["band mean and sd, logistic"]
    assert metrics["overall_accuracy"]["high"] >= baseline["value"]


def test_rows_are_named_for_what_they_are(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, weak = tmp_path / "run", ("strategy=scratch", "train.epochs=1", "split.shots=5")
    more = ("split.repeats=2", FUSE, *QUIET[1:])
    assert run(tiles, out, *weak, *more, options=()) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("  ")]
    rows = [line.strip().partition("  ")[0] for line in lines]
    first = ["network and band statistics", "network alone", "band mean and sd, logistic"]
    assert rows[:3] == first
    metrics, page = metrics_of(out), (out / "report.html").read_text()
    assert metrics["names"] == {"network": "network and band statistics"}
    for row in ("This network and band statistics", *first):
        assert f">{row}<" in page
    fused, alone = (metrics["draws"][name]["overall"]["mean"] for name in ("network", first[1]))
    assert fused > alone + 0.1  # an epoch from random weights teaches it little
    assert "network alone" not in metrics["baselines"]


def test_some_draws_may_be_fused_and_others_not() -> None:
    def draw(matrices: dict[str, np.ndarray]) -> DrawResult:
        empty = Answers(*(np.zeros(0),) * 4)
        return DrawResult(Comparison(matrices, {}), empty, (1, 1), 0.0)

    good, poor, base = np.diag([5, 5]), np.array([[5, 0], [5, 0]]), np.diag([4, 4])
    plain = draw({"network": good, "band statistics": base})
    fused = draw({"network": good, "network alone": poor, "band statistics": base})
    results = Results([plain, fused])
    assert results.methods() == ["network", "network alone", "band statistics"]
    assert results.counts("network alone") == [(10, 10), (5, 10)]
    assert results.title("network") == "network and band statistics in 1 of 2, else alone"
    assert results.title("network alone") == "network alone"
    assert Results([plain]).methods() == ["network", "band statistics"]
    assert Results([plain]).title("network") == "network"


@pytest.mark.parametrize(
    "settings", [PROBE, ("strategy=scratch", "split.repeats=2", "keep=all")], ids=["probe", "all"]
)
def test_auto_keeps_the_model_of_the_network_alone_where_nothing_is_gained(
    settings: tuple[str, ...], tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotl.training.tile_fusion.gains", lambda *_: False)
    for choice in ("auto", "false"):
        out = tmp_path / choice
        assert run(tiles, out, *QUIET, *settings, f"model.fuse_statistics={choice}") == 0
    auto, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("auto", "false"))
    assert auto.keys() == alone.keys()
    for name, values in alone.items():
        assert auto[name].tobytes() == values.tobytes(), name
    assert not read_header(tmp_path / "auto" / "model.safetensors")["spec"]["statistics"]
    metrics = metrics_of(tmp_path / "auto")
    assert "names" not in metrics
    assert {*metrics["draws"]} == {"network"}


def test_baselines_beside_a_fused_network_are_not_fused(tiles: Path) -> None:
    recipe = load_recipe(None, [f"data.root={tiles}", *SMALL, "model.weights=w.pth", FUSE])
    rivals = variants(recipe, samples_of(recipe))
    assert "random weights" in rivals
    assert not any(one.model.fuse_statistics for one in rivals.values())


@pytest.mark.parametrize("key", ["probe.pool=0.5", "probe.semi_supervised=soft_labels"])
def test_auto_steps_aside_where_true_is_refused(key: str) -> None:
    assert not fuses(load_recipe(None, [key, *PROBE, "model.fuse_statistics=auto"]))


def test_a_fused_model_gives_another_run_its_weights(
    fused: Path, tiles: Path, tmp_path: Path
) -> None:
    out, shape = tmp_path / "run", ("model.backbone=resnet18", "model.truncate_after=layer1")
    assert run(tiles, out, *QUIET, *PROBE, *shape, f"model.weights={fused}") == 0
    source, made = load_file(fused), load_file(out / "model.safetensors")
    shared = [key for key in source if key.startswith("backbone.") and "layer1" in key]
    assert shared
    for key in shared:
        np.testing.assert_array_equal(source[key], made[key], err_msg=key)


def test_without_the_key_a_run_writes_what_it_wrote_before(tiles: Path, tmp_path: Path) -> None:
    assert run(tiles, tmp_path / "run", *QUIET, *PROBE) == 0
    path = tmp_path / "run" / "model.safetensors"
    assert not read_header(path)["spec"]["statistics"]
    assert "fusion" not in metrics_of(tmp_path / "run")
    width = load_file(path)["head.weight"].shape[1]
    assert width == load(path).network.deep_width


def test_files_of_earlier_versions_do_not_name_statistics(tmp_path: Path, model: Path) -> None:
    header = read_header(model)
    del header["spec"]["statistics"]
    assert not contract_from(header).spec.statistics


def test_one_label_a_class_leaves_the_network_alone_and_says_so(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, *QUIET, *PROBE, "split.shots=1", FUSE, options=()) == 0
    assert "no training tile is held out" in capsys.readouterr().out
    assert not load(out / "model.safetensors").contract.spec.statistics


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("probe.semi_supervised=soft_labels", *PROBE), "probe.semi_supervised=none"),
        (("train.choice_folds=0", "strategy=full"), "train.choice_folds=1"),
        (("task=pixels",), "task=tiles"),
    ],
)
def test_keys_that_do_not_go_with_it(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], keys, words: str
) -> None:
    assert run(tiles, tmp_path / "run", *keys, FUSE) == 2
    told = capsys.readouterr().err
    assert "model.fuse_statistics: given true with" in told
    assert words in told


def test_the_temperature_of_a_kept_network_is_that_of_calibrated_splits() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(3, size=300)
    logits = 2.0 * np.eye(3)[truth] + random.normal(size=(300, 3))
    scale = np.repeat([1.0, 5.0], 150)  # two splits whose heads are of different scales
    told = Answers(np.arange(300), truth, logits * scale[:, None], scale)
    fusion = TileFusion({"network": 0.5}, {"network": 2.0}, 1.5, {"network": 1.0}, 1.0, 300)
    plain = Answers(np.arange(300), truth, logits, np.ones(300))
    assert kept_temperature(told, fusion) == pytest.approx(1.5 * kept_temperature(plain, None))
