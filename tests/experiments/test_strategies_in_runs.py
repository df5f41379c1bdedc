"""How runs use the regularisers: folds that choose, adapted statistics, weights by name, notes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.experiments import quietly, samples_of
from helpers.runs import BANDS, SMALL, made_tiles, run
from helpers.tiles import write_tile
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.console import ProgressLine, silent
from geotl.experiments import build, compare, experiment, samples
from geotl.experiments.build import caching_note
from geotl.experiments.draws import make_draw
from geotl.experiments.recipe import load
from geotl.training import strategies
from geotl.training.learner import History, Tiles

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

QUIET = ("evaluate.baselines=false", "evaluate.random_weights=false")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def source_model(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet of live batch normalisation, trained for an epoch."""
    out = tmp_path_factory.mktemp("source") / "run"
    settings = (
        "strategy=scratch",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
        "train.epochs=1",
        *QUIET,
    )
    assert run(tiles, out, *settings) == 0
    return out / "model.safetensors"


def recipe_of(tiles: Path, tmp_path: Path, *more: str):
    path = tmp_path / "small.yaml"
    path.write_text("title: small\n")
    return load(path, [f"data.root={tiles}", *SMALL, *more])


@pytest.mark.parametrize(("folds", "wanted"), [(1, 6), (2, 2), (3, 5)])
def test_the_median_of_the_folds_chooses_the_epochs_and_all_their_logits_the_temperature(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: int, wanted: int
) -> None:
    recipe = recipe_of(
        tiles, tmp_path, "strategy=scratch", f"train.choice_folds={folds}", "split.inner_folds=3"
    )
    opened = quietly(recipe, samples_of(recipe))
    source, draw = opened.samples, opened.draw(0)
    network, report = build.build_network(opened, draw)
    best, asked, pooled = iter([6, 2, 5, 0]), [], []

    def trained(base, train, held_out, plan, *, folder, features, stop_after=None):
        asked.append((folder.name, stop_after))
        return network, History([], next(best))

    def temperature(logits, truth) -> float:
        pooled.append((logits.shape, truth))
        return 1.5

    monkeypatch.setattr(strategies, "_trained", trained)
    monkeypatch.setattr(strategies, "fit_temperature", temperature)
    plan = build.make_plan(opened, report, draw)
    rows = draw.split.train
    fitted = strategies.fit_strategy(
        network,
        Tiles(source.pack, rows, source.labels[rows]),
        draw.folds,
        plan,
        folder=tmp_path / "x",
        features=build.feature_source(opened),
    )
    assert fitted.history is not None
    assert fitted.history.best_epoch == wanted
    assert [name for name, _ in asked] == [*["fold", "fold_1", "fold_2"][:folds], "final"]
    assert asked[-1] == ("final", wanted + 1)
    held = np.concatenate([out for _, out in draw.folds[:folds]])
    assert pooled[0][0] == (len(held), 3)
    np.testing.assert_array_equal(pooled[0][1], source.labels[rows][held])
    assert float(fitted.network.temperature) == 1.5


def test_fine_tuning_sets_out_from_the_probes_calibrated_logits(
    tmp_path: Path, source_model: Path
) -> None:
    random, tiles = np.random.default_rng(3), tmp_path / "alike"
    for name in ("field", "town", "water"):  # classes that nothing tells apart: much doubt
        for i in range(12):
            tile = random.normal(1000, 200, (4, 32, 32)).clip(1).astype(np.uint16)
            write_tile(tiles / name / f"{i:02d}.tif", tile, names=BANDS)
    logits, heat = {}, 1.0
    for strategy in ("probe", "probe_then_finetune"):
        recipe = recipe_of(
            tiles,
            tmp_path,
            f"strategy={strategy}",
            f"model.weights={source_model}",
            "model.backbone=resnet18",
            "model.truncate_after=layer1",
            "probe.head=discriminant",
            "train.lr=1e-12",
            "train.epochs=1",
            "train.choice_folds=0",
            "train.weight_decay=0",
            "model.freeze_until=layer1",
        )
        opened = quietly(recipe, samples_of(recipe), tmp_path / strategy)
        made = compare.fit_draw(opened, opened.draw(0))
        logits[strategy] = compare.logits_of_test(opened, made)
        heat = float(made.fitted.chosen.temperature) if made.fitted.chosen else heat
    assert heat > 1.2
    np.testing.assert_allclose(
        logits["probe_then_finetune"], logits["probe"] / heat, rtol=0.02, atol=0.02
    )


def test_a_run_with_everything_on_leaves_a_model(
    tiles: Path, tmp_path: Path, source_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = (
        "strategy=probe_then_finetune",
        f"model.weights={source_model}",
        "model.freeze_until=stem",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
        "model.adabn=train",
        "model.dropout=0.2",
        "train.schedule=cosine",
        "train.unfreeze_every=1",
        "train.l2=1e-4",
        "train.label_smoothing=0.1",
        "train.balanced_sampling=true",
        "train.class_weights={field: 1, town: 2, water: 0.5}",
        "train.swa_from=0.5",
        "train.choice_folds=2",
        "augment.mixup=0.2",
        "augment.cutmix=1",
        "augment.blur=1",
        "augment.brightness=0.2",
        "augment.contrast=0.2",
        "augment.band_dropout=0.2",
        "augment.erase=0.3",
        "augment.rotate_deg=10",
        *QUIET,
    )
    assert run(tiles, out, *settings) == 0
    assert capsys.readouterr().err == ""
    held = load_file(out / "model.safetensors")
    assert all(np.isfinite(v).all() for n, v in held.items() if "nodata" not in n)
    assert json.loads((out / "metrics.json").read_text())["tiles"] == 24


@pytest.mark.parametrize("kind", ["training", "transductive"])
def test_adabn_measures_what_it_says_and_changes_no_weight(
    tiles: Path, tmp_path: Path, source_model: Path, kind: str
) -> None:
    """The stem's first statistics are those of the tiles' first convolution."""
    recipe = recipe_of(
        tiles,
        tmp_path,
        f"model.weights={source_model}",
        f"model.adabn={kind}",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
    )
    opened = quietly(recipe, samples_of(recipe))
    source, draw = opened.samples, opened.draw(0)
    network, report = build.build_network(opened, draw)
    rows = np.arange(36) if kind == "transductive" else draw.split.train
    stem = network.backbone.stages["stem"]
    image = torch.from_numpy(np.asarray(source.pack.images[rows]).astype(np.float32))
    with torch.no_grad():
        raw = stem[0](network.normalise(image))
    torch.testing.assert_close(stem[1].running_mean, raw.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    held = load_file(source_model)
    for name, tensor in network.backbone.named_parameters():
        assert np.array_equal(tensor.detach().numpy(), held[f"backbone.{name}"]), name
    assert ("transductive" in report.notes[-1]) == (kind == "transductive")


@pytest.mark.real_data
def test_adabn_on_folded_weights_is_one_line(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = real_data / "weights" / "resnet18-imagenet1k_v1-conv1_to_layer3.pth"
    code = main(
        [
            "run",
            "eurosat_rgb",
            f"data.root={real_data / 'eurosat_rgb'}",
            f"model.weights={weights}",
            "model.adabn=train",
            "--output",
            str(tmp_path / "run"),
            "-q",
        ]
    )
    assert code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "model.adabn: batch normalisation is folded into its weights" in told
    assert "model.adabn=none" in told


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.class_weights={feild: 1}", "did you mean 'field'"),
        ("train.class_weights={field: 1, town: 2}", "no number for water"),
        ("train.class_weights.town=0", "train.class_weights: given"),
        ("model.adabn=train", "model.weights none"),
        ("augment.erase_area=[0.5,0.1]", "smaller share first"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, told: str
) -> None:
    assert run(tiles, tmp_path / "run", "strategy=scratch", setting) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_class_weights_move_the_probe_towards_the_heavy_class(tiles: Path, tmp_path: Path) -> None:
    shares = {}
    for name, weights in (("even", "none"), ("town", "{field: 0.01, town: 100, water: 0.01}")):
        out = tmp_path / name / "run"
        out.parent.mkdir()
        head = ("strategy=probe", "probe.head=logistic", "probe.penalties=[0.001]")
        run(tiles, out, f"train.class_weights={weights}", *head, *QUIET)
        with (out / "predictions.csv").open(newline="") as stream:
            shares[name] = np.mean([row["predicted"] == "town" for row in csv.DictReader(stream)])
    assert shares["town"] > shares["even"]


def test_a_note_says_why_nothing_is_cached(tiles: Path, tmp_path: Path) -> None:
    for more, told in (
        (("augment.mixup=0.2", "augment.blur=1"), "new pixels of augment.blur, augment.mixup"),
        (("augment.mixup=0.2", "augment.mixup_of=features"), None),
        ((), None),
    ):
        note = caching_note(recipe_of(tiles, tmp_path, "strategy=finetune", *more))
        assert note is None if told is None else told in str(note)


def test_reading_and_features_tell_how_far_they_are(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, now = io.StringIO(), iter(range(0, 10_000, 11))
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    for module in (samples, experiment):
        monkeypatch.setattr(
            module,
            "ProgressLine",
            lambda quiet: ProgressLine(quiet=quiet, stream=stream, clock=lambda: float(next(now))),
        )
    recipe = recipe_of(tiles, tmp_path)
    read = samples.read_samples(recipe, samples.recipe_sensor(recipe), silent)
    loud = experiment.Experiment(recipe, read, tmp_path)
    draw = loud.draw(0)
    network, _ = build.build_network(loud, draw)
    build.feature_source(loud)(network, draw.split.train)
    text = stream.getvalue()
    assert re.search(r"reading tiles  36/36  .*0\.0 s left", text)
    assert "computing features  12/12" in text
    before = len(text)
    build.feature_source(quietly(recipe, read))(network, draw.split.test)
    assert len(stream.getvalue()) == before


@pytest.mark.rendered
def test_the_preview_is_a_sheet_and_repeats_to_the_byte(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    sheets = []
    for name in ("a.png", "b.png"):
        settings = [
            f"data.root={tiles}",
            *SMALL,
            "augment.rotate_deg=30",
            "augment.mixup=0.4",
            "augment.band_dropout=0.4",
        ]
        assert main(["augment", str(recipe), "--output", str(tmp_path / name), *settings]) == 0
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0].startswith(b"\x89PNG")
    assert sheets[0] == sheets[1]
    assert "8 draws of seed 0" in capsys.readouterr().out
    wrong = ["augment", str(recipe), "--output", str(tmp_path / "c.png"), "--tile", "99"]
    assert main([*wrong, f"data.root={tiles}", *SMALL]) == 2
    assert "--tile: given 99; allowed: 0 to 11" in capsys.readouterr().err


@pytest.mark.rendered
def test_the_preview_marks_what_is_not_there(tiles: Path, tmp_path: Path) -> None:
    from geotl.experiments.augmentation_preview import STRIPES, drawn_tiles
    from geotl.training.settings import Augmentation

    recipe = recipe_of(tiles, tmp_path)
    source = samples_of(recipe)
    draw = make_draw(recipe, source, 0)
    kind = Augmentation(erase=1.0, erase_area=(0.25, 0.25))
    shown, captions = drawn_tiles(source, draw, kind, tile=0, seed=0)
    assert captions[:2] == ["original", "draw 1"]
    striped = [np.isin(tile, STRIPES).all(axis=2).mean() for tile in shown]
    assert striped[0] < 0.02
    assert all(0.2 < share < 0.32 for share in striped[1:])
    erased = Augmentation(kornia=[{"RandomErasing": {"scale": [0.25, 0.25], "p": 1.0}}])
    shown_too, _ = drawn_tiles(source, draw, erased, tile=0, seed=0)
    striped = [np.isin(tile, STRIPES).all(axis=2).mean() for tile in shown_too]
    assert striped[0] < 0.02
    assert all(0.15 < share < 0.35 for share in striped[1:])
    _, captions = drawn_tiles(source, draw, Augmentation(band_dropout=0.9), tile=0, seed=0)
    assert all("without B0" in caption for caption in captions[1:])
    assert len({tile.tobytes() for tile in shown}) == 9
